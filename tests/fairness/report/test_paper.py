"""The report in print, and what ``verify`` says of each page and PDF."""

from __future__ import annotations

import json
import re
import shutil
import zlib

import pytest

from koinon.cli.main import run
from koinon.errors import ResourceError
from koinon.fairness.plan import PLAN_FILE
from koinon.fairness.record import LocalRecord
from koinon.fairness.report import (
    PDF_FILE,
    REPORT_FILE,
    page_language,
    page_name,
    render,
    require_pdf,
    write_page,
)
from koinon.fairness.verifying import verify_audit


@pytest.fixture(scope="session")
def printer():
    try:
        require_pdf()
    except ResourceError as error:  # without Pango there is nothing to test
        pytest.skip(error.message)


@pytest.fixture
def copy(audited, tmp_path):
    return shutil.copytree(audited[0], tmp_path / "shop")


def held(folder):
    return {check.what: check.held for check in verify_audit(folder, LocalRecord(folder))}


def test_files_are_named_by_language_and_read_by_their_names(full):
    assert page_name(full, "en") == REPORT_FILE
    assert page_name(full, "de") == "report.de.html"
    assert page_name(full, "de", PDF_FILE) == "report.de.pdf"
    assert page_language(full, "report.de.pdf") == "de"
    assert page_language(full, "report.en.html") is None
    german = full.model_copy(update={"plan": {**full.plan, "report": {"language": "de", "pdf": False}}})
    assert page_name(german, "de") == REPORT_FILE
    assert '<html lang="de">' in render(german)


def test_every_page_in_the_folder_is_checked(copy, audited):
    write_page(copy, audited[1], "de")
    assert held(copy)["report.de.html"] is True
    (copy / "report.de.html").write_text((copy / "report.de.html").read_text().replace("Urteil", "UrteiI", 1))
    assert held(copy)["report.de.html"] is False
    (copy / "report.fr.html").write_text("bonjour")
    assert held(copy)["report.fr.html"] is None
    (copy / REPORT_FILE).unlink()
    assert held(copy)["page"] is None


def test_the_command_prints_a_tagged_pdf_whose_bytes_are_checked(printer, copy, capsys):
    assert run(["audit", "report", str(copy), "--language", "de", "--pdf", "--json"]) == 0
    names = [path.rsplit("/", 1)[1] for path in json.loads(capsys.readouterr().out)]
    assert names == ["report.de.html", "report.de.pdf"]
    printed = copy / "report.de.pdf"
    whole = printed.read_bytes()
    assert whole.startswith(b"%PDF-")
    streams = re.findall(rb"stream\r?\n(.*?)endstream", whole, flags=re.S)
    inside = b"".join(zlib.decompress(one) for one in streams if one[:1] == b"x")
    assert all(part in inside for part in (b"/StructTreeRoot", b"/Lang (de)", b"/Table", b"/H1"))
    assert held(copy)["report.de.pdf"] is True  # printed again, to the same bytes
    printed.write_bytes(whole[:-9] + b"\n" + whole[-9:])
    assert held(copy)["report.de.pdf"] is None


def test_a_plan_may_ask_for_german(shop, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = ["--partner", str(shop), "--attribute", "age", "-r", "popularity", "--language", "de"]
    assert run(["audit", "plan", "mine", *asked]) == 0
    plan = tmp_path / "mine" / PLAN_FILE
    assert 'question = "Bekommt eine Gruppe nach age' in plan.read_text(encoding="utf-8")
    plan.write_text(plan.read_text(encoding="utf-8").replace("draws = 2000", "draws = 200"), encoding="utf-8")
    assert run(["audit", "run", "mine", "--language", "en"]) == 0
    page = (tmp_path / "mine" / REPORT_FILE).read_text(encoding="utf-8")
    assert '<html lang="de">' in page
    assert "Bekommt eine Gruppe nach age" in page
    assert (tmp_path / "mine" / "report.en.html").is_file()
    assert run(["audit", "verify", "mine"]) == 0


def test_without_a_printer_the_audit_says_so_before_it_begins(copy, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "weasyprint", None)
    with pytest.raises(ResourceError, match="K806"):
        require_pdf()
    (copy / "results.json").unlink()
    assert run(["audit", "run", str(copy), "--pdf"]) == 9
    assert "K806" in capsys.readouterr().err
    assert not (copy / "results.json").exists()
