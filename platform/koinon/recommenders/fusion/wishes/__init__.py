"""User interaction: wishes in words, in several languages, as limits, a query vector and at most one question back.

:class:`WishReader` reads a wish by rules, by the catalogue's own names, by nearness in the space and, with a language
model, by likelihoods. :class:`Asking` puts that before a conventional recommender.
"""

from koinon.recommenders.fusion.wishes.facts import Constraint, Facts
from koinon.recommenders.fusion.wishes.likelihood import CategoryJudge
from koinon.recommenders.fusion.wishes.question import Question, QuestionConfig, question_for
from koinon.recommenders.fusion.wishes.reading import Wish, WishConfig, WishReader
from koinon.recommenders.fusion.wishes.recommender import ANSWERED, Asking, AskingConfig, Reply, limited

__all__ = [
    "ANSWERED",
    "Asking",
    "AskingConfig",
    "CategoryJudge",
    "Constraint",
    "Facts",
    "Question",
    "QuestionConfig",
    "Reply",
    "Wish",
    "WishConfig",
    "WishReader",
    "limited",
    "question_for",
]
