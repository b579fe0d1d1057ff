"""``koinon encode`` fills the cache once and says what it did."""

import json

from koinon.cli.main import run


def encode(capsys, *arguments):
    status = run(["encode", *arguments])
    return status, *capsys.readouterr()


def test_a_second_run_encodes_nothing(tmp_path, capsys):
    texts = tmp_path / "titles.txt"
    texts.write_text("Emma\nFaust\nEmma\n", encoding="utf-8")
    arguments = ("--texts", str(texts), "--cache-dir", str(tmp_path / "vectors"), "--json")
    status, out, _ = encode(capsys, *arguments)
    first = json.loads(out)
    assert status == 0
    assert (first["texts"], first["distinct"], first["encoded"], first["dimension"]) == (3, 2, 2, 512)
    _, out, _ = encode(capsys, *arguments)
    assert json.loads(out)["encoded"] == 0


def test_neither_or_both_sources_are_refused(tmp_path, capsys):
    assert encode(capsys)[0] == 2
    assert encode(capsys, str(tmp_path), "--texts", "x")[0] == 2


def test_a_file_that_is_no_utf8_is_named(tmp_path, capsys):
    (tmp_path / "latin.txt").write_bytes("Gefährten".encode("latin-1"))
    status, _, err = encode(capsys, "--texts", str(tmp_path / "latin.txt"))
    assert status == 4
    assert "K309" in err


def test_an_unknown_encoder_is_one_clear_error(tmp_path, capsys):
    (tmp_path / "t.txt").write_text("Emma")
    status, _, err = encode(capsys, "--texts", str(tmp_path / "t.txt"), "--encoder", "word2vec")
    assert status == 4
    assert "K300" in err
