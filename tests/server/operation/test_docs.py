"""Every command that docs/operation.md shows exists, with every option and argument as shown."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from koinon.cli.main import root

DOCS = Path(__file__).parents[3] / "docs"
TEXT = (DOCS / "operation.md").read_text(encoding="utf-8")
_COMPOSED = re.compile(r"docker compose (run --rm \w+|exec \w+ koinon) ")
SHOWN = sorted(
    {
        *(line.strip() for line in TEXT.splitlines() if line.startswith("    koinon ")),
        *(_COMPOSED.sub("koinon ", line.strip()) for line in TEXT.splitlines() if _COMPOSED.search(line)),
        *(found for found in re.findall(r"`(koinon [^`]+)`", TEXT) if len(found.split()) > 2),
    }
)


def test_the_guide_is_short_and_shows_commands() -> None:
    assert len(TEXT.splitlines()) <= 120
    assert len(SHOWN) >= 20


@pytest.mark.parametrize("shown", SHOWN)
def test_a_command_is_as_it_is_shown(shown: str) -> None:
    words = shlex.split(shown)[1:]
    command: click.Command = root
    context = click.Context(root, info_name="koinon")
    while isinstance(command, click.Group):
        name = words.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"no command {name}"
        context = click.Context(found, parent=context, info_name=name)
        command = found
    # the parser refuses unknown options, missing values, and arguments that are too many or too few
    command.make_context(context.info_name, words, parent=context.parent, resilient_parsing=False)


def test_every_file_it_names_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)", TEXT):
        assert (DOCS / target).is_file(), target
