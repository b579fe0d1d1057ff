"""Tuning on few judgements: the loss is that of the answer alone, the end is chosen by AUC on other judgements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from koinon.evaluation.clicks import auc
from koinon.recommenders.fitting import Course, Progress, Training, fit_network
from koinon.recommenders.llm_as_rs.tuned._asking import Asking
from koinon.recommenders.llm_as_rs.tuned._config import TuningConfig
from koinon.recommenders.llm_as_rs.tuned._low_rank import Done, LowRankDecoder
from koinon.recommenders.llm_as_rs.tuned.samples import Samples

__all__ = ["Asked", "tune_decoder"]


@dataclass(frozen=True)
class Asked:
    """Judgements as a decoder has begun to read them.

    Attributes
    ----------
    begun
        What the frozen blocks made of each prompt.
    label
        ``bool[n]``.
    """

    begun: Sequence[Tensor]
    label: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        decoder: LowRankDecoder,
        asking: Asking,
        samples: Samples,
        said: Sequence[str],
        on_done: Done | None = None,
    ) -> Asked:
        """Begin to read every sample's prompt; ``said`` is text by item."""
        prompts = [
            (asking.before(*samples.split(row, said)), asking.after(said[item]))
            for row, item in enumerate(samples.item.tolist())
        ]
        return cls(decoder.begin(asking.tokens(prompts), on_done), samples.label)


def tune_decoder(
    decoder: LowRankDecoder,
    asking: Asking,
    train: Asked,
    validation: Asked | None,
    config: TuningConfig,
    *,
    seed: int,
    checkpoint: Path | None = None,
    fingerprint: str = "-",
    on_progress: Callable[[Progress], None] | None = None,
) -> Training:
    """Tune to the end, or go on to it; the decoder then holds the weights of the best AUC on validation.

    The loss is the negative log-probability of the right answer's first token, over the whole vocabulary; the prompt's
    own tokens are not learned (Bao et al. 2023, TALLRec, section 3.1).

    Parameters
    ----------
    decoder
        Changed in place, from where it stands.
    asking
        Says which tokens the answers are.
    train, validation
        Judgements; without validation the last epoch's weights are kept.
    config
        Steps and their end.
    seed
        Of orders and dropout.
    checkpoint, fingerprint, on_progress
        As :func:`koinon.recommenders.fitting.fit_network`.

    Raises
    ------
    RecommenderError
        K470-K472 as :func:`koinon.recommenders.fitting.fit_network`.
    EvaluationError
        K560 validation holds one label alone.
    """
    answer = torch.where(torch.from_numpy(train.label), asking.yes, asking.no)

    def loss(rows: NDArray[np.integer]) -> tuple[Tensor, int]:
        logits = decoder.next([train.begun[row] for row in rows])
        return F.cross_entropy(logits, answer[torch.from_numpy(rows)].to(logits.device)), len(rows)

    def validate() -> float:
        assert validation is not None
        return auc(validation.label, decoder.margins(validation.begun, asking.yes, asking.no))

    course = Course(config.epochs, config.batch, config.patience, validate_every=config.validate_every)
    return fit_network(
        decoder.parts,
        np.arange(len(train.label)),
        loss,
        torch.optim.AdamW(decoder.parts.parameters(), lr=config.learning_rate, weight_decay=0.0),
        course,
        rows=len(train.label),
        seed=seed,
        device=torch.device(decoder.model.device),
        validate=None if validation is None else validate,
        checkpoint=checkpoint,
        fingerprint=fingerprint,
        on_progress=on_progress,
    )
