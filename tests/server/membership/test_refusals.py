"""Ways in that must fail: what the other side is told, what goes on record, and that the service goes on."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from koinon.privacy.ledger import verify
from koinon.protos import joining_pb2 as joining
from koinon.protos.invitation import new_secret
from koinon.server.membership.limits import Limits
from koinon.server.membership.registry import Registry

Case = Callable[[Any], Any]
"""Does one wrong thing at a served federation and returns the answer."""

MINUTE = 60_000


def _ssh(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))


def _apply(**changes: Any) -> Case:
    """An application that is right but for what is said."""
    return lambda served: served.reached.stub.Apply(served.company().application(served.invited(), **changes))


def expired(served: Any) -> Any:
    secret = served.invited(days=-0.001)
    return served.reached.stub.Describe(joining.DescribeRequest(invitation=secret))


def expired_application(served: Any) -> Any:
    return served.reached.stub.Apply(served.company().application(served.invited(days=-0.001)))


def reused(served: Any) -> Any:
    secret = served.invited()
    assert served.reached.stub.Apply(served.company().application(secret)).code == ""
    return served.reached.stub.Apply(served.company().application(secret))


def forged(served: Any) -> Any:
    served.invited()
    return served.reached.stub.Apply(served.company().application(new_secret()))


def revoked(served: Any) -> Any:
    secret = served.invited()
    served.registry.revoke("alpha")
    return served.reached.stub.Apply(served.company().application(secret))


def replaced(served: Any) -> Any:
    secret = served.invited()
    served.invited()
    return served.reached.stub.Apply(served.company().application(secret))


def another_name(served: Any) -> Any:
    return served.reached.stub.Apply(served.company("beta").application(served.invited("alpha")))


def signed_by_another(served: Any) -> Any:
    company = served.company()
    application = company.application(served.invited())
    application.member_key = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    return served.reached.stub.Apply(application)


def altered_after_signing(served: Any) -> Any:
    company = served.company()
    application = company.application(served.invited())
    application.node_key = _ssh(ec.generate_private_key(ec.SECP384R1()))
    return served.reached.stub.Apply(application)


def for_another_federation(served: Any) -> Any:
    company = served.member()
    return served.reached.stub.Ask(company.ask(federation="A" * 43 + "="))


def replayed(served: Any) -> Any:
    company = served.member()
    request = company.ask()
    assert served.reached.stub.Ask(request).code == ""
    return served.reached.stub.Ask(request)


def older_than_the_last(served: Any) -> Any:
    company = served.member()
    earlier = company.ask()
    assert served.reached.stub.Ask(company.ask()).code == ""
    return served.reached.stub.Ask(earlier)


def an_ask_shown_as_a_leave(served: Any) -> Any:
    company = served.member()
    ask = company.ask()
    leave = joining.LeaveRequest(partner=ask.partner, time_ms=ask.time_ms, federation=ask.federation)
    leave.signature = ask.signature
    return served.reached.stub.Leave(leave)


def behind(served: Any) -> Any:
    company = served.member()
    return served.reached.stub.Ask(company.ask(time_ms=int(time.time() * 1000) - 6 * MINUTE))


def ahead(served: Any) -> Any:
    company = served.member()
    return served.reached.stub.Ask(company.ask(time_ms=int(time.time() * 1000) + 6 * MINUTE))


def unknown(served: Any) -> Any:
    return served.reached.stub.Ask(served.company("nobody").ask())


def suspended_rotates(served: Any) -> Any:
    company = served.member()
    served.registry.suspend("alpha")
    return served.reached.stub.RotateKey(company.rotate())


def removed_leaves(served: Any) -> Any:
    company = served.member()
    served.registry.remove("alpha")
    return served.reached.stub.Leave(company.leave())


def removed_describes(served: Any) -> Any:
    company = served.member()
    served.registry.remove("alpha")
    return served.reached.stub.Describe(company.describe())


def rejected_rotates(served: Any) -> Any:
    company = served.member(approved=False)
    served.registry.reject("alpha")
    return served.reached.stub.RotateKey(company.rotate())


def anothers_node_key(served: Any) -> Any:
    other = served.member("beta")
    return served.reached.stub.Apply(served.company().application(served.invited(), node_key=other.node_key()))


def its_own_former_node_key(served: Any) -> Any:
    company = served.member()
    former = company.node_key()
    assert served.reached.stub.RotateKey(company.rotate()).code == ""
    return served.reached.stub.RotateKey(company.rotate(node_key=former))


def accepts_another_policy(served: Any) -> Any:
    company = served.member()
    return served.reached.stub.Ask(company.ask(policy_sha256="0" * 64))


def malformed(served: Any) -> Any:
    return joining.Standing.FromString(served.reached.raw("Apply", b"\xff\xff\xff\xff"))


def malformed_text(served: Any) -> Any:
    return joining.Standing.FromString(served.reached.raw("Ask", b"\x0a\x02\xc3\x28"))


def oversized(served: Any) -> Any:
    return served.reached.stub.Apply(served.company().application(served.invited(), node_key=b"x" * 20_000))


REFUSALS: dict[str, tuple[Case, str, tuple[str, str]]] = {
    # name: what is done, the code, and under which action and subject it goes on record
    "invitation expired": (expired, "K746", ("describe", "unknown")),
    "invitation expired, applied": (expired_application, "K746", ("apply", "alpha")),
    "invitation reused": (reused, "K747", ("apply", "alpha")),
    "invitation forged": (forged, "K745", ("apply", "alpha")),
    "invitation empty": (lambda s: s.reached.stub.Apply(s.company().application("")), "K745", ("apply", "alpha")),
    "invitation revoked": (revoked, "K748", ("apply", "alpha")),
    "invitation replaced by a newer one": (replaced, "K748", ("apply", "alpha")),
    "another name than invited": (another_name, "K749", ("apply", "beta")),
    "node key of another curve": (
        _apply(node_key=_ssh(ec.generate_private_key(ec.SECP256R1()))),
        "K750",
        ("apply", "alpha"),
    ),
    "node key of another kind": (
        _apply(node_key=_ssh(rsa.generate_private_key(public_exponent=65537, key_size=2048))),
        "K750",
        ("apply", "alpha"),
    ),
    "node key that is none": (_apply(node_key=b"ssh-rsa AAAA"), "K750", ("apply", "alpha")),
    "member key too short": (_apply(member_key=b"short"), "K750", ("apply", "alpha")),
    "another member's node key": (anothers_node_key, "K751", ("apply", "alpha")),
    "a node key it had before": (its_own_former_node_key, "K751", ("rotate", "alpha")),
    "another policy accepted": (_apply(policy_sha256="0" * 64), "K752", ("apply", "alpha")),
    "a member accepts another policy": (accepts_another_policy, "K752", ("ask", "alpha")),
    "older version": (_apply(koinon_version="0.0.9"), "K753", ("apply", "alpha")),
    "no version": (_apply(koinon_version="newest"), "K753", ("apply", "alpha")),
    "other code installed": (_apply(code_sha256="0" * 64), "K754", ("apply", "alpha")),
    "signed by another key": (signed_by_another, "K755", ("apply", "alpha")),
    "altered after signing": (altered_after_signing, "K755", ("apply", "alpha")),
    "signed for another federation": (for_another_federation, "K755", ("ask", "alpha")),
    "one request shown as another": (an_ask_shown_as_a_leave, "K755", ("leave", "alpha")),
    "clock behind": (behind, "K756", ("ask", "alpha")),
    "clock ahead": (ahead, "K756", ("ask", "alpha")),
    "clock wrong when applying": (_apply(time_ms=1), "K756", ("apply", "alpha")),
    "request replayed": (replayed, "K757", ("ask", "alpha")),
    "request older than the last": (older_than_the_last, "K757", ("ask", "alpha")),
    "suspended member rotates its key": (suspended_rotates, "K759", ("rotate", "alpha")),
    "removed member leaves": (removed_leaves, "K759", ("leave", "alpha")),
    "removed member reads the policy": (removed_describes, "K759", ("describe", "alpha")),
    "rejected applicant rotates its key": (rejected_rotates, "K759", ("rotate", "alpha")),
    "malformed message": (malformed, "K760", ("apply", "unknown")),
    "malformed text": (malformed_text, "K760", ("ask", "unknown")),
    "oversized message": (oversized, "K761", ("apply", "unknown")),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_it_is_refused_recorded_and_the_service_goes_on(
    case: str, served: Any, caplog: pytest.LogCaptureFixture
) -> None:
    act, code, (action, subject) = REFUSALS[case]
    with caplog.at_level(logging.WARNING, "koinon.joining"):
        answer = act(served)
    assert answer.code == code
    assert answer.message
    assert "\n" not in answer.message
    assert served.refusals() == [(action, subject, code)]
    assert [line for line in caplog.messages if code in line and subject in line and "127.0.0.1" in line]
    # the service goes on: somebody else joins
    assert served.reached.stub.Apply(served.company("next").application(served.invited("next"))).code == ""
    assert served.registry.member("next").state == "applied"


def test_whether_a_name_is_a_members_is_not_told(served: Any) -> None:
    served.member("alpha")
    stranger = served.company("alpha")  # right name, wrong key
    real, made_up = served.reached.stub.Ask(stranger.ask()), unknown(served)
    assert (real.code, real.message) == (made_up.code, made_up.message) == (real.code, real.message)
    assert made_up.code == "K755"
    assert served.refusals() == [("ask", "alpha", "K755"), ("ask", "nobody", "K758")]


def test_too_many_requests_are_refused_and_the_flood_is_recorded_once(
    tmp_path: Path, make_home: Any, serving: Any
) -> None:
    now = [0.0]
    with serving(make_home(tmp_path / "home"), limits=Limits(burst=5, clock=lambda: now[0])) as served:
        asked = [served.reached.stub.Ask(joining.StandingRequest(partner="x")).code for _ in range(20)]
        assert asked == ["K755"] * 5 + ["K762"] * 15
        assert [code for _, _, code in served.refusals()].count("K762") == 1
        now[0] += 1.0
        assert served.reached.stub.Ask(joining.StandingRequest(partner="x")).code == "K755"


def test_what_is_far_too_large_is_refused_by_grpc_and_the_service_goes_on(served: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        served.reached.raw("Apply", b"\x0a" + b"x" * (2 << 20))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert served.member().name == "alpha"


def test_a_server_of_another_authority_is_not_believed(served: Any, tmp_path: Path, make_home: Any) -> None:
    other = make_home(tmp_path / "other")
    credentials = grpc.ssl_channel_credentials(other.authority.ca_file.read_bytes())
    with grpc.secure_channel(f"127.0.0.1:{served.port}", credentials) as channel:
        call = channel.unary_unary("/koinon.v1.Joining/Describe")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert served.member().name == "alpha"


def test_without_tls_nothing_is_answered(served: Any) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{served.port}") as channel:
        call = channel.unary_unary("/koinon.v1.Joining/Describe")
        with pytest.raises(grpc.RpcError):
            call(b"", timeout=5)
    assert served.member().name == "alpha"


def test_an_unforeseen_error_keeps_its_words_at_home(
    served: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(self: Registry, partner: str) -> None:
        raise RuntimeError("the table of alpha's customers is odd")

    monkeypatch.setattr(Registry, "member", fails)
    answer = served.reached.stub.Ask(served.company().ask())
    assert answer.code == "K763"
    assert "customers" not in answer.message
    assert "customers" in caplog.text
    monkeypatch.undo()
    assert served.member().name == "alpha"


@pytest.mark.parametrize("method", ["Describe", "Apply", "Ask", "Leave", "RotateKey"])
def test_fuzzed_messages_are_refused_and_the_service_goes_on(method: str, served: Any) -> None:
    chance = random.Random(method)
    company = served.member()
    right = {
        "Describe": company.describe(),
        "Apply": served.company().application(served.invited("beta")),
        "Ask": company.ask(),
        "Leave": company.leave(),
        "RotateKey": company.rotate(),
    }[method].SerializeToString()
    kind = joining.Offer if method == "Describe" else joining.Standing
    for _ in range(60):
        damaged = bytearray(right)
        for _ in range(chance.randint(1, 8)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        cut = bytes(damaged[: chance.randint(0, len(damaged))])
        answer = kind.FromString(served.reached.raw(method, cut))
        assert "K745" <= answer.code <= "K762"
    assert served.registry.member("alpha").state == "approved"
    assert served.member("next").name == "next"


def test_the_record_of_refusals_verifies(served: Any) -> None:
    for case in ("invitation forged", "malformed message", "clock ahead"):
        REFUSALS[case][0](served)
    assert len(served.refusals()) == 3
    assert verify(served.registry.book.entries(), served.home.authority.signer().verifier).whole
