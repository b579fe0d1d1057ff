"""``koinon tune``: choose recommenders' settings on validation, each with the same number of trials."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from koinon.cli.train import Directory, Encoder, MinimumItemEvents, Named, Protocol, space_for, split_of

if TYPE_CHECKING:
    from koinon.recommenders.tuning import Family, Trial

__all__ = ["app"]

app = typer.Typer(add_completion=False)

_EPILOG = (
    "Example: `koinon tune --dataset ml-100k --protocol leave-last-out -r ease -r sasrec --budget 12 --out tuned`. "
    "`koinon train --config tuned/sasrec.toml` takes what it found."
)


@app.command(epilog=_EPILOG)
def tune(
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Gets one NAME.toml per recommender, and all trials.", file_okay=False),
    ],
    recommender: Annotated[list[str], typer.Option("--recommender", "-r", help="May be repeated.")],
    directory: Directory = None,
    dataset: Named = None,
    budget: Annotated[int, typer.Option("--budget", min=1, help="Trials for each recommender at most.")] = 24,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Of a network's trial at most.")] = None,
    protocol: Protocol = "auto",
    minimum_item_events: MinimumItemEvents = 2,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    encoder: Encoder = "use-multilingual",
    as_json: Annotated[bool, typer.Option("--json", help="Trials as JSON lines; the last is the result.")] = False,
) -> None:
    """Choose settings by NDCG@10 on validation, one setting at a time; the test set is not read.

    The same command goes on after it was interrupted: trials that are finished are not run again.
    """
    import numpy as np

    from koinon.config import write_atomically
    from koinon.recommenders.tuning import tune as choose

    families = [_family(name, epochs, seed) for name in recommender]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    split = split_of(directory, dataset, protocol, minimum_item_events)
    space = next((space for name in recommender if (space := space_for(name, {}, encoder))), None)

    def tell(trial: Trial) -> None:
        settings = trial.config.model_dump(mode="json", exclude_defaults=True)
        if as_json:
            said = {"event": "trial", "recommender": trial.family, "value": trial.value, "seconds": trial.seconds}
            print(json.dumps({**said, "config": settings}), flush=True)
        else:
            typer.echo(f"{trial.family}: NDCG@10 {trial.value:.4f} in {trial.seconds:.0f} s, {settings}", err=True)

    result = choose(
        families, split, space, rng=np.random.default_rng(seed), budget=budget, journal=out / "trials", on_trial=tell
    )
    command = shlex.join(["koinon", *sys.argv[1:]])
    best = {}
    for name, config in result.best_of.items():
        own = result.trials.filter(family=name)
        value = float(own.filter(config=config.model_dump_json())["value"][0])
        best[name] = {"value": value, "trials": own.height, "seconds": float(own["seconds"].sum())}
        head = f"# Found by: {command}\n# NDCG@10 on validation {value:.4f}, the best of {own.height} trials.\n"
        write_atomically(out / f"{name}.toml", head + config.to_toml())
    write_atomically(out / "trials.json", result.trials.write_json())
    if as_json:
        print(json.dumps({"event": "result", "best": result.family.name, "recommenders": best}), flush=True)
        return
    for name, found in best.items():
        typer.echo(f"{name}: {found['value']:.4f} in {found['trials']} trials, {found['seconds']:.0f} s")
    typer.echo(f"Settings: {out}")


def _family(name: str, epochs: int | None, seed: int) -> Family:
    from koinon.recommenders import tuning

    plain: dict[str, type[Family]] = {
        kind.name: kind
        for kind in (tuning.PopularityFamily, tuning.ItemKNNFamily, tuning.EaseFamily, tuning.SemanticEaseFamily)
    }
    if name in plain:
        return plain[name]()
    drawn = {kind.name: kind for kind in (tuning.IALSFamily, tuning.BPRFamily)}
    if name in drawn:
        return drawn[name](seed)
    from koinon.recommenders.sequential.tuning import HSTUFamily, SASRecFamily

    for kind in (SASRecFamily, HSTUFamily):
        if kind.name == name:
            start = kind.defaults
            return kind(start if epochs is None else start.model_copy(update={"epochs": epochs}), seed=seed)
    raise typer.BadParameter(f"no recommender {name!r}; choose {', '.join((*plain, *drawn, 'sasrec', 'hstu'))}")
