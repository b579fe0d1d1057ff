"""How a training is shown while it runs: one view for every command that fits a network."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from koinon.recommenders.fitting import Progress

__all__ = ["shown_epochs"]


@contextmanager
def shown_epochs(as_json: bool, metric: str, rows: str) -> Iterator[Callable[[Progress], None]]:
    """JSON lines, a bar on a terminal, or a line per epoch.

    Parameters
    ----------
    as_json
        Lines for programs, on standard output: ``event`` is ``epoch``.
    metric, rows
        What validation measures, and what a step reads: ``NDCG@10``, ``tokens``.
    """
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)

    def said(progress: Progress) -> str:
        value = "" if progress.metric is None else f", {metric} {progress.metric:.4f} (best {progress.best:.4f})"
        minutes, seconds = divmod(round(progress.seconds_left), 60)
        phase = f"{progress.phase}, " if progress.phase else ""
        return (
            f"{phase}epoch {progress.epoch}/{progress.epochs}: loss {progress.loss:.4f}{value}, "
            f"{progress.rows_per_second:,.0f} {rows}/s, at most {minutes}:{seconds:02d} left"
        )

    if as_json or not console.is_terminal:

        def line(progress: Progress) -> None:
            if not progress.epoch_over:
                return
            if as_json:
                print(json.dumps({"event": "epoch", **asdict(progress)}), flush=True)
            else:
                console.print(said(progress), markup=False)

        yield line
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    with Bar(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=console) as bar:
        task = bar.add_task("reading")

        def show(progress: Progress) -> None:
            done = progress.steps * (progress.epoch - 1) + progress.step
            bar.update(task, description=said(progress), completed=done, total=progress.steps * progress.epochs)

        yield show
