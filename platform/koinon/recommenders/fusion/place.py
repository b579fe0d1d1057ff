"""Where in the pipeline a language model stands, and how: the two axes on which every fusion recommender is placed.

The axes are those of Lin et al., *How can recommender systems benefit from large language models* (arXiv 2306.05817).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["PLACES", "Place", "Where"]

Where = Literal[
    "data collection",
    "feature engineering",
    "feature encoder",
    "scoring/ranking",
    "user interaction",
    "pipeline controller",
]

PLACES: tuple[Where, ...] = get_args(Where)
"""The stages of a recommender's pipeline, in its order."""


@dataclass(frozen=True)
class Place:
    """A place on the map; every fusion recommender states its own as ``place: ClassVar[Place]``.

    Attributes
    ----------
    where
        The stage that the language model takes part in.
    how_tuned
        Whether the language model is used as it comes (``frozen``) or trained for the task (``tuned``).
    with_conventional
        Whether a conventional recommender takes part.

    Raises
    ------
    ValueError
        There is no such stage.
    """

    where: Where
    how_tuned: Literal["frozen", "tuned"]
    with_conventional: bool

    def __post_init__(self) -> None:
        if self.where not in PLACES:
            raise ValueError(f"there is no stage {self.where!r}; the stages are {', '.join(PLACES)}")

    def __str__(self) -> str:
        model = "with" if self.with_conventional else "without"
        return f"{self.where}; language model {self.how_tuned}, {model} a conventional recommender"
