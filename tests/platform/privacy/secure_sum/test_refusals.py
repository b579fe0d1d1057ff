"""What is refused, by which code: changed, exchanged and replayed messages, prying claims, leaking states."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.errors import FederationError, KoinonError, PrivacyError
from koinon.privacy.secure_sum import Partner, Rules, Server, Session, destroy_state, load_state, save_state
from koinon.privacy.secure_sum.messages import Claim, Cohort, Delivery, Keys, Shares, Unmask

ANOTHER = {
    "round": Session("run", 2, "ab" * 32, "popularity"),
    "run": Session("run2", 1, "ab" * 32, "popularity"),
    "policy": Session("run", 1, "cd" * 32, "popularity"),
    "purpose": Session("run", 1, "ab" * 32, "audit"),
}


def refused(code: str, step, *told) -> None:
    with pytest.raises(KoinonError) as raised:
        step(*told)
    assert raised.value.code == code


def changed(message, **update) -> bytes:
    return message.model_copy(update=update).to_bytes()


# what a partner refuses of the server's messages


@pytest.mark.parametrize("which", ANOTHER)
def test_a_message_of_another_session_is_refused_at_every_step(carried, words_of, which: str) -> None:
    words = words_of(3)
    for step, take in (("shares", "share"), ("masked", "mask"), ("unmask", "unmask")):
        ours, theirs = carried(3).until(step, words), carried(3, session=ANOTHER[which]).until(step, words)
        name = ours.names[0]
        more = (words[name],) if take == "mask" else ()
        refused("K627", getattr(ours.partner(name), take), theirs.told[name], *more)


def test_a_message_for_another_partner_is_refused_at_every_step(carried, words_of) -> None:
    words = words_of(3)
    for step, take in (("shares", "share"), ("masked", "mask"), ("unmask", "unmask")):
        sum_ = carried(3).until(step, words)
        one, other, _ = sum_.names
        more = (words[one],) if take == "mask" else ()
        refused("K627", getattr(sum_.partner(one), take), sum_.told[other], *more)


def test_every_step_is_taken_once_and_in_turn(carried, words_of) -> None:
    sum_ = carried(3)
    words, name = words_of(3), sum_.names[0]
    sum_.keys()
    refused("K628", sum_.partner(name).mask, sum_.told[name], words[name])
    refused("K628", sum_.partner(name).unmask, sum_.told[name])
    cohort = sum_.told[name]
    sum_.shares(len(words[name]))
    refused("K628", sum_.partner(name).share, cohort)
    delivery = sum_.told[name]
    sum_.mask(words)
    refused("K628", sum_.partner(name).mask, delivery, words[name])
    claim = sum_.told[name]
    sum_.unmask()
    refused("K628", sum_.partner(name).unmask, claim)


def delivery_of(sum_, name: str) -> Delivery:
    return Delivery.read(sum_.told[name], sum_.session)


def test_shares_changed_by_a_bit_are_refused(carried, words_of) -> None:
    words = words_of(3)
    sum_ = carried(3).until("masked", words)
    one, other, _ = sum_.names
    delivery = delivery_of(sum_, one)
    for place in range(0, 64, 5):
        box = bytearray(delivery.boxes[other])
        box[place] ^= 1
        told = changed(delivery, boxes=delivery.boxes | {other: bytes(box)})
        refused("K630", sum_.partner(one).mask, told, words[one])


def test_shares_exchanged_between_senders_or_receivers_are_refused(carried, words_of) -> None:
    words = words_of(3)
    sum_ = carried(3).until("masked", words)
    one, other, third = sum_.names
    own = delivery_of(sum_, one).boxes
    for boxes in (
        {other: own[third], third: own[other]},
        own | {other: delivery_of(sum_, third).boxes[other]},
        own | {other: b""},
    ):
        told = Delivery(session=sum_.session.digest, receiver=one, boxes=boxes).to_bytes()
        refused("K630", sum_.partner(one).mask, told, words[one])


def test_shares_of_an_earlier_round_replayed_in_this_one_are_refused(carried, words_of) -> None:
    words = words_of(3)
    before, now = carried(3).until("masked", words), carried(3, session=ANOTHER["round"]).until("masked", words)
    one, other, _ = now.names
    boxes = delivery_of(now, one).boxes | {other: delivery_of(before, one).boxes[other]}
    refused("K630", now.partner(one).mask, changed(delivery_of(now, one), boxes=boxes), words[one])


def test_the_same_session_tried_again_has_other_keys_so_nothing_of_the_first_try_opens(carried, words_of) -> None:
    words = words_of(3)
    first, again = (carried(3).until("masked", words) for _ in range(2))
    refused("K630", again.partner("partner00").mask, first.told["partner00"], words["partner00"])


def test_shares_of_a_stranger_are_refused(carried, words_of) -> None:
    words = words_of(3)
    sum_ = carried(3).until("masked", words)
    delivery = delivery_of(sum_, "partner00")
    told = changed(delivery, boxes=delivery.boxes | {"stranger": delivery.boxes["partner01"]})
    refused("K631", sum_.partner("partner00").mask, told, words["partner00"])


def test_a_partner_masks_only_among_enough(carried, words_of) -> None:
    words = words_of(5)
    sum_ = carried(5).until("masked", words)
    delivery = delivery_of(sum_, "partner00")
    two = dict(list(delivery.boxes.items())[:2])
    refused("K633", sum_.partner("partner00").mask, changed(delivery, boxes=two), words["partner00"])


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8"])
def test_what_are_no_words_is_not_masked(carried, words_of, dtype: str) -> None:
    sum_ = carried(3).until("masked", words_of(3))
    refused("K622", sum_.partner("partner00").mask, sum_.told["partner00"], np.zeros(9, dtype=dtype))


def cohort_of(sum_, name: str) -> Cohort:
    return Cohort.read(sum_.told[name], sum_.session)


def test_a_server_cannot_choose_a_partners_neighbours(carried, words_of) -> None:
    sum_ = carried(16, rules=Rules(density=2)).until("shares", words_of(16))
    one = sum_.names[0]
    cohort, all_of = cohort_of(sum_, one), {m.index: m for name in sum_.names for m in cohort_of(sum_, name).neighbours}
    own = {m.index for m in cohort.neighbours}
    outsider = next(m for index, m in all_of.items() if index not in own | {cohort.index})
    refused("K631", sum_.partner(one).share, changed(cohort, neighbours=(*cohort.neighbours[1:], outsider)))
    refused("K631", sum_.partner(one).share, changed(cohort, neighbours=cohort.neighbours[1:]))
    refused("K631", sum_.partner(one).share, changed(cohort, size=15))
    refused("K631", sum_.partner(one).share, changed(cohort, index=99))
    first, second, *rest = cohort.neighbours
    crossed = (first.model_copy(update={"keys": second.keys}), second.model_copy(update={"keys": first.keys}), *rest)
    refused("K631", sum_.partner(one).share, changed(cohort, neighbours=crossed))


def test_a_cohort_below_the_policys_minimum_is_refused(carried, words_of) -> None:
    sum_, small = carried(4, rules=Rules(minimum=4)), carried(3).until("shares", words_of(3))
    sum_.keys()
    refused("K631", sum_.partner("partner00").share, small.told["partner00"])
    refused("K626", sum_.partner("partner00").share, changed(cohort_of(small, "partner00"), size=2))


def test_degenerate_or_repeated_keys_of_neighbours_are_refused(carried, words_of) -> None:
    sum_ = carried(3).until("shares", words_of(3))
    cohort = cohort_of(sum_, "partner00")
    first, second = cohort.neighbours
    for keys in (
        first.keys.model_copy(update={"channel": bytes(32)}),
        first.keys.model_copy(update={"mask": second.keys.mask}),
        first.keys.model_copy(update={"channel": first.keys.mask}),
        first.keys.model_copy(update={"partner": second.keys.partner}),
        first.keys.model_copy(update={"partner": "partner00"}),
        first.keys.model_copy(update={"session": ANOTHER["round"].digest}),
    ):
        told = changed(cohort, neighbours=(first.model_copy(update={"keys": keys}), second))
        refused("K629", sum_.partner("partner00").share, told)


# signed keys


class Register:
    """Every member's signing key, and what the others check with."""

    def __init__(self, names: list[str]) -> None:
        self.keys = {name: Ed25519PrivateKey.generate() for name in names}

    def sign(self, name: str):
        return self.keys[name].sign

    def verify(self, name: str, said: bytes, signature: bytes) -> bool:
        try:
            self.keys[name].public_key().verify(signature, said)
        except (KeyError, InvalidSignature):
            return False
        return True


