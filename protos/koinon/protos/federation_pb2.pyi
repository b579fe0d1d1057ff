from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Aggregation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AGGREGATION_UNSPECIFIED: _ClassVar[Aggregation]
    SUM: _ClassVar[Aggregation]
    MEAN: _ClassVar[Aggregation]
AGGREGATION_UNSPECIFIED: Aggregation
SUM: Aggregation
MEAN: Aggregation

class TensorSpec(_message.Message):
    __slots__ = ("name", "shape", "dtype", "aggregation", "clip")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    AGGREGATION_FIELD_NUMBER: _ClassVar[int]
    CLIP_FIELD_NUMBER: _ClassVar[int]
    name: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    dtype: str
    aggregation: Aggregation
    clip: float
    def __init__(self, name: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., dtype: _Optional[str] = ..., aggregation: _Optional[_Union[Aggregation, str]] = ..., clip: _Optional[float] = ...) -> None: ...

class Setting(_message.Message):
    __slots__ = ("real", "whole", "text", "flag")
    REAL_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FLAG_FIELD_NUMBER: _ClassVar[int]
    real: float
    whole: int
    text: str
    flag: bool
    def __init__(self, real: _Optional[float] = ..., whole: _Optional[int] = ..., text: _Optional[str] = ..., flag: _Optional[bool] = ...) -> None: ...

class Task(_message.Message):
    __slots__ = ("round", "specs", "settings", "seed")
    class SettingsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Setting
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Setting, _Mapping]] = ...) -> None: ...
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SPECS_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    round: int
    specs: _containers.RepeatedCompositeFieldContainer[TensorSpec]
    settings: _containers.MessageMap[str, Setting]
    seed: int
    def __init__(self, round: _Optional[int] = ..., specs: _Optional[_Iterable[_Union[TensorSpec, _Mapping]]] = ..., settings: _Optional[_Mapping[str, Setting]] = ..., seed: _Optional[int] = ...) -> None: ...

class Learner(_message.Message):
    __slots__ = ("name", "settings")
    class SettingsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Setting
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Setting, _Mapping]] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    name: str
    settings: _containers.MessageMap[str, Setting]
    def __init__(self, name: _Optional[str] = ..., settings: _Optional[_Mapping[str, Setting]] = ...) -> None: ...

class Policy(_message.Message):
    __slots__ = ("federation", "encoder", "split_json", "learners", "metrics", "keyed_catalogues", "minimum_participants", "seed", "aggregation", "encoder_sha256", "epsilon", "delta", "anonymous", "privacy_json")
    FEDERATION_FIELD_NUMBER: _ClassVar[int]
    ENCODER_FIELD_NUMBER: _ClassVar[int]
    SPLIT_JSON_FIELD_NUMBER: _ClassVar[int]
    LEARNERS_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    KEYED_CATALOGUES_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_PARTICIPANTS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    AGGREGATION_FIELD_NUMBER: _ClassVar[int]
    ENCODER_SHA256_FIELD_NUMBER: _ClassVar[int]
    EPSILON_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    ANONYMOUS_FIELD_NUMBER: _ClassVar[int]
    PRIVACY_JSON_FIELD_NUMBER: _ClassVar[int]
    federation: str
    encoder: str
    split_json: str
    learners: _containers.RepeatedCompositeFieldContainer[Learner]
    metrics: _containers.RepeatedScalarFieldContainer[str]
    keyed_catalogues: bool
    minimum_participants: int
    seed: int
    aggregation: str
    encoder_sha256: str
    epsilon: float
    delta: float
    anonymous: bool
    privacy_json: str
    def __init__(self, federation: _Optional[str] = ..., encoder: _Optional[str] = ..., split_json: _Optional[str] = ..., learners: _Optional[_Iterable[_Union[Learner, _Mapping]]] = ..., metrics: _Optional[_Iterable[str]] = ..., keyed_catalogues: _Optional[bool] = ..., minimum_participants: _Optional[int] = ..., seed: _Optional[int] = ..., aggregation: _Optional[str] = ..., encoder_sha256: _Optional[str] = ..., epsilon: _Optional[float] = ..., delta: _Optional[float] = ..., anonymous: _Optional[bool] = ..., privacy_json: _Optional[str] = ...) -> None: ...

