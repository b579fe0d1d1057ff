"""A small decoder of bytes with random weights: what must hold with any model is tested on it."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def decoder(tmp_path_factory):
    """The folder of a language model that reads 2,048 bytes."""
    transformers = pytest.importorskip("transformers")
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("models") / "bytes"
    pieces = ["<|im_end|>", "<|im_start|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({piece: number for number, piece in enumerate(pieces)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>"
    ).save_pretrained(folder)
    torch.manual_seed(5)
    size = {"hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 32}
    config = transformers.LlamaConfig(
        **size, vocab_size=len(pieces), num_hidden_layers=1, max_position_embeddings=2048, initializer_range=0.4
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model(decoder):
    from koinon.space.language import open_language_model

    return open_language_model(f"hf:{decoder}")
