"""``koinon space``: tune an encoder to what goes together in a catalogue, and let it write tags."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from koinon.cli.epochs import shown_epochs
from koinon.cli.train import Directory, MinimumItemEvents, Named, Protocol, split_of

__all__ = ["app"]

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode="rich")

AsJson = Annotated[bool, typer.Option("--json", help="For programs: JSON lines, the last is the result.")]

_TUNE = (
    "Examples: `koinon space tune shops/office --out tuned/office` learns a map over the default encoder in "
    "minutes, then `koinon encode shops/office --encoder tuned:tuned/office`; LoRA inside a model too: `--base "
    "minilm-english --epochs 10`; a decoder: `--base 'gguf:SmolLM2.gguf?dtype=bfloat16' --epochs 10`."
)
_TAGS = "Example: `koinon space tags tuned/office --texts titles.txt`."


@app.callback()
def space() -> None:
    """The semantic space: tune an encoder to a catalogue's events, and use what it has learned."""


@app.command(epilog=_TUNE)
def tune(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Gets the tuned encoder and its checkpoint.", file_okay=False)
    ],
    directory: Directory = None,
    dataset: Named = None,
    base: Annotated[
        str | None,
        typer.Option("--base", "-b", help="What is tuned: an encoder, e.g. use-multilingual or gguf:<file>[?…]."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Settings, a TOML file; without it the defaults.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=0, help="Of LoRA at most, whatever --config says; 0: the map alone.")
    ] = None,
    protocol: Protocol = "auto",
    minimum_item_events: MinimumItemEvents = 2,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Tune an encoder so that texts lie close whose items the same people took (NoteLLM).

    Stopped early by item-to-item recall on validation; the test set is not touched. An interrupted tuning goes on from
    its last checkpoint when the same command is given again. Use the result as encoder `tuned:<folder>`.
    """
    from koinon.recommenders.serial.notellm import TuneConfig, tune_space

    settings = TuneConfig() if config is None else TuneConfig.from_toml(config)
    changes: dict[str, Any] = {"base": base, "epochs": epochs}
    settings = settings.model_copy(update={name: value for name, value in changes.items() if value is not None})
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    split = split_of(directory, dataset, protocol, minimum_item_events)
    with shown_epochs(as_json, "recall", "pairs") as on_progress:
        tuned = tune_space(split, settings, out, seed=seed, device=device, on_progress=on_progress)
    assert tuned.manifest is not None
    report = {
        "command": shlex.join(["koinon", *sys.argv[1:]]),
        "data": split.train.name,
        "encoder": f"tuned:{out}",
        **tuned.report,
    }
    if as_json:
        print(json.dumps({"event": "report", **report}, ensure_ascii=False), flush=True)
        return
    found = report["validation"]
    name = next(name for name in found if name.startswith("recall@"))
    if found["pairs"]:
        said = ", ".join(f"{stage} {value:.4f}" for stage, value in found[name].items())
        typer.echo(f"Item-to-item {name} on validation: {said}.")
    typer.echo(f"{report['seconds']:.0f} s. Encoder: tuned:{out}")


@app.command(epilog=_TAGS)
def tags(
    folder: Annotated[Path, typer.Argument(help="What `koinon space tune` wrote, of a decoder.", file_okay=False)],
    texts: Annotated[Path, typer.Option("--texts", help="A UTF-8 file with one text a line.")],
    category: Annotated[bool, typer.Option("--category/--tags", help="Ask for the category in place of tags.")] = False,
    most_tokens: Annotated[int, typer.Option("--most-tokens", min=1, help="Written for each text at most.")] = 24,
    device: Annotated[str, typer.Option("--device", help="A torch device.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Let a tuned decoder write tags for texts; what is nonsense by the stated rule is left out."""
    from koinon.cli.encode import lines_of
    from koinon.space.tuned import TunedEncoder

    lines = lines_of(texts)
    encoder = TunedEncoder(folder, uri=f"tuned:{folder}", device=device)
    written = encoder.tags(lines, task="category" if category else "tags", most_tokens=most_tokens)
    for line, found in zip(lines, written, strict=True):
        typer.echo(json.dumps({"text": line, "tags": found}, ensure_ascii=False) if as_json else ", ".join(found))
