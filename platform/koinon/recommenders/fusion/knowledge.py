"""Knowledge in words: what a language model says of items, and of people by what they liked, as vectors.

KAR (Xi et al. 2023, arXiv 2306.10933): factual knowledge about items and reasoning about people is written once, ahead
of any request, and read by the space's encoder. Who and what is treated is a stated subset, the most taken items and
the most active people first; texts are kept on record, so that a run goes on where it was, and a text that is of no use
counts as none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from koinon.config import Config
from koinon.data import Domain
from koinon.errors import RecommenderError
from koinon.recommenders.conventional import encode_wishes
from koinon.recommenders.llm_as_rs.prompted import said
from koinon.space import Space
from koinon.space.generating import Writer, WritingConfig, open_writer
from koinon.space.written import Record, Told, write_all

__all__ = ["QUESTIONS", "Knowledge", "KnowledgeConfig", "Questions", "knowledge_of", "write_knowledge"]

Vectors = NDArray[np.float32]
Progress = Callable[[str, int, int], None]


class Questions(Config):
    """What is asked, in one language; ``{titles}`` stands for what it is asked about."""

    item: str
    person: str


QUESTIONS: dict[str, Questions] = {
    "en": Questions(
        item="In one sentence: what is “{titles}” about, and what kind of people like it?",
        person="Somebody liked these: {titles}. In one sentence: what do they have in common, and what does this "
        "person look for?",
    ),
    "de": Questions(
        item="In einem Satz: Worum geht es in „{titles}“, und was für Menschen gefällt es?",
        person="Jemandem hat dies gefallen: {titles}. In einem Satz: Was haben sie gemeinsam, und was sucht diese "
        "Person?",
    ),
    "fr": Questions(
        item="En une phrase : de quoi parle « {titles} », et à quel genre de personnes cela plaît-il ?",
        person="Quelqu'un a aimé ceci : {titles}. En une phrase : qu'ont-ils en commun, et que cherche cette "
        "personne ?",
    ),
    "es": Questions(
        item="En una frase: ¿de qué trata «{titles}» y a qué tipo de personas le gusta?",
        person="A alguien le gustó esto: {titles}. En una frase: ¿qué tienen en común y qué busca esta persona?",
    ),
}


class KnowledgeConfig(Config):
    """Who writes, of whom and of what."""

    model: str | None = None
    """A decoder, ``hf:<name or folder>`` or ``gguf:<file>``."""
    endpoint: str | None = None
    """Instead: base URL of an OpenAI-compatible server. It hears titles that people liked."""
    endpoint_model: str = "default"
    trusted_host: str | None = None
    """An endpoint on another machine that may hear them."""
    timeout: float = Field(default=120.0, gt=0.0, le=3600.0)
    """Seconds an endpoint has for one text."""
    on_failure: Literal["raise", "leave"] = "leave"
    """``leave``: what an endpoint fails at is not known; after three failures in a row nothing more is asked."""
    record: str | None = None
    """Folder that keeps the texts, within the partner's own; ``None``: they are written anew each time."""
    items: int = Field(default=200, ge=0)
    """Items treated, the most taken first."""
    people: int = Field(default=100, ge=0)
    """People treated, the most active first."""
    history: int = Field(default=10, ge=1, le=100)
    """The latest titles that are told of a person."""
    title_length: int = Field(default=80, ge=8, le=400)
    language: Literal["en", "de", "fr", "es"] = "en"
    """Of the questions; texts in another are of no use."""
    questions: Questions | None = None
    """Instead of the language's own. Say what the things are: ``the film “{titles}”``."""
    writing: WritingConfig = WritingConfig(no_repeat=4)
    seconds: float | None = Field(default=None, gt=0.0)
    """Time for all of it; what is not reached stays unknown and is written by a later run."""


