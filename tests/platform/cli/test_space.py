"""``koinon space``, run as a user runs it, in this process."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
import torch

from koinon.cli.main import run
from koinon.data import PartnerConfig, Tables, Vault
from koinon.data.building import item_table
from koinon.data.tables import EVENT_SCHEMA
from koinon.space import open_encoder

transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")


@pytest.fixture(scope="module")
def shop_folder(tmp_path_factory):
    """Thirty people, six timed events each, of twenty items."""
    rng = np.random.default_rng(0)
    names = [f"item {n}" for n in range(20)]
    events = pl.DataFrame(
        {
            "user_id": [f"reader-{user}" for user in range(30) for _ in range(6)],
            "item_id": [names[item] for _ in range(30) for item in rng.permutation(20)[:6]],
            "timestamp": [1_600_000_000_000 + 1000 * int(n) for n in rng.permutation(180)],
            "kind": ["visit"] * 180,
            "weight": [1.0] * 180,
        }
    ).cast(dict(EVENT_SCHEMA))
    people = pl.DataFrame({"user_id": [f"reader-{user}" for user in range(30)]})
    root = tmp_path_factory.mktemp("shops") / "shop"
    items = item_table(names, names, names, categories=[["thing", name] for name in names])
    Vault.create(root, PartnerConfig.model_validate({"name": "shop"}), Tables(items, events, people))
    return root


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("models") / "decoder"
    pieces = ["<|im_end|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({piece: number for number, piece in enumerate(pieces)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>").save_pretrained(folder)
    torch.manual_seed(5)
    size = {"hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 32}
    config = transformers.LlamaConfig(
        **size, vocab_size=len(pieces), num_hidden_layers=1, max_position_embeddings=256, initializer_range=0.4
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_a_space_is_tuned_read_and_writes_tags(shop_folder, decoder, tmp_path, capsys):
    config, out = tmp_path / "small.toml", tmp_path / "tuned"
    config.write_text(
        "epoch_pairs = 16\nrecall_at = 5\n[compression]\ntext_tokens = 8\ndimension = 4\n[learner]\nbatch_pairs = 8\n"
    )
    tune = ["space", "tune", str(shop_folder), "-b", f"hf:{decoder}", "-c", str(config), "-o", str(out), "--json"]
    assert run([*tune, "--epochs", "1"]) == 0
    *epochs, report = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    phases = [line["phase"] for line in epochs]
    assert list(dict.fromkeys(phases)) == [*(f"map {number}/4" for number in (1, 2, 3, 4)), ""]
    for phase in dict.fromkeys(phases):
        numbers = [line["epoch"] for line in epochs if line["phase"] == phase]
        assert numbers == list(range(1, len(numbers) + 1))
    assert len(epochs) > 1
    assert epochs[-1]["rows_per_second"] > 0
    assert report["pairs"] > 0
    assert set(report["validation"]["recall@5"]) == {"start", "map", "tuned"}
    assert all(0 <= value <= 1 for value in report["validation"]["recall@5"].values())
    assert (
        run(["encode", str(shop_folder), "--encoder", f"tuned:{out}", "--cache-dir", str(tmp_path / "v"), "--json"])
        == 0
    )
    (encoded,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (encoded["dimension"], encoded["encoded"]) == (4, 20)
    texts = tmp_path / "texts.txt"
    texts.write_text("item 1\n\nein Buch\n", encoding="utf-8")
    assert run(["space", "tags", str(out), "--texts", str(texts), "--most-tokens", "3", "--json"]) == 0
    tags = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["text"] for line in tags] == ["item 1", "", "ein Buch"]


def test_without_more_words_a_map_is_learned_over_the_default_encoder(shop_folder, tmp_path, capsys):
    assert run(["space", "tune", str(shop_folder), "-o", str(tmp_path / "out"), "--json"]) == 0
    *epochs, report = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["phase"] for line in epochs} == {f"map {number}/4" for number in (1, 2, 3, 4)}
    assert set(report["validation"]["recall@1"]) == {"start", "map"}
    assert report["settings"]["base"] == "use-multilingual"
    assert open_encoder(report["encoder"]).dimension == 256


def test_what_cannot_be_tuned_is_said_in_one_line(shop_folder, tmp_path, capsys):
    arguments = ["space", "tune", str(shop_folder), "--epochs", "1", "-o", str(tmp_path / "out"), "--json"]
    assert run(arguments) == 4
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "K318"


def test_help_shows_an_example(capsys):
    assert run(["space", "tune", "--help"]) == 0
    assert "koinon encode" in " ".join(capsys.readouterr().out.split())
