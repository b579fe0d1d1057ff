"""The arms of the study: every recommender, its paradigm, its place, and what it needs.

To add one, write an :class:`Arm` into :data:`ARMS`. A recommender of the store's registry that is fitted as all others
are needs no more than its name, its paradigm and its settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
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

Need = Literal["order", "times", "labels", "model", "partners", "wishes"]
"""What an arm cannot do without: events in order or with times, likes and dislikes, a language model, other data sets
to federate with, requests in words."""

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Told:
    """What a study tells an arm beyond the data.

    Attributes
    ----------
    study
        Its settings.
    language
        Of the data set, of those that prompts are written in.
    labels
        Whether weights of its events tell likes from dislikes.
    base, base_settings
        The conventional recommender that was best on validation, for arms that stand on one.
    settled
        Arm to the settings that validation settled, of what has been fitted.
    record
        Folder that keeps what a language model has said of this data set.
    """

    study: StudyConfig
    language: Literal["en", "de", "fr", "es"]
    labels: bool
    base: str
    base_settings: Settings
    settled: Mapping[str, Settings]
    record: Path

    @property
    def over_base(self) -> Settings:
        """The base, as settings name it."""
        return {"base": self.base, "base_settings": dict(self.base_settings)}


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
    encoder
        The space it reads instead of the study's.
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
    encoder: str | None = None
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
    study = told.study
    return {**told.over_base, "model": study.model, "candidates": study.candidates, "language": told.language}


def _tuned(told: Told) -> Settings:
    return {
        **told.over_base,
        "model": told.study.model,
        "candidates": min(20, told.study.candidates),
        # where weights tell no dislikes, whatever was taken is a liking
        **({"dislikes": "rated"} if told.labels else {"dislikes": "drawn", "liked_from": 0.0}),
    }


def _controlled(told: Told) -> Settings:
    texts = {"name": "texts", "recommender": "semantic-ease", "settings": told.settled.get("semantic-ease", {})}
    return {
        "pipelines": [
            {"name": "base", "recommender": told.base, "settings": dict(told.base_settings)},
            {**texts, "hears_words": True},
            {"name": "popularity", "recommender": "popularity"},
        ],
        "budget_ms": 2000.0,
    }


def _knowing(told: Told) -> Settings:
    knowledge = {"model": told.study.model, "record": str(told.record), "language": told.language}
    return {
        "base": "semantic-ease",
        "base_settings": told.settled.get("semantic-ease", {}),
        "knowledge": {**knowledge, "items": told.study.written, "people": 0},
    }


def _together(told: Told) -> Settings:
    return {"base": "semantic-ease", "base_settings": told.settled.get("semantic-ease", {})}


def _beside(told: Told) -> Settings:
    return {"own": told.settled.get("semantic-ease", {})}


def _pseudo(told: Told) -> Settings:
    return {
        "base": "ease",
        "base_settings": told.settled.get("ease", {}),
        "model": told.study.model,
        "record": str(told.record),
        "language": told.language,
        "people": 40,
        "items": told.study.written,
        "takers": 8,
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
        "text-similarity-evened", "likeness of texts, evened", "serial: embeddings", "text-similarity",
        "The same about the catalogue's mean, its long axes shortened.",
        place=Place("feature encoder", "frozen", False), settings={"evenness": 0.5}, kept="", draws=False,
        reads_texts=True,
    ),
    Arm(
        "semantic-ease", "semantic EASE", "serial: embeddings", "semantic-ease",
        "EASE with the likeness of texts as its prior.",
        place=_ENCODER, tunable=True, draws=False, reads_texts=True,
    ),
    Arm(
        "semantic-ease-evened", "semantic EASE, evened", "serial: embeddings", "semantic-ease",
        "The same about the catalogue's mean, its long axes shortened.",
        place=_ENCODER, settings={"evenness": 0.5}, tunable=True, draws=False, reads_texts=True,
    ),
    Arm(
        "text-similarity-tuned", "likeness of texts, NoteLLM's map", "serial: embeddings", "notellm",
        "What is like the history in a space that has learned what goes together here.",
        place=Place("feature encoder", "tuned", False), reads_texts=True, kept="",
    ),
    Arm(
        "semantic-ease-tuned", "semantic EASE, NoteLLM's map", "serial: embeddings", "notellm",
        "EASE with that likeness as its prior.",
        place=Place("feature encoder", "tuned", True), complete=_together, reads_texts=True, kept="",
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
    Arm(
        "tallrec", "TALLRec, 64 samples", "LLM as RS", "tuned",
        "A language model tuned on 64 judgements (LoRA) reranks the base's best; its weight is chosen on validation.",
        place=Place("scoring/ranking", "tuned", True), needs=("model",), settings={"samples": 64}, complete=_tuned,
        kept="", sampled=True,
    ),
    Arm(
        "pseudo", "pseudo-feedback", "fusion", "pseudo",
        "A language model says who would take cold items; EASE learns from that too, at a weight from validation.",
        place=Place("data collection", "frozen", True), needs=("model",), complete=_pseudo, kept="", draws=False,
    ),
    Arm(
        "kar", "KAR", "fusion", "kar",
        "What a language model writes of items joins their texts before semantic EASE reads them.",
        place=Place("feature engineering", "frozen", True), needs=("model",), complete=_knowing, kept="", draws=False,
        reads_texts=True,
    ),
    Arm(
        "unisrec", "UniSRec", "fusion", "unisrec",
        "A sequence network over texts that a mixture of whitenings adapts.",
        place=_ENCODER, needs=("order",), settings=_SEQUENCE, kept="", reads_texts=True,
    ),
    Arm(
        "gated", "gated scoring", "fusion", "gated",
        "Texts beside the base's score, gated by how well item and person are known; the gate is from validation.",
        place=_RANKING, complete=lambda told: told.over_base, kept="", draws=False, reads_texts=True,
    ),
    Arm(
        "asking", "wishes in words", "fusion", "asking",
        "A wish in words becomes limits and a query vector before a conventional recommender ranks.",
        place=Place("user interaction", "frozen", True), needs=("wishes",), complete=lambda told: told.over_base,
        kept="", draws=False, reads_texts=True,
    ),
    Arm(
        "controller", "controller", "fusion", "controller",
        "Routes each request to a pipeline within a latency budget; routes are from validation.",
        place=Place("pipeline controller", "frozen", True), complete=_controlled, kept="", draws=False,
        reads_texts=True,
    ),
    Arm(
        "federated-popularity", "federated popularity", "federated", "federated_popularity",
        "What most people took here and, of works in common, at the study's other data sets.",
        needs=("partners",), kept="", draws=False,
    ),
    Arm(
        "federated-gram", "federated Gram", "federated", "federated_gram",
        "Semantic EASE on the own sums and those of the study's other data sets, added up over agreed works.",
        place=_ENCODER, needs=("partners",), kept="semantic-ease", draws=False, reads_texts=True,
    ),
    Arm(
        "federated-adapters", "federated adapters", "federated", "federated_adapters",
        "Maps over the space and factors of works, learned in rounds with the study's other data sets.",
        place=_ENCODER, needs=("partners",), kept="semantic-ease", draws=False, reads_texts=True,
    ),
    Arm(
        "federated-codebook", "federated code words", "federated", "federated_codebook",
        "Likeness of texts as one codebook tells them, fitted on all catalogues together.",
        place=Place("feature encoder", "frozen", False), needs=("partners",), kept="", draws=False, reads_texts=True,
    ),
    Arm(
        "federated-hstu", "federated HSTU", "federated", "federated_hstu",
        "HSTU over texts learned in rounds; semantic EASE on the own events is mixed in as validation says.",
        place=_ENCODER, needs=("order", "partners"), complete=_beside, kept="", reads_texts=True,
    ),
    Arm(
        "federated-lora", "federated LoRA", "federated", "federated_lora",
        "An English encoder tuned in rounds to what goes together; semantic EASE reads it as far as validation says.",
        place=Place("feature encoder", "tuned", True), needs=("partners",), settings={"rounds": 4},
        kept="semantic-ease", reads_texts=True, encoder="minilm-english?dtype=bfloat16",
    ),
)  # fmt: skip

ARMS: dict[str, Arm] = {arm.name: arm for arm in _ALL}
"""By name, in the order in which they are read."""