@dataclass(frozen=True)
class Knowledge:
    """What is known, as vectors of the space.

    Attributes
    ----------
    items, people
        ``float32[items, d]`` and ``float32[people, d]`` unit rows; zeros where nothing is known.
    faults
        Why texts are not used, and how many.
    of_items, of_people
        Row to text.
    """

    items: Vectors
    people: Vectors
    faults: Mapping[str, int] = field(default_factory=dict)
    of_items: Mapping[int, str] = field(default_factory=dict)
    of_people: Mapping[int, str] = field(default_factory=dict)


def knowledge_of(
    domain: Domain,
    space: Space,
    config: KnowledgeConfig,
    writer: Writer | None = None,
    *,
    progress: Progress | None = None,
) -> Knowledge:
    """Have the most taken items and the most active people of a domain written about.

    Raises
    ------
    RecommenderError
        K488 neither a model nor an endpoint is named.
    SpaceError
        K300-K313, K342-K344 as the writer's.
    """
    items = np.argsort(-domain.item_counts, kind="stable")[: config.items]
    lengths = np.diff(domain.matrix.indptr)
    people = np.argsort(-lengths, kind="stable")[: config.people]
    liked = {int(person): domain.history(int(person)) for person in people if lengths[person]}
    titles = said(domain.items, config.title_length)
    return write_knowledge(titles, items, liked, domain.n_users, space, config, writer, progress=progress)


def write_knowledge(
    titles: Sequence[str],
    items: Sequence[int] | NDArray[np.integer],
    liked: Mapping[int, NDArray[np.integer]],
    people: int,
    space: Space,
    config: KnowledgeConfig,
    writer: Writer | None = None,
    *,
    progress: Progress | None = None,
) -> Knowledge:
    """Have some items and people written about.

    Parameters
    ----------
    titles
        ``str[items]``, as they may be said.
    items
        Rows to treat.
    liked
        Person's row to items liked, oldest first.
    people
        How many people there are.
    space
        Encodes the texts.
    config, writer
        Settings, and who writes instead of the model they name.
    progress
        Called as ``progress("items" or "people", done, total)``.

    Raises
    ------
    RecommenderError
        K488 neither a model nor an endpoint is named.
    SpaceError
        K300-K313, K342-K344 as the writer's.
    """
    writer = writer or _open(config)
    asked = config.questions or QUESTIONS[config.language]
    record = None if config.record is None else Record(Path(config.record))
    of_items = {int(item): asked.item.replace("{titles}", titles[item]) for item in items}
    of_people = {
        person: asked.person.replace("{titles}", "; ".join(titles[item] for item in had[-config.history :]))
        for person, had in liked.items()
    }
    found: dict[str, dict[int, str]] = {}
    faults: Counter[str] = Counter()
    for name, prompts in (("items", of_items), ("people", of_people)):
        told: list[Told] = write_all(
            writer,
            list(prompts.values()),
            config.writing,
            record,
            language=config.language,
            seconds=config.seconds,
            on_failure=config.on_failure,
            progress=None if progress is None else _named(progress, name),
        )
        found[name] = {row: one.text for row, one in zip(prompts, told, strict=True) if not one.fault}
        faults.update(one.fault for one in told if one.fault)
    return Knowledge(
        _encoded(found["items"], len(titles), space),
        _encoded(found["people"], people, space),
        dict(faults),
        found["items"],
        found["people"],
    )


def _named(progress: Progress, name: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(name, done, total)


def _encoded(texts: Mapping[int, str], rows: int, space: Space) -> Vectors:
    vectors = np.zeros((rows, space.dimension), dtype=np.float32)
    if texts:
        # what is said of people is theirs: no cache beyond the partner's folder remembers it
        vectors[list(texts)] = encode_wishes(space, list(texts.values()))
    return vectors


def _open(config: KnowledgeConfig) -> Writer:
    if config.model is None and config.endpoint is None:
        raise RecommenderError(
            "K488", "No language model is named.", "Set `model`, e.g. `gguf:SmolLM2-135M-Instruct.Q4_1.gguf`."
        )
    return open_writer(
        config.model,
        endpoint=config.endpoint,
        endpoint_model=config.endpoint_model,
        trusted_host=config.trusted_host,
        timeout=config.timeout,
    )
