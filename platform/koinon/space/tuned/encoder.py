"""A tuned encoder at work: an encoder of the space like any other, and a writer of tags."""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from koinon.errors import SpaceError
from koinon.space.batches import by_length
from koinon.space.encoders import Encoder, EncoderUri, Progress, hash_files, reopen
from koinon.space.tuned.folder import read_manifest, read_tuned
from koinon.space.tuned.mapped import MappedNetwork
from koinon.space.tuned.network import TextNetwork
from koinon.space.tuned.wording import Task

__all__ = ["TunedEncoder", "open_tuned", "readable_tags"]

LONGEST_TAG = 40
MOST_TAGS = 8
_VERSION = 1


class TunedEncoder:
    """The encoder ``tuned:<folder>``. LoRA is merged into the weights, which are loaded with the first text.

    Parameters
    ----------
    folder
        Of :func:`koinon.space.tuned.save_tuned`.
    uri
        The name it was opened by.
    base
        Where the pretrained model lies; ``None``: as the folder says.
    device
        A torch device.

    Raises
    ------
    SpaceError
        K315 no manifest that can be read. With the first text: K316, K317 and those of the pretrained model.
    """

    def __init__(self, folder: Path, *, uri: str, base: str | None = None, device: str = "cpu") -> None:
        self.uri, self.device = uri, device
        self.folder, self._base = folder, base
        self.manifest = read_manifest(folder)
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Callable[..., Encoder], tuple[str, str]]:
        return reopen, (self.uri, self.device)

    @cached_property
    def dimension(self) -> int:
        """Length of a vector."""
        return self.manifest.config.dimension or self.network.dimension

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the pretrained model's hash, the settings and the tuned tensors' hash."""
        made = self.manifest
        return hash_files([], "tuned", _VERSION, made.base_fingerprint, made.config.model_dump_json(), made.sha256)

    @cached_property
    def network(self) -> MappedNetwork:
        """The network, merged, in evaluation mode."""
        network, _ = read_tuned(self.folder, base=self._base, device=self.device)
        network.eval()
        network.merge()
        return network

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Return ``float32[texts, dimension]``, rows of L2 norm 1, in the order given."""
        if not texts:
            return np.empty((0, self.dimension), dtype=np.float32)
        with self._lock:
            return self.network.encode(texts, progress)

    def tags(self, texts: Sequence[str], *, task: Task = "tags", most_tokens: int = 24) -> list[tuple[str, ...]]:
        """Tags (or categories) that the model writes for each text, the likeliest token each time.

        What it writes is untrusted and may be nonsense; :func:`readable_tags` says what is left of it. A text of which
        nothing is left has no tags.

        Parameters
        ----------
        texts
            Any.
        task
            What is asked for.
        most_tokens
            Written at most; a line's end ends it.

        Raises
        ------
        SpaceError
            K319 the model is no decoder.
        """
        network = self.network
        if not isinstance(network, TextNetwork) or not network.decodes:
            raise SpaceError("K319", f"`{self.uri}` is an encoder model and writes no tags.", "Tune a decoder.")
        with self._lock, torch.inference_mode():
            rows, question = network.tokens(texts), network.question(task)
            found: list[tuple[str, ...]] = [()] * len(rows)
            for batch in _equally_long([len(row) for row in rows]):
                written = network.write([rows[place] for place in batch], question, most_tokens)
                for place, text in zip(batch, written, strict=True):
                    found[place] = readable_tags(text)
        return found


def readable_tags(text: str) -> tuple[str, ...]:
    """What counts as a tag of what a model has written.

    The first line is taken, in its plain form (NFKC) without invisible characters, up to a quotation mark, and divided
    at commas, semicolons and bars. A part is a tag if it has at most 40 characters and six words, holds a letter, and
    no word three times. Repeated tags count once; a text of more than eight parts of which half repeat others is a loop
    and gives none; otherwise the first eight count.
    """
    plain = unicodedata.normalize("NFKC", text).strip().split("\n")[0]
    seen = "".join(mark for mark in plain if mark == " " or unicodedata.category(mark)[0] != "C")
    for mark in '"“”„«»':
        seen = seen.partition(mark)[0] if not seen.startswith(mark) else seen[1:].partition(mark)[0]
    parts = [" ".join(part.split()).strip(" .:-–") for part in seen.replace(";", ",").replace("|", ",").split(",")]
    parts = [part for part in parts if part]
    first: dict[str, str] = {}
    for part in parts:
        first.setdefault(part.casefold(), part)
    distinct = list(first.values())
    if len(parts) > MOST_TAGS and len(distinct) <= len(parts) / 2:
        return ()
    return tuple(part for part in distinct if _is_tag(part))[:MOST_TAGS]


def _is_tag(part: str) -> bool:
    words = part.casefold().split()
    repeated = max((words.count(word) for word in words), default=0)
    return len(part) <= LONGEST_TAG and len(words) <= 6 and repeated < 3 and any(mark.isalpha() for mark in part)


def _equally_long(lengths: Sequence[int]) -> list[list[int]]:
    """Batches of rows of one length, so that nothing is padded."""
    found: list[list[int]] = []
    for batch in by_length(lengths, 2048):
        for length in sorted({lengths[place] for place in batch}):
            found.append([place for place in batch if lengths[place] == length])
    return found


def open_tuned(parsed: EncoderUri, uri: str, device: str) -> TunedEncoder:
    """Open a parsed ``tuned:`` name. SpaceError K315."""
    return TunedEncoder(Path(parsed.target).expanduser(), uri=uri, base=parsed.options.base, device=device)
