"""The arms of the study: every recommender, its paradigm, its place, and what it needs.

To add one, write an :class:`Arm` into :data:`ARMS`. A recommender of the store's registry that is fitted as all others
are needs no more than its name, its paradigm and its settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from koinon.recommenders.fusion.place import Place
from koinon.studies.paradigms.config import StudyConfig

__all__ = ["ARMS", "PARADIGMS", "Arm", "Need", "Paradigm", "Told"]

Paradigm = Literal["conventional", "serial: embeddings", "serial: tokens", "LLM as RS", "fusion", "federated"]
PARADIGMS: tuple[Paradigm, ...] = (
    "conventional",
    "serial: embeddings",
    "serial: tokens",
    "LLM as RS",
    "fusion",
    "federated",
)
"""In the order in which they are read."""

Need = Literal["order", "times", "labels", "model", "tuned space"]
"""What an arm cannot do without: events in order or with times, likes and dislikes, a language model, a tuned space."""

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Told:
    """What a study tells an arm beyond the data.

    Attributes
    ----------
    study
        Its settings.
    language
        Of most items of the data set, ISO 639-1.
    base, base_settings
        The conventional recommender that was best on validation, for arms that stand on one.
    """

    study: StudyConfig
    language: str
    base: str
    base_settings: Settings


@dataclass(frozen=True)
class Arm:
    """One recommender in the study.

    Attributes
    ----------
    name, title
        In files and options; for people.
    paradigm
        How a language model and a recommender are joined.
    recommender
        Name in :data:`koinon.recommenders.store.REGISTRY`; ``None`` for an arm that tells chances of clicks alone.
    place
        Where a language model stands, and how; ``None`` without one.
    needs
        What the data or the study must offer.
    settings
        What differs from the recommender's own defaults where no settings are kept.
    kept
        The table of a settings file that holds the arm's settings, where it is not the recommender's name; an empty
        one: none does.
    tunable
        Whether its settings are looked for on validation where none are kept.
    draws
        Whether seeds matter.
    reads_texts
        Whether it is fitted with the space, so that other texts may change its lists.
    sampled
        Whether a language model is at work for every request, so that a sample of people is asked.
    clicks
        Name in :data:`koinon.recommenders.clicks.CLICK_MODELS`, where the arm also tells chances of clicks.
    about
        One sentence.
    """

    name: str
    title: str
    paradigm: Paradigm
    recommender: str | None
    about: str
    place: Place | None = None
    needs: tuple[Need, ...] = ()
    settings: Settings = field(default_factory=dict)
    kept: str | None = None
    tunable: bool = False
    draws: bool = True
    reads_texts: bool = False
    sampled: bool = False
    clicks: str | None = None
    complete: Callable[[Told], Settings] | None = None
    """Completes the settings by what the study says, e.g. by the language model's name."""

    @property
    def kept_as(self) -> str:
        """The table of a settings file."""
        return (self.recommender or self.name) if self.kept is None else self.kept


_ENCODER = Place("feature encoder", "frozen", True)
_RANKING = Place("scoring/ranking", "frozen", True)
_SEQUENCE: Settings = {"length": 50, "epochs": 30, "patience": 4}
_CLICKS: Settings = {"epochs": 6, "patience": 2}
_ALIGNED: Settings = {**_CLICKS, "alignment": {}}


def _conventional(name: str, title: str, about: str, **more: Any) -> Arm:
    return Arm(name, title, "conventional", more.pop("recommender", name), about, **more)


def _prompted(told: Told) -> Settings:
    return {
        "base": told.base,
        "base_settings": dict(told.base_settings),
        "model": told.study.model,
        "candidates": told.study.candidates,
        "language": told.language if told.language in ("en", "de", "fr", "es") else "en",
    }


