"""docs/walkthrough.md, word for word, on files made here."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "walkthrough.md"
THINGS = ("gel pen", "fountain pen", "notebook", "stapler", "paper clips", "desk lamp", "ruler", "envelopes", "marker")
DINGE = ("Gelstift", "Füller", "Notizbuch", "Hefter", "Büroklammern", "Lampe", "Lineal", "Umschläge", "Marker")
COLOURS = {"blue": "blau", "red": "rot", "green": "grün", "black": "schwarz"}
MAKERS = ("Aldra", "Bexo", "Corvin")


def write(path: Path, delimiter: str, rows: list[tuple[object, ...]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


def orders(rng: np.random.Generator, customers: int, items: int) -> list[tuple[str, int, str]]:
    """Everybody likes one colour, so that there is something to learn."""
    found = []
    for customer in range(customers):
        taste = int(rng.integers(4))
        for item in rng.choice(np.arange(taste, items, 4), size=6, replace=False):
            found.append((f"c{customer:03d}", int(item), f"2026-0{rng.integers(1, 9)}-1{rng.integers(10)} 10:00:00"))
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("walkthrough")
    rng = np.random.default_rng(3)
    products = [(n, thing, colour) for n, (thing, colour) in enumerate((t, c) for t in THINGS for c in COLOURS)]
    maker = {n: MAKERS[n % len(MAKERS)] for n, *_ in products}
    write(
        here / "north" / "products.csv",
        ",",
        [("sku", "product", "maker", "category"), *((f"N{n}", f"{t} {c}", maker[n], "office") for n, t, c in products)],
    )
    write(
        here / "north" / "orders.csv",
        ",",
        [("customer", "sku", "ordered_at"), *((u, f"N{i}", at) for u, i, at in orders(rng, 80, len(products)))],
    )
    german = dict(zip(THINGS, DINGE, strict=True))
    write(
        here / "south" / "artikel.csv",
        ";",
        [
            ("nr", "bezeichnung", "marke"),
            *((f"S{n}", f"{german[t]} {COLOURS[c]}", maker[n]) for n, t, c in products),
        ],
    )
    write(
        here / "south" / "bestellungen.csv",
        ";",
        [("kunde", "nr", "datum"), *((u, f"S{i}", at) for u, i, at in orders(rng, 60, len(products)))],
    )
    return here


def run(command: str, here: Path) -> str:
    program, *arguments = shlex.split(command)
    assert program == "koinon"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100", "XDG_CACHE_HOME": str(here / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "koinon.cli", *arguments],
        cwd=here, env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.timeout(600)
def test_every_command_of_the_page_works_in_order(files: Path):
    page = PAGE.read_text(encoding="utf-8")
    (settings,) = re.findall(r"```toml\n(.*?)```", page, re.S)
    commands = [line for block in re.findall(r"```sh\n(.*?)```", page, re.S) for line in block.splitlines()]
    printed = {}
    for command in commands:
        if command.startswith("koinon federation run"):
            (files / "shops" / "federation.toml").write_text(settings, encoding="utf-8")
        printed[command] = run(command, files)
    checks = [text for command, text in printed.items() if " check " in command]
    assert all("36" in text and text.strip() for text in checks)
    liked, wished = list(printed.values())[-2:]
    assert "pen" in liked
    answer = json.loads(wished)
    assert answer["partner"] == "south"
    assert len(answer["items"]) == 5
    assert all(item["item_id"].startswith("S") for item in answer["items"])


def test_what_left_the_shops_is_on_record(files: Path):
    for shop in ("north", "south"):
        log = files / "shops" / shop / "federation" / "egress.jsonl"
        crossings = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        assert crossings
        assert "gel pen" not in log.read_text(encoding="utf-8")