class ReleaseManifest(_message.Message):
    __slots__ = ("number", "learner", "info", "tensors", "participants", "policy_sha256", "koinon_version", "statement", "signature")
    class InfoEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Setting
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Setting, _Mapping]] = ...) -> None: ...
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    LEARNER_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    PARTICIPANTS_FIELD_NUMBER: _ClassVar[int]
    POLICY_SHA256_FIELD_NUMBER: _ClassVar[int]
    KOINON_VERSION_FIELD_NUMBER: _ClassVar[int]
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    number: int
    learner: str
    info: _containers.MessageMap[str, Setting]
    tensors: _containers.RepeatedCompositeFieldContainer[ReleasedTensor]
    participants: _containers.RepeatedScalarFieldContainer[str]
    policy_sha256: str
    koinon_version: str
    statement: bytes
    signature: bytes
    def __init__(self, number: _Optional[int] = ..., learner: _Optional[str] = ..., info: _Optional[_Mapping[str, Setting]] = ..., tensors: _Optional[_Iterable[_Union[ReleasedTensor, _Mapping]]] = ..., participants: _Optional[_Iterable[str]] = ..., policy_sha256: _Optional[str] = ..., koinon_version: _Optional[str] = ..., statement: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class ReleasedTensor(_message.Message):
    __slots__ = ("name", "shape", "dtype", "sha256")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    name: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    dtype: str
    sha256: str
    def __init__(self, name: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., dtype: _Optional[str] = ..., sha256: _Optional[str] = ...) -> None: ...

class Instruction(_message.Message):
    __slots__ = ("run", "policy", "releases", "task", "secure", "next")
    RUN_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    RELEASES_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    SECURE_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    run: str
    policy: Policy
    releases: _containers.RepeatedCompositeFieldContainer[ReleaseManifest]
    task: Task
    secure: SecureStep
    next: SecureStep
    def __init__(self, run: _Optional[str] = ..., policy: _Optional[_Union[Policy, _Mapping]] = ..., releases: _Optional[_Iterable[_Union[ReleaseManifest, _Mapping]]] = ..., task: _Optional[_Union[Task, _Mapping]] = ..., secure: _Optional[_Union[SecureStep, _Mapping]] = ..., next: _Optional[_Union[SecureStep, _Mapping]] = ...) -> None: ...

class SecureStep(_message.Message):
    __slots__ = ("learner", "round", "attempt", "parties", "said")
    LEARNER_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    PARTIES_FIELD_NUMBER: _ClassVar[int]
    SAID_FIELD_NUMBER: _ClassVar[int]
    learner: str
    round: int
    attempt: int
    parties: int
    said: bytes
    def __init__(self, learner: _Optional[str] = ..., round: _Optional[int] = ..., attempt: _Optional[int] = ..., parties: _Optional[int] = ..., said: _Optional[bytes] = ...) -> None: ...

class Catalogue(_message.Message):
    __slots__ = ("keys", "public", "texts", "languages")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    LANGUAGES_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedScalarFieldContainer[str]
    public: bool
    texts: _containers.RepeatedScalarFieldContainer[str]
    languages: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, keys: _Optional[_Iterable[str]] = ..., public: _Optional[bool] = ..., texts: _Optional[_Iterable[str]] = ..., languages: _Optional[_Iterable[str]] = ...) -> None: ...

class Reply(_message.Message):
    __slots__ = ("partner", "round", "code", "users", "metrics", "catalogue", "secure", "next")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    PARTNER_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    CATALOGUE_FIELD_NUMBER: _ClassVar[int]
    SECURE_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    partner: str
    round: int
    code: str
    users: int
    metrics: _containers.ScalarMap[str, float]
    catalogue: Catalogue
    secure: bytes
    next: bytes
    def __init__(self, partner: _Optional[str] = ..., round: _Optional[int] = ..., code: _Optional[str] = ..., users: _Optional[int] = ..., metrics: _Optional[_Mapping[str, float]] = ..., catalogue: _Optional[_Union[Catalogue, _Mapping]] = ..., secure: _Optional[bytes] = ..., next: _Optional[bytes] = ...) -> None: ...
