"""Encoders by name: what is accepted, and one clear error for what is not."""

import pytest

from koinon.errors import SpaceError
from koinon.space import open_encoder
from koinon.space.encoders import parse_uri


def test_options_come_from_the_query():
    parsed = parse_uri("hf:org/name?pooling=last&prompt=Represent: {text}&max_length=64&revision=v1&dtype=bfloat16")
    assert (parsed.scheme, parsed.target) == ("hf", "org/name")
    assert parsed.options.pooling == "last"
    assert parsed.options.prompt == "Represent: {text}"
    assert (parsed.options.max_length, parsed.options.revision, parsed.options.dtype) == (64, "v1", "bfloat16")


def test_percent_escapes_and_plus_signs_in_a_prompt():
    assert parse_uri("hf:a?prompt=C%2B%2B+x %26 {text}").options.prompt == "C+++x & {text}"


@pytest.mark.parametrize("uri", ["", "bert", "hf:", "hf", "use-multilingual:x", "ftp:thing", "gguf:"])
def test_unknown_names_are_refused(uri):
    with pytest.raises(SpaceError, match=r"K300.*Use `use-multilingual`"):
        parse_uri(uri)


@pytest.mark.parametrize(
    ("query", "named"),
    [("pooling=sum", "pooling"), ("max_length=2", "max_length"), ("prompt=hello", "prompt"), ("speed=9", "speed")],
)
def test_wrong_options_are_named(query, named):
    with pytest.raises(SpaceError, match=f"K306.*`{named}`"):
        parse_uri(f"hf:name?{query}")


@pytest.mark.parametrize("uri", ["hf:/no/such/folder", "hf:./nothing", "gguf:/no/such.gguf"])
def test_what_is_not_there_is_named(uri):
    with pytest.raises(SpaceError, match=r"K302.*no f"):
        open_encoder(uri)


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    with pytest.raises(SpaceError, match=r"K301.*koinon\[multilingual\]"):
        open_encoder("use-multilingual")
    with pytest.raises(SpaceError, match=r"K301.*koinon\[hf\]"):
        open_encoder("hf:somewhere")
