"""Tiny models with random weights, a decoder and an encoder, and a shop whose items go together by colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from koinon.data import Domain, Interactions
from koinon.data.building import item_table

transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")

SIZE = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Networks of this size are slower on several threads, and on a busy machine much slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def decoder(tmp_path_factory) -> Path:
    """A decoder of bytes, two layers."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("models") / "decoder"
    pieces = ["<|im_end|>", "<|im_start|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({piece: number for number, piece in enumerate(pieces)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>"
    ).save_pretrained(folder)
    torch.manual_seed(5)
    config = transformers.LlamaConfig(
        **SIZE, num_key_value_heads=1, vocab_size=len(pieces), num_hidden_layers=2, max_position_embeddings=512,
        initializer_range=0.3,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def bert(tmp_path_factory) -> Path:
    """An encoder of whole words, two layers."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder = tmp_path_factory.mktemp("models") / "bert"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *COLOURS, *THINGS]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        **SIZE, vocab_size=len(words), num_hidden_layers=2, max_position_embeddings=40, initializer_range=0.3
    )
    transformers.BertModel(config).save_pretrained(folder)
    return folder


COLOURS = ("red", "blue", "green", "white")
THINGS = ("pen", "book", "lamp", "chair", "cup", "box", "ring", "hat", "bag", "clock")


def coloured_shop(people: int = 60, seed: int = 0) -> tuple[tuple[str, ...], list[list[int]]]:
    """Texts, and what each person took: four things of one colour."""
    texts = tuple(f"{colour} {thing}" for colour in COLOURS for thing in THINGS)
    rng = np.random.default_rng(seed)
    return texts, [
        (rng.choice(len(THINGS), 4, replace=False) + len(THINGS) * int(rng.integers(len(COLOURS)))).tolist()
        for _ in range(people)
    ]


def domain_of(texts, taken, *, times: bool = False) -> Domain:
    """A domain whose people took items in the order given; every item is of the category of its first word."""
    items = item_table(
        [f"i{n:03}" for n in range(len(texts))], texts, texts, categories=[[*text.split()[:1], text] for text in texts]
    )
    user = np.repeat(np.arange(len(taken)), [len(one) for one in taken]).astype(np.int32)
    item = np.array([one for some in taken for one in some], dtype=np.int32)
    time = np.arange(len(item), dtype=np.int64) if times else None
    return Domain("shop", items, tuple(f"u{n:03}" for n in range(len(taken))), Interactions(user, item, time))


@pytest.fixture(scope="session")
def shop() -> Domain:
    return domain_of(*coloured_shop())
