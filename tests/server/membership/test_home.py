"""A federation's folder, its addresses, and its policy over time."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koinon.config import write_atomically
from koinon.errors import ConfigError
from koinon.privacy.ledger.kinds import Kind
from koinon.server.federation import Terms
from koinon.server.membership import Address, FederationHome, HostConfig, change_policy, draft, open_registry
from koinon.server.membership.home import Node, in_full, read_nodes, write_nodes
from tests.server.membership.conftest import TERMS


@pytest.mark.parametrize(
    ("said", "host", "port"),
    [
        ("fed.example.org", "fed.example.org", 9440),
        ("fed.example.org:9000", "fed.example.org", 9000),
        ("192.0.2.1:1", "192.0.2.1", 1),
        ("[2001:db8::1]:65535", "2001:db8::1", 65535),
        ("[::1]", "::1", 9440),
    ],
)
def test_addresses(said: str, host: str, port: int) -> None:
    assert Address.parse(said) == Address(host, port)
    assert Address.parse(str(Address(host, port))) == Address(host, port)


@pytest.mark.parametrize(
    "said", ["", ":80", "a:0", "a:65536", "a b", "2001:db8::1:80", "http://a", "a/b", "1.2.3.4.5", "-a", "a..b", "[x]"]
)
def test_what_is_no_address(said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Address.parse(said)
    assert caught.value.code == "K114"


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_refused(said: str) -> None:
    with suppress(ConfigError):
        assert Address.parse(said).host


@pytest.mark.parametrize(
    ("address", "listens"),
    [("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1"), ("::1", "::1"), ("fed.example.org", "0.0.0.0")],
)
def test_it_listens_where_it_can_be_reached(address: str, listens: str) -> None:
    assert HostConfig(address=address, port=1, join_port=2).listens_on == listens


def test_a_folder_is_one_federations(tmp_path: Path, make_home: Any) -> None:
    make_home(tmp_path / "home")
    with pytest.raises(ConfigError) as caught:
        make_home(tmp_path / "home")
    assert caught.value.code == "K113"


def test_a_folder_without_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        FederationHome(tmp_path)
    assert caught.value.code == "K112"


def test_two_services_need_two_ports(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        FederationHome.create(
            tmp_path / "home", Terms.from_dict(TERMS), HostConfig(address="127.0.0.1", port=9, join_port=9)
        )
    assert caught.value.code == "K114"
    assert not (tmp_path / "home").exists()


def test_the_policy_file_says_everything(tmp_path: Path) -> None:
    terms = Terms.from_dict(TERMS)
    write_atomically(tmp_path / "terms.toml", in_full(terms))
    assert Terms.from_toml(tmp_path / "terms.toml") == terms
    assert "seed" in in_full(terms)


def test_secure_aggregation_needs_a_cohort_of_three() -> None:
    with pytest.raises(ConfigError, match="minimum_participants = 3"):
        Terms.from_dict(TERMS | {"aggregation": "secure"})
    assert Terms.from_dict(TERMS | {"aggregation": "secure", "minimum_participants": 3})


@pytest.mark.parametrize(
    "change",
    [{"aggregation": "median"}, {"encoder_sha256": "1" * 64}, {"minimum_participants": 3}, {"seed": 8}],
)
def test_what_members_agree_on_is_in_the_policys_hash(change: dict[str, object]) -> None:
    assert Terms.from_dict(TERMS | change).policy_sha256() != Terms.from_dict(TERMS).policy_sha256()


def test_how_long_the_server_waits_is_not() -> None:
    patient = Terms.from_dict(TERMS | {"deadlines": {"join": 1}, "at_once": 9})
    assert patient.policy_sha256() == Terms.from_dict(TERMS).policy_sha256()


def test_a_changed_policy_is_offered_recorded_and_accepted_anew(served: Any) -> None:
    company = served.member()
    before = served.home.terms()
    after = Terms.from_dict(TERMS | {"minimum_participants": 3})
    assert change_policy(served.home, served.registry, after)
    changes = served.registry.book.entries(kind=Kind.POLICY_CHANGED)
    assert [(c.body["before_sha256"], c.body["policy_sha256"]) for c in changes] == [
        (before.policy_sha256(), after.policy_sha256())
    ]
    offer = served.reached.stub.Describe(company.describe())
    assert (offer.policy_sha256, offer.policy.minimum_participants) == (after.policy_sha256(), 3)
    assert served.registry.member("alpha").policy_sha256 == before.policy_sha256()
    assert served.reached.stub.Ask(company.ask(policy_sha256=offer.policy_sha256)).code == ""
    assert served.registry.member("alpha").policy_sha256 == after.policy_sha256()
    stale = served.reached.stub.Apply(
        served.company("beta").application(served.invited("beta"), policy_sha256=before.policy_sha256())
    )
    assert stale.code == "K752"


def test_a_policy_edited_by_hand_goes_on_record_at_the_next_start(tmp_path: Path, make_home: Any) -> None:
    home = make_home(tmp_path / "home")
    write_atomically(home.policy_file, in_full(Terms.from_dict(TERMS | {"seed": 99})))
    for _ in range(2):
        with open_registry(home) as registry:
            changes = registry.book.entries(kind=Kind.POLICY_CHANGED)
            assert [change.body["policy_sha256"] for change in changes] == [home.terms().policy_sha256()]


def test_a_federation_keeps_its_name(tmp_path: Path, make_home: Any) -> None:
    home = make_home(tmp_path / "home")
    with open_registry(home) as registry, pytest.raises(ConfigError) as caught:
        change_policy(home, registry, Terms.from_dict(TERMS | {"name": "others"}))
    assert caught.value.code == "K117"
    assert home.terms().name == "shops"


def test_a_draft_pins_its_encoder(tmp_path: Path) -> None:
    write_atomically(tmp_path / "terms.toml", in_full(Terms.from_dict(TERMS)))
    assert draft(tmp_path / "terms.toml").encoder_sha256 == ""
    assert draft(tmp_path / "terms.toml", "renamed").name == "renamed"


def test_nodes_are_read_as_written(tmp_path: Path) -> None:
    nodes = {"alpha": Node(b"-----BEGIN PUBLIC KEY-----\nx\n", 2**64 - 1), "beta": Node(b"y", 1)}
    write_nodes(tmp_path / "nodes.json", nodes)
    assert read_nodes(tmp_path / "nodes.json") == nodes
    assert read_nodes(tmp_path / "none.json") == {}
