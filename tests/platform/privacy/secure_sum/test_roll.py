"""On a sparse graph members agree on who is in a sum before they help to take the masks off."""

from __future__ import annotations

import copy
import hashlib

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from koinon.errors import FederationError, KoinonError
from koinon.privacy.secure_sum import Rules, Session, signed_by_member, verified_by
from koinon.privacy.secure_sum.messages import Assent, Claim, Roll
from koinon.privacy.secure_sum.rules import Graph

N = 24
THIN = Rules(density=2)  # ten neighbours of twenty-three


class Register:
    """Every member's signing key, and what the others check with."""

    def __init__(self) -> None:
        self.keys = {f"partner{number:02}": Ed25519PrivateKey.generate() for number in range(N)}
        public = {name: key.public_key().public_bytes_raw() for name, key in self.keys.items()}
        self.verify = verified_by({name: hashlib.sha256(said).hexdigest() for name, said in public.items()})

    def sign(self, name: str):
        return signed_by_member(self.keys[name])


@pytest.fixture(scope="module")
def register() -> Register:
    return Register()


@pytest.fixture
def signed(carried, register):
    """A sum among members on a sparse graph; ``leaves`` as in ``carried``."""

    def make(leaves=None):
        return carried(N, leaves, rules=THIN, sign=register.sign, verify=register.verify)

    return make


def masked(sum_, words):
    """Carry a sum until the words are in it."""
    sum_.until("masked", words)
    for name in sum_.there("masked"):
        partner = sum_.partner(name)
        said = partner.mask(sum_.told[name], words[name])
        sum_.states[name] = partner.state()
        sum_.server.take_masked(name, said)
    return sum_


def assent(sum_, register, name: str, roll: bytes) -> bytes:
    partner = sum_.partner(name)
    said = partner.agree(roll, register.sign(name))
    sum_.states[name] = partner.state()
    return said


def refused(code: str, step, *told) -> None:
    with pytest.raises(KoinonError) as raised:
        step(*told)
    assert raised.value.code == code


def changed(message, **update) -> bytes:
    return message.model_copy(update=update).to_bytes()


def test_a_sum_among_members_is_the_plain_one_with_some_gone_before_and_some_gone_after_the_list(
    signed, words_of
) -> None:
    words = words_of(N)
    sum_ = signed({"partner03": "masked", "partner17": "unmask"})
    assert np.array_equal(sum_.total(words), sum(words[name] for name in words if name != "partner03"))


def test_where_all_see_each_other_or_nobody_signs_there_is_no_list(carried, words_of, register) -> None:
    assert masked(carried(4, sign=register.sign, verify=register.verify), words_of(4)).server.rolls() == {}
    assert masked(carried(N, rules=THIN), words_of(N)).server.rolls() == {}


def test_who_is_lost_while_the_list_is_signed_stays_in_the_total(signed, words_of, register) -> None:
    words = words_of(N)
    sum_ = masked(signed(), words)
    for name, roll in sum_.server.rolls().items():
        if name != "partner05":
            sum_.server.take_assent(name, assent(sum_, register, name, roll))
    sum_.told = sum_.server.claims()
    assert "partner05" not in sum_.told
    for name, claim in sum_.told.items():
        sum_.server.take_unmask(name, sum_.partner(name).unmask(claim, register.verify))
    assert np.array_equal(sum_.server.total(), sum(words.values()))


def test_a_list_that_is_not_of_this_sum_or_breaks_the_rules_is_not_signed(signed, words_of, register) -> None:
    sum_ = masked(signed(), words_of(N))
    rolls = sum_.server.rolls()
    own = "partner00"
    roll, sign = Roll.read(rolls[own], sum_.session), register.sign(own)
    names = roll.names
    held = set(Claim.read(claims(sum_, register)[own], sum_.session).alive)
    far = [name for name in names if name not in held]
    for code, told in (
        ("K627", rolls["partner01"]),
        ("K627", changed(roll, session=Session("run", 2, "ab" * 32).digest)),
        ("K635", changed(roll, names=names[1:])),
        ("K635", changed(roll, names=names[::-1])),
        ("K635", changed(roll, names=(*names, names[-1]))),
        ("K635", changed(roll, names=names[:2])),
        ("K633", changed(roll, names=(own, *far))),
    ):
        refused(code, sum_.partner(own).agree, told, sign)
    partner = sum_.partner(own)
    partner.agree(rolls[own], sign)
    refused("K628", partner.agree, rolls[own], sign)


