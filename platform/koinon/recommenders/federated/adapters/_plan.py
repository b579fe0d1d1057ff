"""The server's half of federated adapters: which sums to ask for, and what the totals mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from koinon.errors import PrivacyError, RecommenderError
from koinon.recommenders.federated.adapters._config import AdaptersConfig
from koinon.recommenders.federated.adapters._sums import denoised_semantic, orthonormal, projection, whitening
from koinon.recommenders.federated.identities import match_identities
from koinon.recommenders.protocol import Catalogue, Measure, Release, Task, TensorSpec, Total
from koinon.space import Space

__all__ = ["AdaptersPlan"]


class AdaptersPlan:
    """Asks for sums and turns them into the shared projection and the works' factors.

    Round 1 sums how often each shared work is taken and the catalogues' moments in the space; round 2 what people take
    together, seen through texts; from round 2 on each round is one step of orthogonal iteration on the sum of all
    partners' scaled co-occurrence. Sums make a round over many partners the same as over their joined data: there
    is no drift to correct, and a small partner is not outvoted by an average.

    Attributes
    ----------
    rounds
        As configured; two without factors.
    """

    name: ClassVar[str] = "federated_adapters"
    config_type: ClassVar[type[AdaptersConfig]] = AdaptersConfig
    measures: ClassVar[Mapping[str, Measure]] = {
        "counts": Measure("works", least=0.0, most=1.0),
        "moment": Measure(unit="item", norm=2.0),
        "image": Measure("works", fresh=True),
        "semantic": Measure(),
        "spread": Measure(unit="item", norm=1.0),
    }

    def __init__(self, config: AdaptersConfig | None = None) -> None:
        self.config = config or AdaptersConfig()
        self.rounds: int = self.config.rounds if self.config.width else 2

    def initial(self, catalogues: Sequence[Catalogue], space: Space | None, *, rng: np.random.Generator) -> Release:
        """Match the catalogues to works and draw the first basis.

        Raises
        ------
        RecommenderError
            K460 without a space.
        """
        if space is None:
            raise RecommenderError("K460", "Federated adapters need a semantic space.", "Name an encoder.")
        works = match_identities(catalogues, space, edition=self.config.edition, translation=self.config.translation)
        width = min(self.config.width, works.n)
        arrays: dict[str, NDArray[np.generic]] = {
            "hashes": works.hashes,
            "identity": works.identity,
            "counts": np.zeros(works.n, dtype=np.float32),
        }
        if self.config.width:
            arrays["basis"] = orthonormal(rng.standard_normal((works.n, width)))
        info: dict[str, float | int | str] = {
            "clip": self.config.clip,
            "dimension": 2 * space.dimension,
        }
        return Release(0, self.name, arrays, info)

    def shares(self) -> tuple[Mapping[str, float], ...]:
        """Counts and semantic sums as configured; the rounds of the factors get the same each of the rest.

        Without factors the semantic sums get all that the counts leave. ``moment`` and ``spread`` are of the catalogue
        alone and need none.

        Raises
        ------
        PrivacyError
            K669 with ``scales = "own"`` one person's events would change everybody's part of the semantic sums.
        """
        settings = self.config
        if settings.scales == "own":
            raise PrivacyError(
                "K669",
                "Scales from a partner's own counts let one person's events change everybody's part of the sums.",
                'Set scales = "released" or "even" in the settings of federated_adapters.',
            )
        first = {"counts": settings.counts_share} if settings.counted else {}
        if not settings.width:
            return first, {"semantic": 1 - sum(first.values())}
        image = (1 - settings.counts_share - settings.semantic_share) / (settings.rounds - 1)
        second = {"image": image, "semantic": settings.semantic_share}
        return first, second, *({"image": image},) * (settings.rounds - 2)

    def task(self, release: Release, round_: int) -> Task:
        """Counts and moments in round 1, the semantic sums in round 2, the factors' next step from round 2 on."""
        clip = self.config.clip
        if round_ == 1:
            side = 1 + int(release.info["dimension"])
            counts = TensorSpec("counts", release.arrays["counts"].shape, "float32", "sum", clip)
            moment = TensorSpec("moment", (side, side), "float32", "sum")
            return Task(round_, (counts, moment) if self.config.counted else (moment,))
        specs = []
        if self.config.width:
            specs.append(TensorSpec("image", release.arrays["basis"].shape, "float32", "sum", clip))
        if round_ == 2:
            side = release.arrays["whitening"].shape[1]
            specs.append(TensorSpec("semantic", (side, side), "float32", "sum", clip))
            specs.append(TensorSpec("spread", (side, side), "float32", "sum"))
        return Task(round_, tuple(specs))

    def aggregate(self, release: Release, total: Total) -> Release:
        """Turn the sums into what they are asked for: the whitening, the projection, the factors' next basis."""
        sums, partners = total.arrays, ",".join(total.partners)
        info, arrays = dict(release.info), dict(release.arrays)
        info |= {f"{name}_noise": noise for name, noise in total.noise.items()}
        if "counts" in sums:
            arrays["counts"] = sums["counts"].astype(np.float32)
            info["counts_from"] = partners
        if "moment" in sums:
            arrays["mean"], arrays["whitening"] = whitening(sums["moment"], self.config.directions)
        if "semantic" in sums:
            semantic = denoised_semantic(sums["semantic"], total.noise.get("semantic", 0.0))
            arrays["adapter"] = projection(semantic, sums["spread"], self.config.ridge, self.config.softness)
        if "image" in sums:
            arrays["start"], arrays["image"] = arrays["basis"], sums["image"].astype(np.float32)
            arrays["basis"] = orthonormal(sums["image"])
            info["image_from"] = partners
        return Release(release.number + 1, self.name, arrays, info)
