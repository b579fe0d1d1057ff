"""Over whole runs: what left the partners is what their egress logs say, and nothing else is in any packet."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from flwr.app import Message
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import PushObjectRequest
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_type_from_object_content

from koinon.data import PartnerConfig, Tables, Vault
from koinon.data.tables import EVENT_SCHEMA, ITEM_SCHEMA
from koinon.privacy import write_match_key
from koinon.protos import federation_pb2 as wire
from koinon.server import FederationConfig
from tests.end_to_end import wiretap
from tests.end_to_end.conftest import RECORDER

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NAMES = ("alpha", "beta", "gamma")
ROOT = Path(__file__).parents[2]
WEIGHT = np.float32(0.73105858)
"""The weight of every event: a number that is nowhere else."""
FLEET = "/v1/fleet/"


def shop(folder: Path, first: int) -> Path:
    """A shop with a secret catalogue, and words in all its tables that must never leave."""
    works, users = 30, 40
    ids = [f"canary-item-{folder.name}-{n}" for n in range(works)]
    titles = [f"Canary Title {first + n}" for n in range(works)]
    columns = {
        "item_id": ids,
        "title": titles,
        "creator": ["Canary Author"] * works,
        "description": ["canary description"] * works,
        "language": ["en"] * works,
        "categories": [["canary category"]] * works,
        "price": [73.4275] * works,
        "text": [f"{title}. Canary Author" for title in titles],
    }
    readers = [f"canary-reader-{folder.name}-{n}" for n in range(users)]
    rng = np.random.default_rng(first)
    events = {
        "user_id": np.repeat(readers, 6),
        "item_id": [ids[item] for _ in readers for item in rng.choice(works, 6, replace=False)],
        "timestamp": [None] * users * 6,
        "kind": ["canarykind"] * users * 6,
        "weight": np.full(users * 6, WEIGHT),
    }
    people = pl.DataFrame({"user_id": readers, "occupation": ["canary occupation"] * users})
    tables = Tables(pl.DataFrame(columns, schema=ITEM_SCHEMA), pl.DataFrame(events, schema=EVENT_SCHEMA), people)
    Vault.create(folder, PartnerConfig(name=folder.name, catalogue="secret"), tables)
    return folder


CANARIES = {
    "a word of a table": b"canary",
    "a word of a table, in capitals": b"Canary",
    "a weight, as it is stored": WEIGHT.tobytes(),
    "a weight, in double precision": np.float64(WEIGHT).tobytes(),
    "a weight, in decimals": b"0.731058",
    "a price": np.float64(73.4275).tobytes(),
    "a price, in decimals": b"73.4275",
}


@dataclass
class Tapped:
    """A run, what its server received, and all that went over its network."""

    config: FederationConfig
    root: Path

    @cached_property
    def messages(self) -> list[Message]:
        """What the server received."""
        return wiretap.recorded(self.root / "record")  # type: ignore[return-value]

    @cached_property
    def flows(self) -> dict[wiretap.Flow, bytes]:
        """All connections' bytes, by source and destination port."""
        flows, other = wiretap.streams(self.root / "packets")
        assert other == [], "something else than TCP over IPv4"
        return flows

    @cached_property
    def asked(self) -> list[wiretap.Asked]:
        """Every request that a partner's node made of the server."""
        streams = [s for s in self.flows.values() if wiretap.REQUEST.match(s)]
        return [asked for stream in streams for asked in wiretap.requests(stream) if asked.path.startswith(FLEET)]

    @cached_property
    def pushed(self) -> list[PushObjectRequest]:
        """Every object that a partner's node handed to the server."""
        return [PushObjectRequest.FromString(a.body) for a in self.asked if a.path == f"{FLEET}push-object"]

    def log(self, partner: str) -> list[dict[str, Any]]:
        """A partner's egress log."""
        path = self.config.partners[partner] / "federation" / "egress.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]


def reply_of(message: Message) -> tuple[wire.Reply, bytes]:
    said = message.content.config_records["reply"]["reply"]
    assert isinstance(said, bytes)
    return wire.Reply.FromString(said), said


def counted(message: Message) -> tuple[int, str]:
    """Bytes and SHA-256 of an answer, as the door counts them."""
    _, said = reply_of(message)
    arrays = message.content.array_records.get("tensors", {})
    digest = hashlib.sha256(said)
    for array in arrays.values():
        digest.update(array.data)
    return len(said) + sum(len(array.data) for array in arrays.values()), digest.hexdigest()


