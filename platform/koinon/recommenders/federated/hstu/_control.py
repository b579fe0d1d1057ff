"""Control variates: what keeps a partner's steps from drifting to its own optimum.

SCAFFOLD (Karimireddy et al. 2020, "Stochastic controlled averaging for federated learning", algorithm 1, option II):
every partner keeps ``c_p``, the mean slope of its own loss over the steps of the last round; the release carries their
mean ``c``, weighted as changes are; each step goes along ``g - c_p + c``. Where the partners' mean slope is zero no
partner moves, whatever its own slope is there. The paper's steps are plain ones; here Adam takes them, so its rates of
convergence do not carry over, its resting point does.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from koinon.errors import RecommenderError
from koinon.recommenders.protocol import Release

__all__ = ["CONTROL", "correction", "named"]

CONTROL = "control/"
"""What the names of control variates begin with: in releases, in what is sent, and in what a partner keeps."""

Arrays = Mapping[str, NDArray[np.generic]]


def correction(release: Release, kept: Arrays, device: torch.device) -> dict[str, torch.Tensor]:
    """``c - c_p`` of every shared parameter; a partner that has none of its own yet begins with the common one.

    Raises
    ------
    RecommenderError
        K463 the release's is not finite.
    """
    found = {}
    for name in (name for name in release.arrays if name.startswith(CONTROL)):
        common = release.arrays[name].astype(np.float64)
        if not np.isfinite(common).all():
            raise RecommenderError("K463", f"{name} is not finite.", "Ask for an earlier release.")
        own = kept[name].astype(np.float64) if name in kept else common
        found[name.removeprefix(CONTROL)] = torch.tensor(common - own, dtype=torch.float32, device=device)
    return found


def named(slopes: Mapping[str, torch.Tensor], scale: float) -> dict[str, NDArray[np.float32]]:
    """Slopes as a partner's control variates, times ``scale``."""
    return {f"{CONTROL}{name}": (scale * slope).cpu().numpy().astype(np.float32) for name, slope in slopes.items()}
