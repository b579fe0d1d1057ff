"""A partner's half of federated HSTU."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from koinon.data import Domain, Split
from koinon.errors import RecommenderError
from koinon.recommenders._search import Trial, Validator
from koinon.recommenders.conventional import SemanticEASE, SemanticEaseConfig, popularity_prior
from koinon.recommenders.federated.averaging import weight_of, within
from koinon.recommenders.federated.codebook import MOMENTS, codebook_moments, codebook_of
from koinon.recommenders.federated.hstu._config import FederatedHSTUConfig
from koinon.recommenders.federated.hstu._control import CONTROL, correction, named
from koinon.recommenders.federated.hstu._plan import HSTUPlan, shared_names
from koinon.recommenders.federated.hstu._steps import Steps
from koinon.recommenders.federated.hstu.parts import is_shared, shared_part
from koinon.recommenders.fitting import Training
from koinon.recommenders.protocol import Contribution, Release, Request, Task
from koinon.recommenders.sequential import HSTU
from koinon.recommenders.sequential._hstu import HSTUNetwork
from koinon.recommenders.sequential.histories import Histories
from koinon.recommenders.sequential.side import MarkWords
from koinon.recommenders.sequential.trainer import fit_histories
from koinon.space import Space

__all__ = ["FederatedHSTU"]

Scores = NDArray[np.float32]
Arrays = Mapping[str, NDArray[np.generic]]

BLENDS = (0.75, 0.5, 0.25, 0.0)
"""Weights of the partner's own model that are tried, from the one it has alone."""
CAUTION = 2.24
"""Nobody should fare worse than alone: the best of four mixtures must win at 5 %, one-sided, divided among the four."""


