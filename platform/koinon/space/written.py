"""What language models have written, on disk: model, prompt and settings on record, and nothing written twice.

A record is a folder with one JSON file for each text, named by the hash of the writer's fingerprint, the prompt and the
settings. A file is there whole or not at all, so a run that was killed goes on where it was. Prompts may quote what
people chose: files are their owner's alone, and a partner keeps records within its own folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Literal

from koinon.config import write_atomically
from koinon.errors import SpaceError
from koinon.space.generating import Writer, Writing, WritingConfig
from koinon.space.nonsense import Fault, fault_of

__all__ = ["Record", "Told", "write_all"]

FORMAT = 1
_PATIENCE = 3
"""Batches that may fail one after another before nothing more is asked."""


@dataclass(frozen=True)
class Told:
    """What became of one prompt.

    Attributes
    ----------
    text
        The text; empty where there is none that can be used.
    fault
        Why it is not used: what :func:`koinon.space.nonsense.fault_of` says of it, ``failed``: the writer could not be
        asked, ``not reached``: time was up before its turn.
    """

    text: str
    fault: Fault | Literal["failed", "not reached"] | None = None


class Record:
    """A folder of texts.

    Parameters
    ----------
    folder
        Made when the first text is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, writer: Writer, prompt: str, config: WritingConfig) -> Writing | None:
        """Return what this writer wrote at this prompt; a damaged file counts as none."""
        try:
            held = json.loads(self._path(writer, prompt, config).read_text(encoding="utf-8"))
            if held["format"] != FORMAT or held["prompt"] != _plain(prompt):
                return None
            return Writing(str(held["text"]), held["end"], int(held["tokens"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, writer: Writer, prompt: str, config: WritingConfig, writing: Writing) -> None:
        """Keep a text.

        Raises
        ------
        ResourceError
            K801 the disk is full or the folder cannot be written.
        """
        held = {
            "format": FORMAT,
            "model": writer.name,
            "fingerprint": writer.fingerprint,
            "prompt": _plain(prompt),
            "settings": config.content,
            "text": writing.text,
            "end": writing.end,
            "tokens": writing.tokens,
        }
        content = json.dumps(held, indent=1, ensure_ascii=False) + "\n"
        write_atomically(self._path(writer, prompt, config), content, private=True)

    def _path(self, writer: Writer, prompt: str, config: WritingConfig) -> Path:
        said = json.dumps([writer.fingerprint, _plain(prompt), config.content], sort_keys=True)
        key = hashlib.sha256(said.encode()).hexdigest()
        return self.folder / key[:2] / f"{key}.json"


def write_all(
    writer: Writer,
    prompts: Sequence[str],
    config: WritingConfig,
    record: Record | None = None,
    *,
    language: str | None = None,
    seconds: float | None = None,
    on_failure: Literal["raise", "leave"] = "raise",
    progress: Callable[[int, int], None] | None = None,
) -> list[Told]:
    """Have a text written for each prompt that is not on record; equal prompts are written once.

    A text whose own time was up is used and not kept, so that it is written anew by a later call.

    Parameters
    ----------
    writer, config
        Who writes, and how.
    prompts
        Any number.
    record
        Where texts are kept; ``None``: nowhere.
    language
        What the texts have to be in, see :func:`koinon.space.nonsense.fault_of`.
    seconds
        Time for the whole call, looked at between batches; what is not reached by then is said to be so.
    on_failure
        ``leave``: a batch that an endpoint fails at is left out, and after three in a row nothing more is asked.
    progress
        Called with prompts done and prompts in all, after every batch.

    Raises
    ------
    SpaceError
        K343, K344 an endpoint fails (unless ``on_failure`` is ``leave``); K313 a prompt is too long.
    ResourceError
        K801 the record cannot be written; what was kept before stays.
    """
    began, failed_in_row = monotonic(), 0
    found: dict[str, Writing | None] = {}
    if record is not None:
        found = {prompt: held for prompt in dict.fromkeys(prompts) if (held := record.find(writer, prompt, config))}
    missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in found]
    missing.sort(key=len)  # a batch is as long as its longest prompt
    asked: set[str] = set()
    size = config.batch if writer.together else 1
    for start in range(0, len(missing), size):
        if failed_in_row >= _PATIENCE or (seconds is not None and monotonic() - began >= seconds):
            break
        batch = missing[start : start + size]
        asked.update(batch)
        try:
            written = writer.write(batch, config)
            failed_in_row = 0
        except SpaceError as error:
            if on_failure == "raise" or error.code not in ("K343", "K344"):
                raise
            failed_in_row += 1
            continue
        for prompt, writing in zip(batch, written, strict=True):
            found[prompt] = writing
            if record is not None and writing.end != "time":
                record.keep(writer, prompt, config, writing)
        if progress is not None:
            progress(len(found), len(set(prompts)))
    return [_told(prompt, found.get(prompt), prompt in asked, language) for prompt in prompts]


def _told(prompt: str, writing: Writing | None, asked: bool, language: str | None) -> Told:
    if writing is None:
        return Told("", "failed" if asked else "not reached")
    fault = fault_of(writing.text, prompt, language)
    return Told("" if fault else writing.text, fault)


def _plain(prompt: str) -> str:
    """A lone surrogate, which no file can hold, becomes a question mark."""
    return prompt.encode("utf-8", "replace").decode()