def test_signed_keys_are_summed_with(carried, words_of) -> None:
    register, words = Register([f"partner{number:02}" for number in range(4)]), words_of(4)
    total = carried(4, sign=register.sign, verify=register.verify).total(words)
    assert np.array_equal(total, sum(words.values()))


@pytest.mark.parametrize("field", ["channel", "mask", "commitment", "partner", "signature"])
def test_a_server_that_plays_a_partner_is_found_out(carried, words_of, field: str) -> None:
    register = Register([f"partner{number:02}" for number in range(3)])
    sum_ = carried(3, sign=register.sign, verify=register.verify).until("shares", words_of(3))
    cohort = cohort_of(sum_, "partner00")
    first, second = cohort.neighbours
    own = Keys.read(Partner.begin(sum_.session, sum_.rules, "stranger")[1], sum_.session)
    false = first.model_copy(update={"keys": first.keys.model_copy(update={field: getattr(own, field)})})
    told = changed(cohort, neighbours=(false, second))
    refused("K629", sum_.partner("partner00").share, told, register.verify)


def test_a_server_leaves_out_whose_keys_are_not_signed(carried) -> None:
    register = Register(["partner00"])
    sum_ = carried(3, verify=register.verify)
    _, unsigned = Partner.begin(sum_.session, sum_.rules, "partner00")
    refused("K743", sum_.server.take_keys, "partner00", unsigned)


