"""``koinon train``: train a recommender on a partner's folder or a public data set, and measure it."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from koinon.cli.epochs import shown_epochs

if TYPE_CHECKING:
    from koinon.data import Split, Tables
    from koinon.space import Space

__all__ = ["Directory", "Encoder", "MinimumItemEvents", "Named", "Protocol", "app", "space_for", "split_of"]

app = typer.Typer(add_completion=False)

Directory = Annotated[
    Path | None, typer.Argument(metavar="[DIR]", help="A partner's folder (with partner.toml and a vault).")
]
Named = Annotated[str | None, typer.Option("--dataset", help="A public data set, as `koinon data list` names it.")]
Protocol = Annotated[
    Literal["auto", "time", "holdout", "leave-last-out"],
    typer.Option("--protocol", help="How events are divided. auto: by time where there are times, else holdout."),
]
MinimumItemEvents = Annotated[
    int, typer.Option("--minimum-item-events", min=1, help="The catalogue holds items with at least so many events.")
]
Encoder = Annotated[str, typer.Option("--encoder", help="Gives texts their vectors, where the settings ask for them.")]

_EPILOG = (
    "Examples: `koinon train shops/books-de --recommender ease --out trained/ease`; `koinon train --dataset ml-1m "
    "--protocol leave-last-out --minimum-item-events 1 --recommender hstu --config hstu.toml --out trained/hstu`."
)


@app.command(epilog=_EPILOG)
def train(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Keeps checkpoints, the recommender and report.json.", file_okay=False)
    ],
    recommender: Annotated[
        str, typer.Option("--recommender", "-r", help="E.g. popularity, itemknn, ease, semantic-ease, sasrec, hstu.")
    ],
    directory: Directory = None,
    dataset: Named = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Its settings, a TOML file; without it the defaults.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="At most so many, whatever --config says.")
    ] = None,
    protocol: Protocol = "auto",
    minimum_item_events: MinimumItemEvents = 2,
    again: Annotated[
        bool, typer.Option("--again/--once", help="Train again on all but the test, for as many epochs as were best.")
    ] = True,
    published: Annotated[
        bool,
        typer.Option(
            "--published/--honest",
            help="Stop early by validation that hears when the target happened, as published figures of HSTU do.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    encoder: Encoder = "use-multilingual",
    as_json: Annotated[bool, typer.Option("--json", help="Progress as JSON lines; the last is the report.")] = False,
) -> None:
    """Train a recommender, stop early on validation, and measure it on the test set over the whole catalogue.

    An interrupted training goes on from its last checkpoint when the same command is given again.
    """
    from koinon.config import write_atomically
    from koinon.recommenders.training import TRAINABLE, config_type
    from koinon.recommenders.training import train as train_on

    if recommender not in TRAINABLE:
        raise typer.BadParameter(f"no recommender {recommender!r}; choose {', '.join(TRAINABLE)}")
    kind = config_type(recommender)
    settings = kind() if config is None else kind.from_toml(config)
    if epochs is not None:
        if "epochs" not in kind.model_fields:
            raise typer.BadParameter(f"{recommender} has no epochs")
        settings = settings.model_copy(update={"epochs": epochs})
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    split = split_of(directory, dataset, protocol, minimum_item_events)
    space = space_for(recommender, settings.model_dump(), encoder)
    with shown_epochs(as_json, "NDCG@10", "tokens") as on_progress:
        trained = train_on(
            recommender,
            settings,
            split,
            space,
            seed=seed,
            again=again,
            published=published,
            folder=out,
            on_progress=on_progress,
        )
    report = {"command": shlex.join(["koinon", *sys.argv[1:]]), "data": split.train.name, **trained.report}
    write_atomically(out / "report.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    if as_json:
        print(json.dumps({"event": "report", **report}, ensure_ascii=False), flush=True)
        return
    _summary(report, out)


def tables_of(directory: Path | None, dataset: str | None) -> tuple[str, Tables]:
    """Name and tables of a partner's folder, or of a public data set."""
    from koinon.data import Vault

    if (directory is None) == (dataset is None):
        raise typer.BadParameter("give either a partner's folder or --dataset NAME")
    if dataset is not None:
        from koinon.data.public import get

        return dataset, get(dataset)
    assert directory is not None
    vault = Vault.open(directory)
    return vault.name, vault.tables()


def split_of(directory: Path | None, dataset: str | None, protocol: Any, minimum_item_events: int) -> Split:
    """Divide a partner's events, or a public data set's; ``time`` by the clock of its own events."""
    from koinon.data import SplitConfig, global_clock, make_split

    name, tables = tables_of(directory, dataset)
    clock = {}
    if protocol in ("auto", "time") and tables.events["timestamp"].null_count() == 0:
        clock = dict(zip(("validation_from", "test_from"), global_clock([tables.events]), strict=True))
    return make_split(name, tables, SplitConfig(protocol=protocol, minimum_item_events=minimum_item_events, **clock))


def space_for(recommender: str, settings: dict[str, Any], encoder: str) -> Space | None:
    """The space where a recommender's settings read texts; ``None`` elsewhere."""
    from koinon.recommenders.training import reads_texts
    from koinon.space import open_space

    return open_space(encoder) if reads_texts(recommender, settings) else None


def _summary(report: dict[str, Any], out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{report['recommender']} on {report['data']}, whole catalogue, 95 % intervals over users")
    for column in ("asked", "users", "HR@10", "NDCG@10"):
        table.add_column(column, justify="left" if column == "asked" else "right")
    names = {"test": "at the time of the request", "test_at_target_time": "at the target's time (as published)"}
    for column, said in names.items():
        if column in report:
            cells = [
                f"{one['mean']:.4f} ({one['lo']:.4f} to {one['hi']:.4f})"
                for one in (report[column]["hr@10"], report[column]["ndcg@10"])
            ]
            table.add_row(said, f"{report[column]['ndcg@10']['n']:,}", *cells)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160  # a file or a pipe: nothing to fit into
    console.print(table)
    console.print(f"{report['seconds']:.0f} s. Report: {out / 'report.json'}", markup=False, soft_wrap=True)