class FederatedHSTU(HSTU):
    """Takes steps from the release, keeps its private part, fine-tunes at home, and mixes in the partner's own model.

    Between rounds it keeps its private parameters and the optimiser's moments. Scores after :meth:`fit` are
    ``(1 - blend) z(HSTU) + blend z(own)``, ``z``: a request's scores over the catalogue, less their mean, over their
    standard deviation.

    Parameters
    ----------
    config
        As the federation has agreed; the partner's own settings may be tuned (:meth:`tune`).
    """

    name: ClassVar[str] = "federated_hstu"
    config_type: ClassVar[type[FederatedHSTUConfig]] = FederatedHSTUConfig
    scores_between_rounds: ClassVar[bool] = True
    """After :meth:`contribute` and before :meth:`fit`, :meth:`score` ranks by the network as the round left it."""

    def __init__(self, config: FederatedHSTUConfig | None = None) -> None:
        super().__init__(config or FederatedHSTUConfig())
        self.config: FederatedHSTUConfig
        self.release: Release | None = None
        self._space: Space | None = None
        self._kept: Arrays = {}
        self._own: SemanticEASE | None = None
        self._fitted_on: Domain | None = None

    def attach(self, domain: Domain, space: Space | None) -> None:
        """Give the partner's space before the first :meth:`contribute`; ``domain`` is not used."""
        self._space = space

    def contribute(self, domain: Domain, release: Release, task: Task) -> Contribution:
        """Take a round's steps and give the change of the shared part, clipped, times the partner's weight.

        A partner where nobody has two events sends zeros. While the codebook is fitted, sums over the catalogue are
        asked for instead.

        Raises
        ------
        RecommenderError
            K404 no space is attached, K462 the task or the release has other tensors than the network, K463 the release
            is not finite, K470 a loss is not finite.
        """
        if [spec.name for spec in task.specs] == [MOMENTS] and "codes" in self.config.items:
            (spec,) = task.specs
            sums = codebook_moments(domain, self._attached(), release, spec)
            return Contribution({MOMENTS: sums}, n_users=domain.n_users)
        histories = self._open(domain, release)
        shared = shared_part(self._hstu())
        wanted = {HSTUPlan.weight: (1,), **{name: tuple(value.shape) for name, value in shared.items()}}
        if self.config.control:
            wanted |= {CONTROL + name: tuple(value.shape) for name, value in shared.items()}
        if {spec.name: tuple(spec.shape) for spec in task.specs} != wanted:
            raise RecommenderError(
                "K462", f"{self.name} has other tensors than the task asks for.", "Are all partners on one version?"
            )
        people = len(histories.users)
        slopes = {name: torch.zeros_like(value) for name, value in shared.items()}
        if people:
            steps = Steps(
                self._hstu(), histories, self.config, seed=int(release.info["seed"]), device=self._device
            )  # fmt: skip
            if self._kept:
                steps.restore(self._kept)
            slopes = steps.go(correction(release, self._kept, self._device) if self.config.control else None)
            self._kept = steps.state() | ({} if self._words is None else self._words.state())
        self._settle()
        changes = {
            name: value.detach().cpu().numpy().astype(np.float64) - release.arrays[name].astype(np.float64)
            for name, value in shared.items()
        }
        weight = weight_of(self.config.weighting, people)
        scale = weight * within(self.config.clip, changes)
        arrays = {name: (scale * change).astype(np.float32) for name, change in changes.items()}
        if self.config.control:
            held = within(self.config.clip, {name: slope.double().cpu().numpy() for name, slope in slopes.items()})
            arrays |= named(slopes, weight * held)
            if people:
                self._kept = {**self._kept, **named(slopes, held)}
        return Contribution({HSTUPlan.weight: np.array([weight], dtype=np.float32), **arrays}, n_users=domain.n_users)

    def receive(self, release: Release) -> None:
        """Adopt the shared part; the private part stays."""
        self.release = release
        self._fitted_on = None

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
        """Fine-tune at home as long as validation gains, then choose how much of the partner's own model is mixed in.

        Parameters
        ----------
        split
            Only training events and validation set are read.
        space, rng
            As :meth:`fit`; ``rng`` also draws the validation users where there are more than ``rows``.
        start
            Settings of the partner's own model (arm ``local_space``): the search begins with it alone (``blend`` 1),
            and takes HSTU in only where that is better. ``None``: HSTU alone.
        rows
            Validation users asked at most.
        caution
            Standard errors of its paired gain over the own model that the best blend must win by.
        on_trial
            Called after every trial.

        Returns
        -------
        list of Trial
            The untuned network, the fine-tuned one, and every blend.

        Raises
        ------
        RecommenderError
            K407 there is nobody to validate on; as :meth:`fit`.
        """
        validator = Validator(split.train, split.validation, "ndcg@10", rng, rows)
        trials: list[Trial] = []
        began = time.perf_counter()

        def tried(values: NDArray[np.float64], **settings: object) -> NDArray[np.float64]:
            nonlocal began
            config = self.config.model_copy(update=settings)
            trials.append(Trial(self.name, config, float(values.mean()), time.perf_counter() - began))
            began = time.perf_counter()
            if on_trial is not None:
                on_trial(trials[-1])
            return values

        def asked() -> NDArray[np.float64]:
            return validator.values(HSTU.score(self, validator.requests))

        histories = self._begin(split.train, space, rng)
        before = {name: value.clone() for name, value in self.network.state_dict().items()}
        plain = tried(asked(), epochs=0)
        taken = 0
        if len(histories.users) and self.config.epochs:
            training = self._train(histories, rng, lambda: self._validated(lambda _: float(asked().mean())))
            taken = training.best_epoch if training.best is not None and training.best > plain.mean() else 0
            if not taken:
                self.network.load_state_dict(before)
            self._settle()
            tried(asked(), epochs=taken)
        self.config = self.config.model_copy(update={"epochs": taken, "blend": 0.0, "own": start})
        if start is not None:
            self._own = SemanticEASE(start).fit(split.train, space, rng=rng)
            network, own = (_standard(model(validator.requests)) for model in (super().score, self._own.score))
            alone = tried(validator.values(own.copy()), blend=1.0)
            mixed = {
                blend: tried(validator.values(_mixed(network, own, blend)), blend=blend) - alone for blend in BLENDS
            }
            best = max(mixed, key=lambda blend: float(mixed[blend].mean()))
            gain = mixed[best]
            if not gain.mean() > caution * gain.std() / math.sqrt(len(gain)):
                best = 1.0
            self.config = self.config.model_copy(update={"blend": best})
        self._fitted_on = split.train
        return trials

    def fit(self, domain: Domain, space: Space | None, *, rng: np.random.Generator) -> Self:  # type: ignore[override]
        """Fine-tune from the release for ``epochs`` passes, and fit the partner's own model if it has a part.

        What :meth:`tune` has left fitted on the same domain stays as it is. Without a release the network begins at
        random.

        Raises
        ------
        RecommenderError
            K404 the settings ask for texts and there is no space; K463, K470 as :meth:`contribute`.
        """
        if self._fitted_on is domain:
            return self
        histories = self._begin(domain, space, rng)
        if len(histories.users) and self.config.epochs:
            self._train(histories, rng, None)
            self._settle()
        settings = self.config.own
        self._own = None
        if self.config.blend and settings is not None:
            self._own = SemanticEASE(settings).fit(domain, space, rng=rng)
        self._fitted_on = domain
        return self

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> Scores:
        """As :class:`HSTU`, with the partner's own model mixed in as ``blend`` says."""
        if self._own is None or not self.config.blend:
            return super().score(requests, candidates)
        mixed = _mixed(
            _standard(super().score(requests)), _standard(self._own.score(requests)), self.config.blend
        )  # fmt: skip
        return mixed if candidates is None else mixed[:, candidates]

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return what was learned; between rounds what the next one begins with."""
        if self._fitted_on is None:
            return dict(self._kept)
        own = {} if self._own is None else self._own.state()
        return {**super().state(), **{f"own/{name}": array for name, array in own.items()}}

    def restore(self, state: Arrays, domain: Domain, space: Space | None) -> Self:
        """Adopt what an equal recommender learned, or kept between rounds; an empty state leaves it as it is."""
        if "timed" not in state:
            self._kept = dict(state)
            return self
        super().restore({name: array for name, array in state.items() if not name.startswith("own/")}, domain, space)
        own = {name.removeprefix("own/"): array for name, array in state.items() if name.startswith("own/")}
        if own:
            self._own = SemanticEASE(self.config.own).restore(own, domain, space)
        self._fitted_on = domain
        return self

    def _attached(self) -> Space:
        if self._space is None:
            raise RecommenderError("K404", f"{self.name} needs a semantic space.", "Attach one before it is asked.")
        return self._space

    def _hstu(self) -> HSTUNetwork:
        assert isinstance(self.network, HSTUNetwork)
        return self.network

    def _open(self, domain: Domain, release: Release) -> Histories:
        """Build the network for a domain: the shared part of the release, the private one as it was kept or new."""
        seed = int(release.info["seed"])
        self._popularity = popularity_prior(domain, None)
        if "codes" in self.config.items and "codebook" in release.arrays:
            self.codebook = codebook_of(release)
        self._words = MarkWords.of_state(self._kept) or MarkWords.of(domain.events, self.config.marks)
        self._network = self._prepare(domain, self._space, timed=domain.events.time is not None, seed=seed)
        shared = shared_part(self._network)
        held = {name: release.arrays[name].shape for name in shared_names(release)}
        if held != {name: tuple(value.shape) for name, value in shared.items()}:
            raise RecommenderError(
                "K462", f"The release has other tensors than {self.name}.", "Are all partners on one version?"
            )
        with torch.no_grad():
            for name, value in self._network.named_parameters():
                known = release.arrays[name] if is_shared(name) else self._kept.get(f"private/{name}")
                if known is None:
                    continue
                if not np.isfinite(np.asarray(known, dtype=np.float64)).all():
                    raise RecommenderError("K463", f"{name} is not finite.", "Ask for an earlier release.")
                if known.shape != tuple(value.shape):
                    raise RecommenderError(
                        "K471",
                        f"What was kept of {name} is {known.shape}, the network's is {tuple(value.shape)}: it was "
                        "trained on another catalogue or codebook.",
                        "Remove what the learner kept of earlier rounds, and begin anew.",
                    )
                value.copy_(torch.tensor(known))
        return Histories(domain, self.config.length, self._words)

    def _begin(self, domain: Domain, space: Space | None, rng: np.random.Generator) -> Histories:
        """The network as the release and the rounds have left it, or a new one, ready to score."""
        self._space, self._own, self._fitted_on = space, None, None
        release = self.release
        if release is None:
            drawn = HSTUPlan(self.config).initial([], space, rng=rng)
            release = replace(drawn, arrays={name: drawn.arrays[name] for name in shared_names(drawn)})
        histories = self._open(domain, release)
        self._settle()
        return histories

    def _train(self, histories: Histories, rng: np.random.Generator, validate: Callable[[], float] | None) -> Training:
        seed = int(rng.integers(2**63))
        return fit_histories(self.network, histories, self.config, seed=seed, device=self._device, validate=validate)


def _standard(scores: Scores) -> Scores:
    """Each row less its mean, over its standard deviation."""
    centred = scores - scores.mean(axis=1, keepdims=True)
    spread = centred.std(axis=1, keepdims=True)
    standard: Scores = (centred / np.where(spread > 0, spread, 1.0)).astype(np.float32)
    return standard


def _mixed(network: Scores, own: Scores, blend: float) -> Scores:
    mixed: Scores = np.float32(1 - blend) * network + np.float32(blend) * own
    return mixed