# claims


def claim_of(sum_, name: str) -> Claim:
    return Claim.read(sum_.told[name], sum_.session)


def test_a_claim_that_calls_a_partner_alive_and_dropped_gets_nothing(carried, words_of) -> None:
    sum_ = carried(4).until("unmask", words_of(4))
    claim = claim_of(sum_, "partner00")
    for alive, dropped in (
        (claim.alive, ("partner01",)),
        (claim.alive[:3], ()),
        ((*claim.alive, "stranger"), ()),
        ((*claim.alive, "partner01"), ()),
        (claim.alive[1:], ("partner00",)),
        ((*claim.alive[:3], "stranger"), ()),
    ):
        refused("K632", sum_.partner("partner00").unmask, changed(claim, alive=alive, dropped=dropped))


def test_a_claim_with_too_few_alive_gets_nothing(carried, words_of) -> None:
    sum_ = carried(5).until("unmask", words_of(5))
    claim = claim_of(sum_, "partner00")
    told = changed(claim, alive=claim.alive[:3], dropped=claim.alive[3:])
    refused("K633", sum_.partner("partner00").unmask, told)


def test_a_second_claim_gets_nothing(carried, words_of) -> None:
    sum_ = carried(4).until("unmask", words_of(4))
    claim, partner = claim_of(sum_, "partner00"), sum_.partner("partner00")
    partner.unmask(sum_.told["partner00"])
    other = changed(claim, alive=claim.alive[:3], dropped=claim.alive[3:])
    refused("K628", partner.unmask, other)
    refused("K628", Partner.restore(partner.state()).unmask, other)


# what the server refuses


def test_the_server_takes_nothing_twice_nor_of_whom_has_dropped_nor_in_anothers_name(carried, words_of) -> None:
    words, sum_ = words_of(4), carried(4, {"partner03": "shares"})
    sum_.keys()
    one, other, _, gone = sum_.names
    shares = {name: sum_.partner(name).share(sum_.told[name]) for name in sum_.names}
    sum_.server.take_shares(one, shares[one])
    refused("K743", sum_.server.take_shares, one, shares[one])
    refused("K743", sum_.server.take_shares, other, shares[one])
    refused("K743", sum_.server.take_shares, "stranger", shares[one])
    again = carried(4, {gone: "shares"}).until("unmask", words)
    refused("K743", again.server.take_unmask, gone, b"")
    answer = again.partner(one).unmask(again.told[one])
    refused("K743", again.server.take_unmask, other, answer)
    again.server.take_unmask(one, answer)
    refused("K743", again.server.take_unmask, one, answer)


