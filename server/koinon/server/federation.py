"""What a federation is: its file, its members, its policy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from koinon.config import Config
from koinon.data import SplitConfig
from koinon.errors import ConfigError
from koinon.privacy.budget import PrivacyConfig
from koinon.protos import federation_pb2 as wire
from koinon.recommenders.federated.budgeting import check_policy
from koinon.recommenders.federated.registry import LEARNERS, plan
from koinon.server.aggregation import Robustness
from koinon.server.operation.watch import Watch
from koinon.space import DEFAULT_ENCODER

__all__ = ["AggregationRule", "Deadlines", "FederationConfig", "LearnerConfig", "Mode", "Terms"]

Mode = Literal["simulation", "processes"]
"""``simulation``: Flower's simulation on Ray. ``processes``: one SuperLink and one SuperNode per partner."""

AggregationRule = Literal["plain", "secure", "bounded", "trimmed_mean", "median", "krum"]
"""How the server adds up what partners send. ``plain``: it sees each one's; ``secure``: it sees only totals; the others
bound or outvote what stands out (:mod:`koinon.server.aggregation`), and see each one's."""

SECURE_COHORT = 3
"""With fewer, two contributors could subtract themselves from a total and read the third."""

Value = bool | int | float | str

PartnerName = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=63)]


class LearnerConfig(Config):
    """One learner that the federation trains."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """As in :mod:`koinon.recommenders.federated.registry`, e.g. ``federated_gram``."""
    settings: dict[str, Value] = Field(default_factory=dict)
    """Settings of its plan (rounds, bounds, sizes ...); what is left out keeps its default."""


class Deadlines(Config):
    """How long a phase waits for its slowest partner, in seconds; then it goes on without."""

    join: float = Field(default=90, gt=0)
    """Until the first partners are there."""
    catalogue: float = Field(default=300, gt=0)
    contribute: float = Field(default=900, gt=0)
    adopt: float = Field(default=3600, gt=0)


class Terms(Config):
    """What a federation's members agree on, and how long its server waits for them; who they are stands elsewhere."""

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=63)
    learners: tuple[LearnerConfig, ...] = Field(min_length=1)
    """Trained one after the other."""
    encoder: str = DEFAULT_ENCODER
    """URI of the encoder that all members pin; ``none`` where no learner reads texts."""
    encoder_sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    """Fingerprint of its weights and settings, as :attr:`koinon.space.Space.fingerprint`; empty: not pinned."""
    split: SplitConfig = SplitConfig()
    """How every member divides its events."""
    metrics: tuple[str, ...] = (
        "work_seconds",
        "ndcg@10",
        "ndcg@10/local",
        "ndcg@10/local_space",
        "ndcg@10/federated",
        *(f"ndcg@10/{name}" for name in LEARNERS),
        *(f"harm/{name}" for name in LEARNERS),
        "drift",
    )
    """The only figures that may leave a partner: how long it worked, validation means of whole arms, and two kinds of
    flags: whether a learner's release harms it, whether its data have drifted."""
    minimum_participants: int = Field(default=2, ge=1)
    """A round with fewer answers fails; with secure aggregation at least 3."""
    aggregation: AggregationRule = "plain"
    robustness: Robustness = Robustness()
    """What the server takes for out of line. It is the server's own and no part of the policy."""
    watch: Watch = Watch()
    """When the server withdraws a release by itself, and what it raises alarms about; its own too."""
    privacy: PrivacyConfig | None = None
    """What the partners together may tell of one person; ``None``: no differential privacy."""
    keyed_catalogues: bool = False
    """Identity keys travel as keyed hashes (needed as soon as one catalogue is secret); every partner's folder then
    holds the same ``match.key``, which the server never sees."""
    anonymous: bool = False
    """Releases and ledger say how many took part in a round, not who."""
    deadlines: Deadlines = Deadlines()
    at_once: int = Field(default=2, ge=1)
    """How many partners compute at one time on this machine."""
    seed: int = Field(default=7, ge=0)

    @model_validator(mode="after")
    def _sound(self) -> Self:
        names = [learner.name for learner in self.learners]
        if len(set(names)) < len(names):
            raise ValueError("a learner is named twice")
        if self.aggregation == "secure" and self.minimum_participants < SECURE_COHORT:
            raise ValueError(f"secure aggregation needs minimum_participants = {SECURE_COHORT} or more")
        if self.privacy is not None and self.aggregation not in ("plain", "secure"):
            raise ValueError(f"{self.aggregation} compares single partners, which a privacy budget's noise drowns")
        if self.privacy is not None:
            check_policy(
                self.privacy,
                {learner.name: learner.settings for learner in self.learners},
                split=self.split,
                metrics=self.metrics,
                minimum=self.minimum_participants,
                secure=self.aggregation == "secure",
            )
        return self

    def policy(self) -> wire.Policy:
        """What the members agree on, as it is sent to them. Deadlines are no part of it."""
        policy = wire.Policy(
            federation=self.name,
            encoder=self.encoder,
            encoder_sha256=self.encoder_sha256,
            split_json=self.split.model_dump_json(),
            metrics=self.metrics,
            keyed_catalogues=self.keyed_catalogues,
            minimum_participants=self.minimum_participants,
            aggregation="" if self.aggregation == "plain" else self.aggregation,
            epsilon=self.privacy.epsilon if self.privacy else 0.0,
            delta=self.privacy.delta if self.privacy else 0.0,
            privacy_json=self.privacy.model_dump_json() if self.privacy else "",
            anonymous=self.anonymous,
            seed=self.seed,
        )
        for learner in self.learners:
            entry = policy.learners.add(name=learner.name)
            for key, value in learner.settings.items():
                entry.settings[key].CopyFrom(setting(value))
        return policy

    def policy_sha256(self) -> str:
        """Fingerprint of the policy; partners pin it, releases carry it."""
        return hashlib.sha256(self.policy().SerializeToString(deterministic=True)).hexdigest()


