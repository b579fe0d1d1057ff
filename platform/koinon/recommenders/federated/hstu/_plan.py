"""The server's half of federated HSTU: asks for weighted changes, and takes their mean as a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, NoReturn

import numpy as np
from numpy.typing import NDArray

from koinon.errors import PrivacyError, RecommenderError
from koinon.recommenders.federated.averaging import ServerStep
from koinon.recommenders.federated.codebook import MEASURE, MOMENTS, CodebookPlan
from koinon.recommenders.federated.hstu._config import FederatedHSTUConfig
from koinon.recommenders.federated.hstu._control import CONTROL
from koinon.recommenders.protocol import Catalogue, Measure, Release, Task, TensorSpec, Total
from koinon.space import Space
from koinon.space.codebook import CodebookConfig

__all__ = ["HSTUPlan", "control_names", "shared_names"]


class HSTUPlan:
    """Each round sums ``w_p (x_p - x)`` and ``w_p`` over the partners; the quotient is the mean change.

    The server steps along it (:class:`koinon.recommenders.federated.averaging.ServerStep`).

    Where items are read as codes, the rounds of a federated codebook come first.

    Attributes
    ----------
    before
        Rounds of the codebook, 0 where there is none.
    rounds
        All.
    """

    name: ClassVar[str] = "federated_hstu"
    config_type: ClassVar[type[FederatedHSTUConfig]] = FederatedHSTUConfig
    weight: ClassVar[str] = "weight"
    """Name of the tensor that holds what a partner's changes were multiplied by."""

    def __init__(self, config: FederatedHSTUConfig | None = None) -> None:
        self.config = config or FederatedHSTUConfig()
        words = CodebookConfig(levels=self.config.code_levels, codes=self.config.code_words)
        self._codebook = CodebookPlan(words) if "codes" in self.config.items else None
        self.before: int = 0 if self._codebook is None else self._codebook.rounds
        self.rounds: int = self.before + self.config.rounds
        self._step = ServerStep(self.config.server, self.config.server_rate)

    @property
    def measures(self) -> Mapping[str, Measure]:
        """A partner's change is within ``clip``, times a weight of at most its people."""
        from koinon.recommenders.federated.hstu.parts import shared_part, template

        names = list(shared_part(template(self.config, 1, "meta")))
        if self.config.control:
            names += [CONTROL + name for name in names]
        codebook = {} if self._codebook is None else {MOMENTS: MEASURE}
        return {**codebook, self.weight: Measure(norm=1.0), **{name: Measure(fresh=True) for name in names}}

    def initial(self, catalogues: Sequence[Catalogue], space: Space | None, *, rng: np.random.Generator) -> Release:
        """Draw the shared part; ``catalogues`` are not used, nobody's items are compared.

        Raises
        ------
        RecommenderError
            K460 the settings ask for texts or codes and there is no space.
        """
        import torch

        from koinon.recommenders.federated.hstu.parts import shared_part, template

        if space is None and self.config.items != "ids":
            raise RecommenderError("K460", "Federated HSTU over texts needs a semantic space.", "Name an encoder.")
        seed = int(rng.integers(2**31))
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            drawn = shared_part(template(self.config, 0 if space is None else space.dimension))
        arrays: dict[str, NDArray[np.generic]] = {
            name: value.detach().numpy().astype(np.float32) for name, value in drawn.items()
        }
        if self.config.control:
            arrays |= {CONTROL + name: np.zeros_like(value) for name, value in arrays.items()}
        info: dict[str, float | int | str] = {"clip": self.config.clip, "seed": seed}
        if self._codebook is not None:
            begun = self._codebook.initial(catalogues, space, rng=rng)
            arrays |= begun.arrays
            info |= begun.info
        return Release(0, self.name, arrays, info)

    def shares(self) -> NoReturn:
        """There is no privacy budget under which this learner may run.

        Raises
        ------
        PrivacyError
            K675 always: every step mixes many people's events, so no bound holds for one person's.
        """
        raise PrivacyError(
            "K675",
            f"{self.name} bounds what a partner sends, not what one person adds to it: it can promise no budget.",
            "Leave it out under a budget; secure aggregation hides each partner's part.",
        )

    def task(self, release: Release, round_: int) -> Task:
        """Ask for the codebook's sums as long as it is fitted; then for the change of every shared parameter, its
        control variate where there is one, and their weight.
        """
        if self._codebook is not None and round_ <= self.before:
            return self._codebook.task(release, round_)
        specs = [TensorSpec(self.weight, (1,), "float32", "sum", 1.0)]
        for name in (*shared_names(release), *control_names(release)):
            specs.append(TensorSpec(name, release.arrays[name].shape, "float32", "sum", self.config.clip))
        return Task(round_, tuple(specs))

    def aggregate(self, release: Release, total: Total) -> Release:
        """Step along the mean change; where nobody had anything to learn from the release stays.

        The common control variate is the mean of those who answered.
        """
        if self._codebook is not None and MOMENTS in total.arrays:
            return replace(self._codebook.aggregate(release, total), recommender=self.name)
        weight = float(total.arrays[self.weight][0])
        arrays = dict(release.arrays)
        for name in shared_names(release):
            array = release.arrays[name]
            mean = total.arrays[name] / weight if weight > 0 else np.zeros(array.shape)
            arrays[name] = (array.astype(np.float64) + self._step(name, mean)).astype(np.float32)
        for name in control_names(release) if weight > 0 else ():
            arrays[name] = (total.arrays[name] / weight).astype(np.float32)
        return Release(release.number + 1, self.name, arrays, release.info)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return Adam's moments."""
        return self._step.state()

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Take them back."""
        self._step.restore(state)


def shared_names(release: Release) -> list[str]:
    """Names of a release's shared parameters, in order; codebook and control variates stand beside them."""
    return sorted(set(release.arrays) - {"codebook", "centroids", *control_names(release)})


def control_names(release: Release) -> list[str]:
    """Names of a release's control variates, in order; none where the federation does without."""
    return sorted(name for name in release.arrays if name.startswith(CONTROL))
