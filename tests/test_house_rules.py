"""Rules of the houses that neither a linter nor a type checker holds."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
HOUSES = ("platform", "clients", "server", "fairness", "protos")
CODE = re.compile(r'"(K[1-8]\d{2})"')


def sources() -> list[Path]:
    return [path for house in HOUSES for path in sorted((ROOT / house).rglob("*.py"))]


def test_roots_are_namespaces():
    for house in HOUSES:
        assert not (ROOT / house / "__init__.py").exists()
        assert not (ROOT / house / "koinon" / "__init__.py").exists()
        assert not list((ROOT / house).glob("*.py"))


def test_the_standard_platform_module_is_not_shadowed():
    import platform

    assert Path(str(platform.__file__)).parent.name.startswith("python3")


def test_every_error_code_is_documented_and_every_documented_code_exists():
    raised = {code for path in sources() for code in CODE.findall(path.read_text(encoding="utf-8"))}
    documented = set(re.findall(r"^\| (K\d{3}) \|", (ROOT / "docs" / "errors.md").read_text(encoding="utf-8"), re.M))
    assert raised - documented == set()
    assert documented - raised - {"K099", "K100"} == set()


def test_every_package_says_what_lives_there():
    for house in HOUSES:
        for path in (ROOT / house).rglob("__init__.py"):
            assert path.read_text(encoding="utf-8").lstrip().startswith('"""'), path
