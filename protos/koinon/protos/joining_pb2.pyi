from koinon.protos import federation_pb2 as _federation_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DescribeRequest(_message.Message):
    __slots__ = ("invitation", "partner", "federation", "time_ms", "signature")
    INVITATION_FIELD_NUMBER: _ClassVar[int]
    PARTNER_FIELD_NUMBER: _ClassVar[int]
    FEDERATION_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    invitation: str
    partner: str
    federation: str
    time_ms: int
    signature: bytes
    def __init__(self, invitation: _Optional[str] = ..., partner: _Optional[str] = ..., federation: _Optional[str] = ..., time_ms: _Optional[int] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Offer(_message.Message):
    __slots__ = ("policy", "policy_sha256", "encoder_sha256", "koinon_version", "flower_version", "code_sha256", "app_sha256", "fleet_address", "server_time_ms", "ledger_key", "partner", "code", "message")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    POLICY_SHA256_FIELD_NUMBER: _ClassVar[int]
    ENCODER_SHA256_FIELD_NUMBER: _ClassVar[int]
    KOINON_VERSION_FIELD_NUMBER: _ClassVar[int]
    FLOWER_VERSION_FIELD_NUMBER: _ClassVar[int]
    CODE_SHA256_FIELD_NUMBER: _ClassVar[int]
    APP_SHA256_FIELD_NUMBER: _ClassVar[int]
    FLEET_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    LEDGER_KEY_FIELD_NUMBER: _ClassVar[int]
    PARTNER_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    policy: _federation_pb2.Policy
    policy_sha256: str
    encoder_sha256: str
    koinon_version: str
    flower_version: str
    code_sha256: str
    app_sha256: str
    fleet_address: str
    server_time_ms: int
    ledger_key: str
    partner: str
    code: str
    message: str
    def __init__(self, policy: _Optional[_Union[_federation_pb2.Policy, _Mapping]] = ..., policy_sha256: _Optional[str] = ..., encoder_sha256: _Optional[str] = ..., koinon_version: _Optional[str] = ..., flower_version: _Optional[str] = ..., code_sha256: _Optional[str] = ..., app_sha256: _Optional[str] = ..., fleet_address: _Optional[str] = ..., server_time_ms: _Optional[int] = ..., ledger_key: _Optional[str] = ..., partner: _Optional[str] = ..., code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Application(_message.Message):
    __slots__ = ("invitation", "partner", "node_key", "member_key", "policy_sha256", "code_sha256", "koinon_version", "signature", "federation", "time_ms")
    INVITATION_FIELD_NUMBER: _ClassVar[int]
    PARTNER_FIELD_NUMBER: _ClassVar[int]
    NODE_KEY_FIELD_NUMBER: _ClassVar[int]
    MEMBER_KEY_FIELD_NUMBER: _ClassVar[int]
    POLICY_SHA256_FIELD_NUMBER: _ClassVar[int]
    CODE_SHA256_FIELD_NUMBER: _ClassVar[int]
    KOINON_VERSION_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    FEDERATION_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    invitation: str
    partner: str
    node_key: bytes
    member_key: bytes
    policy_sha256: str
    code_sha256: str
    koinon_version: str
    signature: bytes
    federation: str
    time_ms: int
    def __init__(self, invitation: _Optional[str] = ..., partner: _Optional[str] = ..., node_key: _Optional[bytes] = ..., member_key: _Optional[bytes] = ..., policy_sha256: _Optional[str] = ..., code_sha256: _Optional[str] = ..., koinon_version: _Optional[str] = ..., signature: _Optional[bytes] = ..., federation: _Optional[str] = ..., time_ms: _Optional[int] = ...) -> None: ...

class StandingRequest(_message.Message):
    __slots__ = ("partner", "time_ms", "signature", "federation", "policy_sha256")
    PARTNER_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    FEDERATION_FIELD_NUMBER: _ClassVar[int]
    POLICY_SHA256_FIELD_NUMBER: _ClassVar[int]
    partner: str
    time_ms: int
    signature: bytes
    federation: str
    policy_sha256: str
    def __init__(self, partner: _Optional[str] = ..., time_ms: _Optional[int] = ..., signature: _Optional[bytes] = ..., federation: _Optional[str] = ..., policy_sha256: _Optional[str] = ...) -> None: ...

class LeaveRequest(_message.Message):
    __slots__ = ("partner", "time_ms", "forget", "signature", "federation")
    PARTNER_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    FORGET_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    FEDERATION_FIELD_NUMBER: _ClassVar[int]
    partner: str
    time_ms: int
    forget: bool
    signature: bytes
    federation: str
    def __init__(self, partner: _Optional[str] = ..., time_ms: _Optional[int] = ..., forget: _Optional[bool] = ..., signature: _Optional[bytes] = ..., federation: _Optional[str] = ...) -> None: ...

class RotateRequest(_message.Message):
    __slots__ = ("partner", "time_ms", "node_key", "signature", "federation")
    PARTNER_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    NODE_KEY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    FEDERATION_FIELD_NUMBER: _ClassVar[int]
    partner: str
    time_ms: int
    node_key: bytes
    signature: bytes
    federation: str
    def __init__(self, partner: _Optional[str] = ..., time_ms: _Optional[int] = ..., node_key: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., federation: _Optional[str] = ...) -> None: ...

class Standing(_message.Message):
    __slots__ = ("state", "code", "message", "policy_sha256")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Standing.State]
        APPLIED: _ClassVar[Standing.State]
        APPROVED: _ClassVar[Standing.State]
        REJECTED: _ClassVar[Standing.State]
        SUSPENDED: _ClassVar[Standing.State]
        REMOVED: _ClassVar[Standing.State]
        LEFT: _ClassVar[Standing.State]
    STATE_UNSPECIFIED: Standing.State
    APPLIED: Standing.State
    APPROVED: Standing.State
    REJECTED: Standing.State
    SUSPENDED: Standing.State
    REMOVED: Standing.State
    LEFT: Standing.State
    STATE_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    POLICY_SHA256_FIELD_NUMBER: _ClassVar[int]
    state: Standing.State
    code: str
    message: str
    policy_sha256: str
    def __init__(self, state: _Optional[_Union[Standing.State, str]] = ..., code: _Optional[str] = ..., message: _Optional[str] = ..., policy_sha256: _Optional[str] = ...) -> None: ...
