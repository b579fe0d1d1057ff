"""What tests of several houses share."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl
import pytest

from koinon.data import PartnerConfig, Tables, Vault
from koinon.data.tables import EVENT_SCHEMA, ITEM_SCHEMA


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> Iterator[None]:
    """Take Ctrl-C as Python does by default, also where a shell's background job began with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class ShopMaker(Protocol):
    """Writes a small partner's folder; its readers are called ``<name>-reader-<n>``."""

    def __call__(
        self, name: str, *, seed: int = 0, first: int = 0, works: int = 40, users: int = 60, public: bool = True
    ) -> Path: ...


def _write_shop(root: Path, name: str, *, seed: int, first: int, works: int, users: int, public: bool) -> Path:
    rng = np.random.default_rng(seed)
    numbers = range(first, first + works)
    titles = [f"Work {number}" for number in numbers]
    items = pl.DataFrame(
        {
            "item_id": [f"{name}-{number}" for number in numbers],
            "title": titles,
            "creator": ["An Author"] * works,
            "description": [None] * works,
            "language": ["en"] * works,
            "categories": [[]] * works,
            "price": [None] * works,
            "text": [f"{title}. An Author" for title in titles],
        },
        schema=ITEM_SCHEMA,
    )
    share = 1 / np.arange(1, works + 1)
    taken = [rng.choice(works, 8, replace=False, p=share / share.sum()) for _ in range(users)]
    readers = [f"{name}-reader-{number}" for number in range(users)]
    events = {
        "user_id": np.repeat(readers, 8),
        "item_id": [f"{name}-{numbers[item]}" for item in np.concatenate(taken)],
        "timestamp": [None] * users * 8,
        "kind": ["rating"] * users * 8,
        "weight": [1.0] * users * 8,
    }
    config = PartnerConfig.model_validate({"name": name, "catalogue": "public" if public else "secret"})
    people = pl.DataFrame({"user_id": readers}, schema={"user_id": pl.String()})
    Vault.create(root / name, config, Tables(items, pl.DataFrame(events, schema=EVENT_SCHEMA), people))
    return root / name


@pytest.fixture(scope="session")
def make_shop(tmp_path_factory: pytest.TempPathFactory) -> ShopMaker:
    """Return a function that writes a small partner into a folder of its own and returns that folder."""

    def make(
        name: str, *, seed: int = 0, first: int = 0, works: int = 40, users: int = 60, public: bool = True
    ) -> Path:
        root = tmp_path_factory.mktemp("shops")
        return _write_shop(root, name, seed=seed, first=first, works=works, users=users, public=public)

    return make


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def _binary(name: str) -> str | None:
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return str(versions[0]) if versions else shutil.which(name)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a fresh PostgreSQL server on a free port, run by an ordinary user."""
    pytest.importorskip("psycopg", reason="needs the extra `postgres`")
    initdb, postgres = _binary("initdb"), _binary("postgres")
    if initdb is None or postgres is None:
        pytest.skip("no PostgreSQL server on this machine (Debian: apt-get install postgresql)")
    account = "postgres" if os.geteuid() == 0 else getpass.getuser()
    folder = tmp_path_factory.mktemp("postgres")
    if os.geteuid() == 0:
        shutil.chown(folder, account)
        for parent in folder.parents[:2]:
            parent.chmod(0o755)
    as_user = {"user": account} if os.geteuid() == 0 else {}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    subprocess.run(
        [initdb, "-D", folder / "data", "-U", "koinon", "-A", "trust", "--no-sync", "-E", "UTF8"],
        check=True, capture_output=True, cwd="/", **as_user,
    )  # fmt: skip
    process = subprocess.Popen(
        [postgres, "-D", folder / "data", "-p", str(port), "-h", "127.0.0.1", "-k", "", "-F"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **as_user,
    )  # fmt: skip
    try:
        _wait_for(f"postgresql://koinon@127.0.0.1:{port}/postgres")
        yield f"koinon@127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_for(url: str) -> None:
    import psycopg

    for _ in range(150):
        try:
            psycopg.connect(url, connect_timeout=2).close()
            return
        except psycopg.OperationalError:
            time.sleep(0.1)
    raise RuntimeError("PostgreSQL did not come up")


@pytest.fixture(scope="session")
def byte_encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """URI of a small encoder model of bytes with random weights, whose layers LoRA can tune."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    pytest.importorskip("peft")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder = tmp_path_factory.mktemp("models") / "byte-encoder"
    pieces = ["[PAD]", "[CLS]", "[SEP]", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({piece: number for number, piece in enumerate(pieces)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.BertConfig(
            hidden_size=16, num_attention_heads=2, intermediate_size=32, num_hidden_layers=2, vocab_size=len(pieces),
            max_position_embeddings=64, initializer_range=0.3,
        )  # fmt: skip
        transformers.BertModel(config).save_pretrained(folder)
    return f"hf:{folder}"
