"""``koinon click``: train models of clicks, measure them, and hold two of them against each other."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from koinon.cli.epochs import shown_epochs
from koinon.cli.train import tables_of

if TYPE_CHECKING:
    from koinon.recommenders.clicks import ClickData

__all__ = ["app"]

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode="rich")

Directory = Annotated[
    Path | None, typer.Argument(metavar="[DIR]", help="A partner's folder (with partner.toml and a vault).")
]
Named = Annotated[str | None, typer.Option("--dataset", help="A public data set, as `koinon data list` names it.")]
LikedAbove = Annotated[float, typer.Option("--liked-above", help="A rating above it is a like.")]
Dropped = Annotated[float, typer.Option("--dropped", help="A rating equal to it is left out, as neither.")]
Without = Annotated[
    list[str] | None,
    typer.Option("--without", help="A column of people that is no field, e.g. gender; may be repeated."),
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: JSON lines, the last is the result.")]
Seed = Annotated[int, typer.Option("--seed", min=0)]

_TRAIN = (
    "Example: `koinon click train --dataset ml-1m --model dcnv2 --out trained/dcnv2`; with a table `alignment` in the "
    "settings (`--config bench/configs/clicks/ctrl-dcnv2.toml`) it is CTRL."
)
_COMPARE = "Example: `koinon click compare trained/ctrl-dcnv2 trained/dcnv2 --dataset ml-1m`."


@app.callback()
def click() -> None:
    """Models of how likely a person likes an item: AUC, AUC within people, log loss."""


@app.command(epilog=_TRAIN)
def train(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Keeps checkpoints, the model and report.json.", file_okay=False)
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="logistic, trees, deepfm, dcnv2 or autoint.")],
    directory: Directory = None,
    dataset: Named = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Its settings, a TOML file; without it the defaults.")
    ] = None,
    liked_above: LikedAbove = 3.0,
    dropped: Dropped = 3.0,
    without: Without = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Train a click model, stop it early on validation, and measure it on the last tenth of the rows.

    Rows are divided 8:1:1 by time. An interrupted training goes on when the same command is given again.
    """
    from koinon.config import write_atomically
    from koinon.recommenders.clicks import CLICK_MODELS, NetworkConfig, train_clicks
    from koinon.recommenders.clicks.training import click_config_type
    from koinon.space import open_space

    if model not in CLICK_MODELS:
        raise typer.BadParameter(f"no click model {model!r}; choose {', '.join(CLICK_MODELS)}")
    kind = click_config_type(model)
    settings = kind() if config is None else kind.from_toml(config)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    data = _data(directory, dataset, liked_above, dropped, without)
    aligned = settings.alignment if isinstance(settings, NetworkConfig) else None
    space = None if aligned is None else open_space(aligned.encoder)
    with shown_epochs(as_json, "AUC", "rows") as on_progress:
        measured = train_clicks(model, settings, data, space, seed=seed, folder=out, on_progress=on_progress)
    report = {"command": shlex.join(["koinon", *sys.argv[1:]]), "data": data.name, **measured.report}
    write_atomically(out / "report.json", json.dumps(report, indent=2) + "\n")
    if as_json:
        print(json.dumps({"event": "report", **report}), flush=True)
        return
    _say_figures(report["test"])
    typer.echo(f"{report['seconds']:.0f} s. Report: {out / 'report.json'}")


@app.command(epilog=_COMPARE)
def compare(
    arm: Annotated[Path, typer.Argument(help="What `koinon click train` wrote for one model.", file_okay=False)],
    baseline: Annotated[Path, typer.Argument(help="And for the one it is held against.", file_okay=False)],
    directory: Annotated[
        Path | None, typer.Option("--directory", help="The partner's folder both were trained on.")
    ] = None,
    dataset: Named = None,
    liked_above: LikedAbove = 3.0,
    dropped: Dropped = 3.0,
    without: Without = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """What one trained model adds over another on the same test rows: paired over people, with intervals."""
    from koinon.evaluation.clicks import click_gains
    from koinon.recommenders.clicks.training import kept_chances

    data = _data(directory, dataset, liked_above, dropped, without)
    ours, theirs = (kept_chances(folder, data) for folder in (arm, baseline))
    gains = click_gains(data.test.label, ours, theirs, data.test.person, seed=seed)
    if as_json:
        print(json.dumps({name: asdict(gain) for name, gain in gains.items()}), flush=True)
        return
    for name, gain in gains.items():
        typer.echo(f"{name}: {gain.gain:+.4f} ({gain.lo:+.4f} to {gain.hi:+.4f}), p = {gain.p:.3f}")


def _data(
    directory: Path | None, dataset: str | None, liked_above: float, dropped: float, without: list[str] | None
) -> ClickData:
    from koinon.recommenders.clicks import click_data

    name, tables = tables_of(directory, dataset)
    return click_data(name, tables, liked_above=liked_above, dropped=dropped, without=without or ())


def _say_figures(test: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Test rows, 95 % intervals over people")
    for column in ("metric", "value", "interval"):
        table.add_column(column)
    for name, found in test.items():
        table.add_row(name, f"{found['mean']:.4f}", f"{found['lo']:.4f} to {found['hi']:.4f}")
    Console(highlight=False).print(table)