def test_the_server_adds_masked_words_once_and_only_those_of_this_sum(carried, words_of) -> None:
    words = words_of(3)
    sum_, other = (carried(3, session=session).until("masked", words) for session in (None, ANOTHER["round"]))
    one, two, _ = sum_.names
    masked = bytes(sum_.partner(one).mask(sum_.told[one], words[one]))
    wide = sum_.partner(two).mask(sum_.told[two], words[two].astype(np.uint64))
    for false in (masked[:-1], masked[:40], b"", b"x" + masked[1:], wide):
        refused("K743", sum_.server.take_masked, one, false)
    refused("K743", sum_.server.take_masked, two, masked)
    refused("K743", sum_.server.take_masked, "stranger", masked)
    refused("K743", sum_.server.take_masked, one, other.partner(one).mask(other.told[one], words[one]))
    sum_.server.take_masked(one, masked)
    refused("K743", sum_.server.take_masked, one, masked)


def test_the_server_leaves_out_degenerate_and_copied_keys(carried) -> None:
    sum_ = carried(3)
    keys = Keys.read(Partner.begin(sum_.session, sum_.rules, "partner00")[1], sum_.session)
    sum_.server.take_keys("partner00", keys.to_bytes())
    own = Keys.read(Partner.begin(sum_.session, sum_.rules, "partner01")[1], sum_.session)
    for update in ({"channel": bytes(32)}, {"mask": bytes(32)}, {"mask": keys.channel}, {"mask": own.channel}):
        refused("K743", sum_.server.take_keys, "partner01", changed(own, **update))
    refused("K743", sum_.server.take_keys, "partner00", keys.to_bytes())


def test_wrong_shares_never_give_a_wrong_total(carried, words_of) -> None:
    for leaves in ({}, {"partner03": "masked"}):
        sum_ = carried(4, leaves).until("unmask", words_of(4))
        for name in sum_.there("unmask"):
            answer = Unmask.read(sum_.partner(name).unmask(sum_.told[name]), sum_.session)
            field = "dropped" if leaves else "alive"
            shares = dict(getattr(answer, field))
            owner = "partner03" if leaves else "partner01"
            shares[owner] = shares[owner][:-1] + bytes([shares[owner][-1] ^ 1])
            sum_.server.take_unmask(name, changed(answer, **{field: shares}))
        refused("K742", sum_.server.total)


def test_a_share_under_anothers_number_is_refused(carried, words_of) -> None:
    sum_ = carried(3).until("unmask", words_of(3))
    answer = Unmask.read(sum_.partner("partner00").unmask(sum_.told["partner00"]), sum_.session)
    share = answer.alive["partner01"]
    for false in ((2).to_bytes(2, "big") + share[2:], bytes(2) + share[2:]):
        told = changed(answer, alive=answer.alive | {"partner01": false})
        refused("K743", sum_.server.take_unmask, "partner00", told)
    refused("K743", sum_.server.take_unmask, "partner00", changed(answer, alive={"partner00": share}))


def test_shares_for_others_than_the_neighbours_are_refused(carried) -> None:
    sum_ = carried(3)
    sum_.keys()
    said = Shares.read(sum_.partner("partner00").share(sum_.told["partner00"]), sum_.session)
    for boxes in ({}, {"partner01": b""}, dict(said.boxes, stranger=b"")):
        refused("K743", sum_.server.take_shares, "partner00", changed(said, boxes=boxes))


def test_a_total_can_wait_for_the_answers_still_missing(carried, words_of) -> None:
    words = words_of(4)
    sum_ = carried(4).until("unmask", words)
    for place, name in enumerate(sum_.names):
        sum_.server.take_unmask(name, sum_.partner(name).unmask(sum_.told[name]))
        if place < 2:
            refused("K741", sum_.server.total)
    assert np.array_equal(sum_.server.total(), sum(words.values()))
    refused("K744", sum_.server.total)


def test_the_server_goes_step_by_step() -> None:
    server = Server(Session("run", 1, "p"), Rules())
    refused("K744", server.take_shares, "partner00", b"")
    refused("K744", server.deliveries, 5)
    refused("K744", server.take_masked, "partner00", b"")
    refused("K744", server.claims)
    refused("K744", server.take_unmask, "partner00", b"")
    refused("K744", server.total)
    refused("K740", server.cohorts)


# any bytes at all


