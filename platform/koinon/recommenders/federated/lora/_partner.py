"""A partner's half of federated LoRA."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from koinon.data import Domain, Split
from koinon.errors import RecommenderError
from koinon.recommenders._search import Trial, Validator
from koinon.recommenders.conventional import LinearItemModel, SemanticEASE, SemanticEaseConfig
from koinon.recommenders.federated.averaging import weight_of, within
from koinon.recommenders.federated.lora._config import FederatedLoraConfig
from koinon.recommenders.federated.lora._network import PRIVATE, AdaptedSpace, TwoLoras, open_two_loras
from koinon.recommenders.federated.lora._plan import UP, LoraPlan
from koinon.recommenders.protocol import Contribution, Release, Task
from koinon.recommenders.serial.notellm import LearnerConfig, PairConfig, PairLearner, co_occurrences
from koinon.space import Space

__all__ = ["FederatedLora"]

SCALE = "private/temperature"
MIXES = (1.0, 0.5)
"""Shares of the tuned encoder that are tried beside none."""
CAUTION = 2.24
"""Nobody should fare worse than alone: the best of four readings must win at 5 %, one-sided, divided among the four."""

Arrays = Mapping[str, NDArray[np.generic]]


class FederatedLora(SemanticEASE):
    """Takes steps from the release, keeps its private part, and reads its catalogue through what was learned.

    What it learns is that texts lie close whose items the same people took, by the contrastive loss of NoteLLM within
    batches of its own pairs. After :meth:`fit` it is :class:`SemanticEASE` over the mixture of the encoder as it came
    and as it was tuned.

    Parameters
    ----------
    config
        As the federation has agreed; the partner's own settings may be tuned (:meth:`tune`).
    """

    name: ClassVar[str] = "federated_lora"
    config_type: ClassVar[type[FederatedLoraConfig]] = FederatedLoraConfig

    def __init__(self, config: FederatedLoraConfig | None = None) -> None:
        super().__init__(config or FederatedLoraConfig())
        self.config: FederatedLoraConfig
        self.release: Release | None = None
        self._base: Space | None = None
        self._kept: Arrays = {}
        self._finished: Arrays | None = None
        self._readings: dict[bool, AdaptedSpace] = {}
        self._read_on: Domain | None = None

    def attach(self, domain: Domain, space: Space | None) -> None:
        """Give the partner's space before the first :meth:`contribute`; ``domain`` is not used."""
        self._base = space

    def contribute(self, domain: Domain, release: Release, task: Task) -> Contribution:
        """Take a round's steps and give the change of ``B``, clipped, times the partner's weight.

        A partner whose people have no two items together sends zeros. A round that is asked for again is answered the
        same.

        Raises
        ------
        RecommenderError
            K487 no space is attached or its encoder cannot be tuned, K462 the task or the release has other tensors,
            K463 the release is not finite, K464 a loss is not finite.
        """
        loras = self._open(release)
        wanted = {LoraPlan.weight: (1,), UP: (loras.size,)}
        if {spec.name: tuple(spec.shape) for spec in task.specs} != wanted:
            raise RecommenderError(
                "K462", f"{self.name} has other tensors than the task asks for.", "Are all partners on one version?"
            )
        people = int((np.bincount(domain.events.user, minlength=1) > 1).sum())
        learned = self._learn(domain, loras, release, task.round, self.config.local_steps)
        self._kept = learned or self._kept
        change = {UP: loras.up.astype(np.float64) - release.arrays[UP].astype(np.float64)}
        weight = weight_of(self.config.weighting, people) if learned else 0.0
        sent = (weight * within(self.config.clip, change) * change[UP]).astype(np.float32)
        return Contribution({LoraPlan.weight: np.array([weight], dtype=np.float32), UP: sent}, n_users=domain.n_users)

    def receive(self, release: Release) -> None:
        """Adopt the shared part; the private part stays."""
        self.release = release
        self._read_on = None

    def tune(
        self,
        split: Split,
        space: Space | None,
        *,
        rng: np.random.Generator,
        start: SemanticEaseConfig | None = None,
        rows: int = 2000,
        caution: float = CAUTION,
        on_trial: Callable[[Trial], None] | None = None,
    ) -> list[Trial]:
        """Choose on validation how far the tuned encoder counts, and whether with the private part.

        Parameters
        ----------
        split
            Only training events and validation set are read.
        space, rng
            As :meth:`fit`; ``rng`` also draws the validation users where there are more than ``rows``.
        start
            Settings of the partner's own model (arm ``local_space``), which it is with ``mix`` 0; ``None``: as they
            are.
        rows
            Validation users asked at most.
        caution
            Standard errors of its paired gain over the own model that a reading must win by.
        on_trial
            Called after every trial.

        Returns
        -------
        list of Trial
            The encoder as it came, and every reading.

        Raises
        ------
        RecommenderError
            K407 there is nobody to validate on; as :meth:`fit`.
        """
        validator = Validator(split.train, split.validation, "ndcg@10", rng, rows)
        settings = {} if start is None else start.model_dump()
        self.config = self.config.model_copy(update=settings)
        trials: list[Trial] = []

        def tried(**changes: object) -> NDArray[np.float64]:
            began = time.perf_counter()
            self.config = self.config.model_copy(update=changes)
            self.fit(split.train, space, rng=np.random.default_rng(0))
            values = validator.values(self.score(validator.requests))
            trials.append(Trial(self.name, self.config, float(values.mean()), time.perf_counter() - began))
            if on_trial is not None:
                on_trial(trials[-1])
            return values

        own = tried(mix=0.0, private=False)
        best, ahead = self.config, 0.0
        for private in (False, True) if self.config.private_rank else (False,):
            for mix in MIXES:
                gain = tried(mix=mix, private=private) - own
                clear = gain.mean() > caution * gain.std() / math.sqrt(len(gain))
                if clear and gain.mean() > ahead:
                    best, ahead = self.config, float(gain.mean())
        self.config = best
        return trials

    def fit(self, domain: Domain, space: Space | None, *, rng: np.random.Generator) -> Self:
        """Finish the private part at home, read the catalogue, and solve; without a release nothing is tuned.

        ``rng`` is not used: what is drawn follows from the federation's seed.

        Raises
        ------
        RecommenderError
            K404 there is no space; K487, K462-K464 as :meth:`contribute`; K401-K403 as SemanticEASE.
        """
        self._base = _present(space, self.name)
        if self._read_on is not domain:
            self._readings, self._finished, self._read_on = {}, None, domain
        super().fit(domain, self._reading(self._base, domain), rng=rng)
        return self

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return what was learned, and the catalogue as it was read; between rounds the private part."""
        if not self.n_items:
            return dict(self._kept)
        found = {**super().state(), **(self._finished or self._kept)}
        if self.release is None or not self.config.mix:
            return found
        found["seed"] = np.array([int(self.release.info["seed"])], dtype=np.int64)
        width = self.vectors.shape[1] - _present(self._base, self.name).dimension
        return {**found, UP: self.release.arrays[UP], "read": self.vectors[:, -width:].copy()}

    def restore(self, state: Arrays, domain: Domain, space: Space | None) -> Self:
        """Adopt what an equal recommender learned, or kept between rounds; an empty state leaves it as it is."""
        own = {name: array for name, array in state.items() if name.startswith(PRIVATE)}
        rest = {name: array for name, array in state.items() if name not in own}
        self._kept = own
        if not rest:
            return self
        self._base = _present(space, self.name)
        reading = AdaptedSpace(self._base, None, 0.0)
        if UP in rest:
            info = {"seed": int(np.asarray(rest.pop("seed"))[0]), "clip": self.config.clip}
            self.release = Release(0, self.name, {UP: rest.pop(UP)}, info)
            reading = self._reading(self._base, None)
            read = rest.pop("read").astype(np.float32) / np.sqrt(np.float32(self.config.mix))
            reading.known.update(zip(domain.texts, read, strict=True))
        LinearItemModel.restore(self, rest, domain, space)
        self._enter(reading, domain)
        return self

    def _enter(self, space: Space | None, domain: Domain) -> None:
        self.space = space
        self.vectors = space.read(domain.texts) if isinstance(space, AdaptedSpace) else self.vectors

    def _open(self, release: Release) -> TwoLoras:
        """The encoder as the release and the rounds before have left it."""
        loras = open_two_loras(self._base, self.config, int(release.info["seed"]))
        loras.load_up(release.arrays[UP])
        loras.load_private(self._kept)
        return loras

    def _learn(self, domain: Domain, loras: TwoLoras, release: Release, round_: int, steps: int) -> Arrays | None:
        """Take steps on the partner's own pairs; what is private then, ``None`` where there are no pairs."""
        seed = int(release.info["seed"])
        pairs = co_occurrences(domain, PairConfig(per_item=self.config.pairs_per_item), seed=seed)
        if not len(pairs) or not steps:
            return None
        learner = PairLearner(
            loras.network,
            domain.texts,
            LearnerConfig(
                batch_pairs=self.config.batch_pairs,
                learning_rate=self.config.learning_rate,
                temperature=self.config.temperature,
                cached_gradients=self.config.batch_pairs > 64,
            ),
            together=pairs.together,
            seed=int(np.random.default_rng([seed, round_]).integers(2**31)),
        )
        if SCALE in self._kept:
            with torch.no_grad():
                learner.scale.copy_(torch.tensor(float(np.asarray(self._kept[SCALE])[0])))
        with torch.random.fork_rng():
            torch.manual_seed(seed + round_)
            learner.steps(pairs.left, pairs.right, steps)
        return {**loras.private(), SCALE: np.array([learner.scale.item()], dtype=np.float32)}

    def _reading(self, space: Space, domain: Domain | None) -> AdaptedSpace:
        """The space that the settings ask for; with a domain the private part is finished on its pairs first."""
        release, config = self.release, self.config
        if release is None or not config.mix:
            return AdaptedSpace(space, None, 0.0)
        private = config.private and config.private_rank > 0

        def opened() -> TwoLoras:
            loras = self._open(release)
            if private and domain is not None and config.finish:
                loras.only_private()
                self._finished = self._learn(domain, loras, release, 0, config.finish)
            loras.read_with(private=private)
            return loras

        if domain is None:
            return AdaptedSpace(space, opened, config.mix)
        if private not in self._readings:
            self._readings[private] = AdaptedSpace(space, opened, 1.0)
        return self._readings[private].mixed(config.mix)


def _present(space: Space | None, name: str) -> Space:
    if space is None:
        raise RecommenderError("K404", f"{name} needs a semantic space.", "Open one with koinon.space.")
    return space