_ALL: tuple[Arm, ...] = (
    _conventional("popularity", "popularity", "What most people took.", draws=False, kept=""),
    _conventional(
        "windowed", "windowed popularity", "What most people took of late.",
        recommender="popularity", kept="windowed", needs=("times",), tunable=True, draws=False,
    ),
    _conventional("itemknn", "ItemKNN", "Items that the same people took.", tunable=True, draws=False),
    _conventional("ease", "EASE", "Linear item-item model in closed form.", tunable=True, draws=False),
    _conventional("ials", "iALS", "Implicit matrix factorisation.", tunable=True),
    _conventional("bpr", "BPR-MF", "Factorisation by pairwise ranking.", tunable=True),
    _conventional(
        "sasrec", "SASRec", "Causal attention over the sequence of ids.",
        needs=("order",), settings=_SEQUENCE,
    ),
    _conventional(
        "hstu", "HSTU", "Pointwise attention over the sequence of ids.",
        needs=("order",), settings=_SEQUENCE,
    ),
    _conventional(
        "logistic", "logistic regression", "One weight for each value of each field.",
        recommender=None, needs=("labels",), draws=False, clicks="logistic",
    ),
    _conventional(
        "trees", "boosted trees", "Gradient boosting on rates of likes.",
        recommender=None, needs=("labels",), clicks="trees",
    ),
    _conventional(
        "deepfm", "DeepFM", "Factorisation machine beside a perceptron.", settings=_CLICKS, clicks="deepfm"
    ),
    _conventional("dcnv2", "DCNv2", "Cross network beside a perceptron.", settings=_CLICKS, clicks="dcnv2"),
    _conventional("autoint", "AutoInt", "Attention among fields.", settings=_CLICKS, clicks="autoint"),
    Arm(
        "text-similarity", "likeness of texts", "serial: embeddings", "text-similarity",
        "What reads like the history; nobody's behaviour is learned from.",
        place=Place("feature encoder", "frozen", False), draws=False, reads_texts=True,
    ),
    Arm(
        "semantic-ease", "semantic EASE", "serial: embeddings", "semantic-ease",
        "EASE with the likeness of texts as its prior.",
        place=_ENCODER, tunable=True, draws=False, reads_texts=True,
    ),
    Arm(
        "semantic-ease-tuned", "semantic EASE, tuned space", "serial: embeddings", "semantic-ease",
        "The same over vectors that were trained on behaviour (NoteLLM).",
        place=Place("feature encoder", "tuned", True), needs=("tuned space",), tunable=True, draws=False,
        reads_texts=True,
    ),
    Arm(
        "sasrec-texts", "SASRec over texts", "serial: embeddings", "sasrec",
        "An item of the sequence is its text's vector, projected.",
        place=_ENCODER, needs=("order",), settings={**_SEQUENCE, "items": "texts"}, kept="", reads_texts=True,
    ),
    Arm(
        "hstu-texts", "HSTU over texts", "serial: embeddings", "hstu",
        "The same with pointwise attention.",
        place=_ENCODER, needs=("order",), settings={**_SEQUENCE, "items": "texts"}, kept="", reads_texts=True,
    ),
    Arm(
        "generative", "generative semantic ids", "serial: tokens", "generative",
        "The next item is said in code words made of its text.",
        place=_ENCODER, needs=("order",), settings={**_SEQUENCE, "code_words": 64}, reads_texts=True,
    ),
    Arm(
        "ctrl-dcnv2", "CTRL over DCNv2", "serial: tokens", "dcnv2",
        "DCNv2 aligned with the rows' words first.",
        place=_ENCODER, settings=_ALIGNED, kept="", reads_texts=True, clicks="dcnv2",
    ),
    Arm(
        "ctrl-autoint", "CTRL over AutoInt", "serial: tokens", "autoint",
        "AutoInt aligned with the rows' words first.",
        place=_ENCODER, settings=_ALIGNED, kept="", reads_texts=True, clicks="autoint",
    ),
    Arm(
        "prompted", "prompted reranker", "LLM as RS", "prompted",
        "A language model reorders the base's best; its weight is chosen on validation and may be 0.",
        place=_RANKING, needs=("model",), complete=_prompted, kept="", draws=False, sampled=True,
    ),
    Arm(
        "prompted-alone", "prompted, model alone", "LLM as RS", "prompted",
        "The same candidates in the language model's own order.",
        place=_RANKING, needs=("model",), settings={"weight": 1e6}, complete=_prompted, kept="", draws=False,
        sampled=True,
    ),
)  # fmt: skip

ARMS: dict[str, Arm] = {arm.name: arm for arm in _ALL}
"""By name, in the order in which they are read."""