def claims(sum_, register) -> dict[str, bytes]:
    """Everybody's claim, formed by a server of its own, so that the sum's own goes on."""
    server = copy.deepcopy(sum_.server)
    for name in server.contributors:
        partner = sum_.partner(name)
        roll = Roll(session=sum_.session.digest, receiver=name, names=server.contributors).to_bytes()
        server.take_assent(name, partner.agree(roll, register.sign(name)))
    return server.claims()


def test_no_share_is_handed_in_before_the_list_is_signed_by_enough_and_said_alike(signed, words_of, register) -> None:
    sum_ = masked(signed(), words_of(N))
    rolls = sum_.server.rolls()
    told = claims(sum_, register)
    own = "partner00"
    refused("K628", sum_.partner(own).unmask, told[own], register.verify)
    assent(sum_, register, own, rolls[own])
    claim = Claim.read(told[own], sum_.session)
    neighbour = next(name for name in claim.alive if name != own)
    few = dict(list(claim.assents.items())[: THIN.threshold(N) - 1])
    far = [name for name in rolls if name not in claim.alive]
    for code, update in (
        ("K635", {"assents": {}}),
        ("K635", {"assents": few}),
        ("K635", {"assents": few | {far[0]: register.sign(far[0])(b"another list")}}),
        ("K635", {"assents": claim.assents | {neighbour: claim.assents[own]}}),
        ("K635", {"assents": claim.assents | {"a stranger": claim.assents[own]}}),
        (
            "K632",
            {"alive": tuple(n for n in claim.alive if n != neighbour), "dropped": (*claim.dropped, neighbour)},
        ),
    ):
        refused(code, sum_.partner(own).unmask, changed(claim, **update), register.verify)
    assert sum_.partner(own).unmask(told[own], register.verify)


def test_a_server_that_tells_two_lists_gets_no_shares_for_either(signed, words_of, register) -> None:
    """Every second one around the ring is told that a partner has gone: no neighbourhood has enough of either list."""
    sum_ = masked(signed(), words_of(N))
    names = sum_.server.contributors
    assert sum_.server.rolls()
    lists = (names, tuple(name for name in names if name != "partner07"))
    given: dict[str, bytes] = {}
    ring = Graph(sum_.session, N, THIN.degree(N)).ring
    of = {names[index]: place % 2 for place, index in enumerate(ring)} | {"partner07": 0}
    for name in names:
        roll = Roll(session=sum_.session.digest, receiver=name, names=lists[of[name]]).to_bytes()
        given[name] = Assent.read(assent(sum_, register, name, roll), sum_.session).signature
    for name in names:
        alive, dropped = sum_.server._holders[name], ()
        if of[name]:
            alive, dropped = tuple(n for n in alive if n != "partner07"), (*dropped, *({"partner07"} & {*alive}))
        for assents in ({n: s for n, s in given.items() if of[n] == of[name]}, given):
            claim = Claim(session=sum_.session.digest, receiver=name, alive=alive, dropped=dropped, assents=assents)
            refused("K635", sum_.partner(name).unmask, claim.to_bytes(), register.verify)


def test_a_server_takes_no_list_that_its_sender_has_not_signed(signed, words_of, register) -> None:
    sum_ = masked(signed(), words_of(N))
    rolls = sum_.server.rolls()
    said = Assent.read(assent(sum_, register, "partner00", rolls["partner00"]), sum_.session)
    refused("K743", sum_.server.take_assent, "partner01", said.to_bytes())
    refused("K743", sum_.server.take_assent, "partner00", changed(said, signature=said.signature[:-1]))
    sum_.server.take_assent("partner00", said.to_bytes())
    refused("K743", sum_.server.take_assent, "partner00", said.to_bytes())
    with pytest.raises(FederationError, match="K740"):
        sum_.server.claims()
