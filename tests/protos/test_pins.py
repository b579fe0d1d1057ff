"""What is pinned: the installed package, and the bundle that Flower makes of the thin app."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest

import koinon
from koinon.protos.installed import code_sha256
from koinon.protos.thin_app import THIN_APP, app_sha256, bundle_sha256


@pytest.fixture(scope="module")
def bundle() -> bytes:
    from flwr.cli.build import build_fab_from_files

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Flower's way with pathspec
        return build_fab_from_files({"pyproject.toml": THIN_APP.encode()})[0]


def repacked(bundle: bytes, *, more: tuple[tuple[str, bytes], ...] = (), packing: int = zipfile.ZIP_STORED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(bundle)) as before, zipfile.ZipFile(target, "w", packing) as after:
        for entry in before.infolist():
            after.writestr(entry.filename, before.read(entry))
        for name, content in more:
            after.writestr(name, content)
    return target.getvalue()


def test_flowers_bundle_of_the_thin_app_has_the_hash_that_is_pinned(bundle: bytes):
    assert bundle_sha256(bundle) == app_sha256()


def test_packing_makes_no_difference(bundle: bytes):
    assert repacked(bundle) != bundle
    assert bundle_sha256(repacked(bundle)) == app_sha256()


@pytest.mark.parametrize("name", ["koinon/clients/app.py", "a/../pyproject.toml", ".info/x.py", "sitecustomize.py"])
def test_a_file_more_makes_a_difference(bundle: bytes, name: str):
    assert bundle_sha256(repacked(bundle, more=((name, b""),))) != app_sha256()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_twice_makes_a_difference(bundle: bytes):
    assert bundle_sha256(repacked(bundle, more=(("pyproject.toml", b"x = 1"),))) != app_sha256()
    again = zipfile.ZipFile(io.BytesIO(bundle)).read("pyproject.toml")
    assert bundle_sha256(repacked(bundle, more=(("pyproject.toml", again),))) != app_sha256()


@pytest.mark.parametrize("other", [b"", b"PK", b"hello" * 100])
def test_what_is_no_bundle_has_no_hash(other: bytes):
    assert bundle_sha256(other) == ""


def test_a_cut_or_swollen_bundle_has_no_hash(bundle: bytes):
    assert bundle_sha256(bundle[:-40]) == ""
    huge = repacked(bundle, more=(("bomb.md", b"0" * (2 << 20)),), packing=zipfile.ZIP_DEFLATED)
    assert len(huge) < 10_000
    assert bundle_sha256(huge) == ""


def _hash_of(*roots: Path) -> str:
    """The hash that a fresh interpreter finds which sees these folders alone."""
    asked = (
        f"import sys; sys.path[:0] = {[str(root) for root in roots]!r}\n"
        "import koinon; koinon.__path__ = [p + '/koinon' for p in sys.path[:%d]]\n"
        % len(roots)
        + "from koinon.protos.installed import code_sha256; print(code_sha256())"
    )
    return subprocess.run([sys.executable, "-c", asked], check=True, capture_output=True, text=True).stdout.strip()


def test_the_same_code_has_the_same_hash_in_one_folder_as_in_five(tmp_path: Path):
    for root in map(Path, koinon.__path__):
        shutil.copytree(root, tmp_path / "koinon", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    assert _hash_of(tmp_path) == code_sha256()
    (tmp_path / "koinon" / "protos" / "__pycache__").mkdir(exist_ok=True)
    (tmp_path / "koinon" / "protos" / "__pycache__" / "x.cpython-311.pyc").write_bytes(b"x")
    assert _hash_of(tmp_path) == code_sha256()
    data = tmp_path / "koinon" / "data" / "templates" / "check.html.j2"
    data.write_text(data.read_text() + " ")
    assert _hash_of(tmp_path) != code_sha256()


def test_one_more_module_is_another_koinon(tmp_path: Path):
    (tmp_path / "koinon").mkdir()
    (tmp_path / "koinon" / "extra.py").write_text("")
    roots = [Path(path).parent for path in koinon.__path__]
    assert _hash_of(*roots) == code_sha256()
    assert _hash_of(*roots, tmp_path) != code_sha256()