@settings(deadline=None, max_examples=60)
@given(said=st.one_of(st.binary(max_size=400), st.text(max_size=100).map(str.encode)))
def test_any_bytes_are_refused_by_a_code_and_by_nothing_else(carried, words_of, said: bytes) -> None:
    server = Server(Session("run", 1, "p"), Rules())
    partner, _ = Partner.begin(server.session, server.rules, "alpha")
    refused("K743", server.take_keys, "alpha", said)
    refused("K626", partner.share, said)
    refused("K634", Partner.restore, said)


def test_messages_damaged_at_random_raise_our_errors_alone(carried, words_of) -> None:
    rng, words = random.Random(0), words_of(3)
    steps = {
        "shares": lambda sum_: (sum_.partner("partner00").share, sum_.told["partner00"], ()),
        "masked": lambda sum_: (sum_.partner("partner00").mask, sum_.told["partner00"], (words["partner00"],)),
        "unmask": lambda sum_: (sum_.partner("partner00").unmask, sum_.told["partner00"], ()),
    }
    survived = 0
    for step, take in steps.items():
        sum_ = carried(3).until(step, words)
        for _ in range(150):
            go, said, more = take(sum_)
            damaged = bytearray(said)
            for _ in range(rng.choice([1, 1, 2, 8])):
                damaged[rng.randrange(len(damaged))] = rng.choice(b'{}[]",:0aZ\\\x00\xff')
            if rng.random() < 0.2:
                del damaged[rng.randrange(len(damaged)) :]
            try:
                go(bytes(damaged), *more)
                survived += 1
            except PrivacyError:
                pass
    assert survived < 100  # a flipped bit of an unsigned key is a key all the same


@settings(deadline=None, max_examples=100)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    ),
    data=st.data(),
)
def test_fields_of_any_type_are_refused(carried, value: object, data: st.DataObject) -> None:
    server = Server(Session("run", 1, "p"), Rules())
    _, said = Partner.begin(server.session, server.rules, "alpha")
    message = json.loads(said)
    field = data.draw(st.sampled_from(sorted(message)))
    refused("K743", server.take_keys, "beta", json.dumps(message | {field: value}).encode())
    if field != "signature" or not isinstance(value, str):
        refused("K743", server.take_keys, "alpha", json.dumps(message | {field: value}).encode())


# what a partner keeps


def test_a_state_is_read_by_its_owner_alone_and_is_gone_when_destroyed(tmp_path: Path, carried, words_of) -> None:
    sum_, path = carried(3).until("unmask", words_of(3)), tmp_path / "federation" / "sum.state"
    save_state(path, sum_.states["partner00"])
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_state(path) == sum_.states["partner00"]
    path.chmod(0o640)
    refused("K634", load_state, path)
    destroy_state(path)
    assert list(path.parent.iterdir()) == []
    destroy_state(path)
    refused("K634", load_state, path)


def test_secrets_are_forgotten_as_soon_as_they_are_not_needed(carried, words_of) -> None:
    sum_, name = carried(3).until("masked", words_of(3)), "partner00"
    secrets = {field: json.loads(sum_.states[name])[field] for field in ("channel", "own_seed", "key_seed")}
    assert all(secrets.values())
    sum_.mask(words_of(3))
    assert not any(secret in sum_.states[name].decode() for secret in secrets.values())
    held = json.loads(sum_.states[name])["held"]
    assert len(held) == 3
    sum_.unmask()
    assert not any(share["own_mask"] in sum_.states[name].decode() for share in held.values())


def test_a_refused_message_leaves_the_partner_as_it_was(carried, words_of) -> None:
    sum_ = carried(3).until("unmask", words_of(3))
    partner = sum_.partner("partner00")
    refused("K626", partner.unmask, b"")
    assert partner.state() == sum_.states["partner00"]
    partner.unmask(sum_.told["partner00"])


def test_the_keys_of_the_next_sum_may_travel_while_this_one_is_under_way(carried, words_of) -> None:
    words = words_of(4)
    now, following = carried(4), carried(4, session=ANOTHER["round"])
    now.until("masked", words)
    following.keys()
    now.mask(words)
    following.shares(len(words["partner00"]))
    assert np.array_equal(now.unmask(), sum(words.values()))
    following.mask(words)
    assert np.array_equal(following.unmask(), sum(words.values()))


def test_errors_of_a_failed_sum_are_the_federations(carried, words_of) -> None:
    with pytest.raises(FederationError, match="K740"):
        carried(2).total(words_of(2))
