"""A partner's steps of one round, and what must be kept so that the next round goes on where this one ended."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from koinon.errors import RecommenderError
from koinon.recommenders.federated.hstu._config import FederatedHSTUConfig
from koinon.recommenders.federated.hstu.parts import is_shared
from koinon.recommenders.fitting import loss_is_finite
from koinon.recommenders.sequential._hstu import HSTUNetwork
from koinon.recommenders.sequential.histories import Histories

__all__ = ["Steps"]

Arrays = dict[str, NDArray[np.generic]]


class Steps:
    """Steps of AdamW over a partner's people, pass after pass, from round to round.

    The order of a pass, dropout and drawn items depend on the seed and the number of the step alone, so that a round
    that is asked for again is answered the same, and rounds of a single partner are plain local training.

    Parameters
    ----------
    network
        With the release's shared part.
    histories
        Everybody's training events.
    config
        As the federation has agreed.
    seed
        Of the federation.
    device
        Where the network lives.
    """

    def __init__(
        self,
        network: HSTUNetwork,
        histories: Histories,
        config: FederatedHSTUConfig,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        self.network, self.histories, self.config = network, histories, config
        self.seed, self.device = seed, device
        self.done = 0
        self.in_a_pass = math.ceil(len(histories.users) / config.batch_users)
        self.optimiser = torch.optim.AdamW(
            network.parameters(),
            lr=config.learning_rate,
            betas=(0.9, 0.98),
            weight_decay=config.weight_decay,
            fused=True,
        )

    def go(self, correction: Mapping[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
        """Take a round's steps; the release is what the network holds at the beginning.

        Parameters
        ----------
        correction
            What is added to the shared parameters' slopes in every step, before the optimiser sees them.

        Returns
        -------
        The shared parameters' mean slopes over the steps, of the loss alone.

        Raises
        ------
        RecommenderError
            K470 a loss or its gradient is not finite.
        """
        config = self.config
        release = {n: p.detach().clone() for n, p in self.network.named_parameters() if is_shared(n)}
        slopes = {name: torch.zeros_like(value) for name, value in release.items()}
        count = min(config.local_steps, config.local_passes * self.in_a_pass)
        self.network.train()
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            for _ in range(count):
                self._step(release, slopes, correction or {})
                self.done += 1
        return {name: total / count for name, total in slopes.items()}

    def _step(
        self,
        release: Mapping[str, torch.Tensor],
        slopes: Mapping[str, torch.Tensor],
        correction: Mapping[str, torch.Tensor],
    ) -> None:
        passes, within = divmod(self.done, self.in_a_pass)
        size = self.config.batch_users
        order = np.random.default_rng([self.seed, passes]).permutation(self.histories.users)
        users = order[within * size : (within + 1) * size]
        torch.manual_seed(int(np.random.default_rng([self.seed, passes, within]).integers(2**63)))
        batch = self.histories.batch(users, self.device, own_clock=self.network.own_clock)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            loss = self.network.loss(batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for name, value in self.network.named_parameters():
            if name not in release or value.grad is None:
                continue
            slopes[name].add_(value.grad)
            if self.config.proximal:
                value.grad += self.config.proximal * (value.detach() - release[name])
            if name in correction:
                value.grad += correction[name]
        if not loss_is_finite(loss, self.network):
            raise RecommenderError(
                "K470",
                f"The loss or its gradient is not finite in step {self.done + 1}.",
                "Lower learning_rate, raise temperature, or use precision float32.",
            )
        self.optimiser.step()

    def state(self) -> Arrays:
        """The private parameters, the optimiser's moments, and how many steps were taken."""
        kept: Arrays = {"steps": np.array([self.done])}
        for name, value in self.network.named_parameters():
            if not is_shared(name):
                kept[f"private/{name}"] = value.detach().cpu().numpy()
            for moment, held in self.optimiser.state.get(value, {}).items():
                kept[f"{moment}/{name}"] = np.atleast_1d(held.detach().cpu().numpy())
        return kept

    def restore(self, kept: Mapping[str, NDArray[np.generic]]) -> None:
        """Take back what :meth:`state` gave."""
        self.done = int(np.asarray(kept["steps"])[0])
        for name, value in self.network.named_parameters():
            if f"private/{name}" in kept:
                with torch.no_grad():
                    value.copy_(torch.tensor(kept[f"private/{name}"]))
            if f"step/{name}" in kept:
                held = {moment: torch.tensor(kept[f"{moment}/{name}"]) for moment in ("exp_avg", "exp_avg_sq")}
                held["step"] = torch.tensor(float(np.asarray(kept[f"step/{name}"])[0]))
                self.optimiser.state[value] = {moment: tensor.to(self.device) for moment, tensor in held.items()}
