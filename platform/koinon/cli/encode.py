"""``koinon encode``: turn texts into vectors of the semantic space, once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from koinon.space.encoders import Progress

__all__ = ["app", "lines_of"]

app = typer.Typer(
    help="Turn texts into vectors of the semantic space, once.",
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(
    epilog="Examples: `koinon encode shops/books-de`, `koinon encode shops/books-de --ray auto`, "
    "`koinon encode --texts titles.txt --encoder minilm-english`"
)
def encode(
    directory: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="A partner's folder (with partner.toml and a vault).")
    ] = None,
    texts: Annotated[
        Path | None, typer.Option("--texts", help="A UTF-8 file with one text a line, in place of DIR.")
    ] = None,
    encoder: Annotated[
        str,
        typer.Option(
            "--encoder",
            help="use-multilingual, minilm-english, hf:<name or folder>[?…], gguf:<file>[?…] or tuned:<folder>.",
        ),
    ] = "use-multilingual",
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray", help="Encode on Ray: `auto`, `local` or `ray://host:10001`. Without it: in this process."
        ),
    ] = None,
    cache_dir: Annotated[
        Path | None,
        typer.Option("--cache-dir", help="Keep vectors here instead of the user's cache folder.", file_okay=False),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="A torch device, e.g. cpu or cuda.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Encode a partner's item texts, or the lines of a file, into the vector cache.

    What is there already is not encoded again; a run that was stopped goes on where it was.
    """
    from koinon.errors import ConfigError
    from koinon.space import open_space

    if (directory is None) == (texts is None):
        raise ConfigError("K111", "Give either a partner's folder or --texts FILE.", "See `koinon encode --help`.")
    wanted = lines_of(texts) if texts is not None else _item_texts(directory) if directory is not None else []
    with _bar(quiet=as_json) as progress:
        if ray is not None:
            from koinon.space.on_ray import encode_with_ray

            encoded = len(open_space(encoder, cache_dir).missing(wanted))
            space = encode_with_ray(wanted, encoder, cache_dir, ray, progress=progress)
        else:
            space = open_space(encoder, cache_dir, device=device)
            space.encode(wanted, progress=progress)
            encoded = space.encoded_texts
    summary = {
        "texts": len(wanted),
        "distinct": len(set(wanted)),
        "encoded": encoded,
        "encoder": space.uri,
        "dimension": space.dimension,
        "fingerprint": space.fingerprint,
        "cache": str(space.cache.folder),
    }
    if as_json:
        typer.echo(json.dumps(summary, ensure_ascii=False))
        return
    typer.echo(
        f"{summary['texts']:,} texts ({summary['distinct']:,} distinct), {encoded:,} of them encoded now by "
        f"{space.uri} ({space.dimension} dimensions).\nVectors: {summary['cache']}"
    )


def lines_of(path: Path) -> list[str]:
    """Lines of a UTF-8 file. SpaceError K309 it cannot be read."""
    from koinon.errors import SpaceError

    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise SpaceError("K309", f"Cannot read {path}: {error.strerror}.", "Check the path and its rights.") from error
    except UnicodeDecodeError as error:
        raise SpaceError("K309", f"{path} is not UTF-8 (byte {error.start}).", "Save the file as UTF-8.") from error


def _item_texts(directory: Path) -> list[str]:
    from koinon.data.vault import Vault

    texts: list[str] = Vault.open(directory).tables().items["text"].to_list()
    return texts


@contextmanager
def _bar(*, quiet: bool) -> Iterator[Progress | None]:
    """A progress bar on a terminal, nothing elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    columns = (SpinnerColumn(), TextColumn("encoding"), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("encoding", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