@pytest.fixture(scope="module", params=["plain", "secure"])
def tapped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tapped:
    """Three secret shops over two rounds, in a network of their own."""
    alone = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-rn"]
    tried = subprocess.run([*alone, "ip", "link", "set", "lo", "up"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no network namespace can be made here: {tried.stderr.strip()}")
    root = tmp_path_factory.mktemp(f"tapped-{request.param}")
    for name in ("modules", "record"):
        (root / name).mkdir()
    (root / "modules" / "koinon_test_recorder.py").write_text(RECORDER)
    shops = {name: shop(root / name, first=8 * n) for n, name in enumerate(NAMES)}
    write_match_key(list(shops.values()))
    config = FederationConfig.model_validate(
        {
            "name": "shops",
            "partners": shops,
            "learners": [{"name": "federated_popularity", "settings": {"rounds": 2, "memory": 0.5}}],
            "encoder": "none",
            "keyed_catalogues": True,
            "aggregation": request.param,
            "minimum_participants": 3,
        }
    )
    (root / "config.json").write_text(config.model_dump_json())
    told = [root / name for name in ("config.json", "out", "packets", "record", "modules")]
    done = subprocess.run(
        [*alone, sys.executable, "-m", "tests.end_to_end.wiretap", *map(str, told)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Tapped(config, root)


def test_the_egress_logs_and_what_the_server_received_agree_message_by_message(tapped: Tapped) -> None:
    assert not any(message.has_error() for message in tapped.messages)
    for name in NAMES:
        received = Counter(counted(m) for m in tapped.messages if reply_of(m)[0].partner == name)
        assert received == Counter((line["bytes"], line["sha256"]) for line in tapped.log(name))
        # catalogue, two rounds, adopt; a secure sum takes two more exchanges to begin, and one more a round
        assert received.total() == (4 if tapped.config.aggregation == "plain" else 8)


def test_every_object_that_a_node_handed_to_the_server_is_in_a_logged_message(tapped: Tapped) -> None:
    logged = {number for m in tapped.messages for number in get_all_nested_objects(m.content)}
    logged |= {m.content.object_id for m in tapped.messages}
    pushed: Counter[str] = Counter()
    for each in tapped.pushed:
        assert hashlib.sha256(each.object_content).hexdigest() == each.object_id
        kind = get_object_type_from_object_content(each.object_content)
        pushed[kind] += 1
        if kind == "Message":  # Flower's envelope: who to whom, when, for which question
            assert len(each.object_content) < 1000
        else:
            assert each.object_id in logged, kind
    assert pushed["Message"] == len(tapped.messages)
    assert {"ConfigRecord", "ArrayChunk"} <= set(pushed)


def test_beside_objects_a_node_sends_flowers_own_small_questions_alone(tapped: Tapped) -> None:
    beside = [asked for asked in tapped.asked if asked.path != f"{FLEET}push-object"]
    assert beside
    for asked in beside:
        assert len(asked.body) < 4096, asked.path
        assert b"content-encoding" not in asked.headers, asked.path
    announced = [PushMessagesRequest.FromString(a.body) for a in beside if a.path == f"{FLEET}push-messages"]
    assert sum(len(each.messages_list) for each in announced) == len(tapped.messages)
    assert not any(message.HasField("error") for each in announced for message in each.messages_list)


def test_no_word_or_number_of_a_partners_tables_is_in_any_byte_of_the_traffic(tapped: Tapped) -> None:
    # the tap does see what leaves: the very bytes of every answer are there
    traffic = b"\n".join(tapped.flows.values())
    for message in tapped.messages:
        assert reply_of(message)[1] in traffic
        for array in message.content.array_records.get("tensors", {}).values():
            assert array.data in traffic
    for what, canary in CANARIES.items():
        assert canary not in traffic, what


def test_the_canaries_are_in_the_vaults(tapped: Tapped) -> None:
    tables = Vault.open(tapped.config.partners["alpha"]).tables()
    said = repr((tables.items.to_dicts(), tables.events.to_dicts(), tables.users.to_dicts())).encode()
    for canary in (b"canary", b"Canary", b"0.731058", b"73.4275"):
        assert canary in said