class FederationConfig(Terms):
    """A federation whose partners are known: all of them folders of this machine, or members by name."""

    partners: dict[PartnerName, Path] = Field(min_length=1)
    """Name to folder (with ``partner.toml``); a relative folder is taken from the file's."""

    @field_validator("partners")
    @classmethod
    def _own_folders(cls, partners: dict[str, Path]) -> dict[str, Path]:
        resolved = [path.resolve() for path in partners.values()]
        if len(set(resolved)) < len(resolved):
            raise ValueError("two partners share one folder")
        return partners

    @model_validator(mode="after")
    def _enough_partners(self) -> Self:
        if self.minimum_participants > len(self.partners):
            raise ValueError(f"minimum_participants is more than the {len(self.partners)} partners")
        if self.privacy is not None and self.privacy.partners < len(self.partners):
            raise ValueError(f"privacy.partners is less than the {len(self.partners)} partners")
        return self

    @classmethod
    def load(cls, path: Path) -> FederationConfig:
        """Read a federation file.

        Raises
        ------
        ConfigError
            K101-K103 as :meth:`koinon.config.Config.from_toml`; K110 a partner's folder has no ``partner.toml``.
        """
        config = cls.from_toml(path)
        root = path.resolve().parent
        return config.model_copy(update={"partners": {n: (root / f).resolve() for n, f in config.partners.items()}})

    def training_only(self, learner: str) -> FederationConfig:
        """The same federation, training one learner alone: with its settings where it is listed, else the defaults.

        Raises
        ------
        RecommenderError
            K440 no such learner.
        PrivacyError
            K661-K669, K675 the learner cannot be trained under the federation's privacy budget.
        """
        plan(learner, {})
        listed = [each for each in self.learners if each.name == learner]
        kept = listed or [LearnerConfig(name=learner)]
        return FederationConfig.model_validate({**dict(self), "learners": tuple(kept)})

    def asking(
        self,
        question: str,
        settings: Mapping[str, Value],
        privacy: PrivacyConfig | None,
        partners: Mapping[str, Path],
    ) -> FederationConfig:
        """Some of the same partners, asked a question (:data:`koinon.recommenders.federated.registry.QUESTIONS`).

        Nothing else may leave them: no learner is trained, no figures are told.

        Raises
        ------
        ConfigError
            K103 they are fewer than the policy's minimum.
        RecommenderError
            K440, K441 no such question, or not with these settings.
        PrivacyError
            K660-K676 the question cannot be asked under the budget.
        """
        asked = (LearnerConfig(name=question, settings=dict(settings)),)
        changes = {"learners": asked, "metrics": (), "privacy": privacy, "partners": dict(partners)}
        return FederationConfig.from_dict({**dict(self), **changes}, source="the federation to be asked")

    def check_folders(self) -> None:
        """Raise ``ConfigError`` K110 for a partner whose folder has no ``partner.toml``."""
        for name, folder in self.partners.items():
            if not (folder / "partner.toml").is_file():
                raise ConfigError(
                    "K110",
                    f"The folder of partner {name} has no partner.toml: {folder}.",
                    "Create it with `koinon partner init`, or correct the path in the federation file.",
                )


def setting(value: Value) -> wire.Setting:
    """Put a plain value on the wire."""
    if isinstance(value, bool):
        return wire.Setting(flag=value)
    if isinstance(value, int):
        return wire.Setting(whole=value)
    if isinstance(value, float):
        return wire.Setting(real=value)
    return wire.Setting(text=value)
