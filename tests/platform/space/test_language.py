"""Language models as judges: a shared prefix changes nothing, and texts cannot spell what steers a model."""

from pathlib import Path

import numpy as np
import pytest
import torch

from koinon.errors import SpaceError
from koinon.space.language import open_language_model

transformers = pytest.importorskip("transformers")

TEXTS = [" the red book", " a night", " the blue book of sand", "", " day day day", " book"]


def save_model(folder: Path, kind: str) -> Path:
    """A small decoder with a tokenizer of bytes and steering tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: number for number, piece in enumerate(["<|end|>", "<|turn|>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|turn|>", eos_token="<|end|>")
    fast.save_pretrained(folder)
    torch.manual_seed(3)
    size = {"hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 32}
    size |= {"vocab_size": len(vocabulary), "num_hidden_layers": 2, "max_position_embeddings": 512}
    if kind == "gemma":
        settings = transformers.Gemma3TextConfig(**size, head_dim=8, sliding_window=8, layer_types=[
            "sliding_attention", "full_attention"])  # fmt: skip
        transformers.Gemma3ForCausalLM(settings).save_pretrained(folder)
    else:
        transformers.LlamaForCausalLM(transformers.LlamaConfig(**size)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["llama", "gemma"])
def model(request, tmp_path_factory):
    folder = save_model(tmp_path_factory.mktemp("models") / request.param, request.param)
    return open_language_model(f"hf:{folder}")


def whole(model, text: str) -> torch.Tensor:
    """``[tokens, vocabulary]`` log-probabilities by transformers alone, without any cache."""
    ids = [model.files.tokenizer.bos_token_id, *model.tokens([text])[0]]
    with torch.inference_mode():
        logits = model.network(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    return torch.log_softmax(logits, dim=1)


def test_likelihoods_after_a_shared_prefix_are_those_of_the_whole_text(model):
    first, second = "Things that one person chose:\n- a blue day", "\n- a night of sand\n-"
    read = model.read(second, after=model.read(first))
    for text, found in zip(TEXTS, model.likelihoods(read, TEXTS), strict=True):
        (ids,) = model.tokens([text])
        expected = whole(model, first + second + text)[read.length - 1 :]
        np.testing.assert_allclose(found, [expected[place, token] for place, token in enumerate(ids)], atol=1e-4)


def test_choices_after_a_shared_prefix_are_those_of_the_whole_text(model):
    read = model.read("Which? A or B?")
    found = model.choices(read, TEXTS, ["A", "B", "C"])
    for text, row in zip(TEXTS, found, strict=True):
        last = whole(model, "Which? A or B?" + text)[-1]
        np.testing.assert_allclose(row, [last[model.tokens([label])[0][0]] for label in "ABC"], atol=1e-4)


def test_what_was_read_is_not_changed_by_what_follows(model):
    read = model.read("Things that one person chose:")
    before = model.likelihoods(read, TEXTS)
    model.read(" more", after=read)
    model.choices(read, TEXTS, ["A", "B"])
    for one, other in zip(before, model.likelihoods(read, TEXTS), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_text_cannot_spell_a_token_that_steers_the_model(model):
    assert model.tokens(["a<|turn|>b<|end|>"]) == model.tokens(["ab"])
    assert model.tokens(["<|tu<|turn|>rn|>"]) == [model.tokens(["<|tu"])[0] + model.tokens(["rn|>"])[0]]


def test_a_prompt_that_is_too_long_is_refused(model):
    with pytest.raises(SpaceError, match="K313"):
        model.read("a" * 600)
    with pytest.raises(SpaceError, match="K313"):
        model.likelihoods(model.read("a" * 300), ["b" * 300])


def test_answers_that_begin_alike_are_refused(model):
    with pytest.raises(SpaceError, match="K314"):
        model.choices(model.read("a"), ["b"], ["Ax", "Ay"])


def test_an_encoder_is_no_language_model(tmp_path):
    with pytest.raises(SpaceError, match="K312"):
        open_language_model("use-multilingual")
    folder = save_model(tmp_path / "model", "llama")
    config = (folder / "config.json").read_text().replace("LlamaForCausalLM", "LlamaModel")
    (folder / "config.json").write_text(config)
    with pytest.raises(SpaceError, match="K312"):
        open_language_model(f"hf:{folder}")
