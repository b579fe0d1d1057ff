"""What each measure of the study measures, and when to trust it. The report and the guide show these texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["CRITERIA", "QUESTIONS", "Criterion", "Question"]


@dataclass(frozen=True)
class Criterion:
    """One measure.

    Attributes
    ----------
    name
        As tables head it.
    measures
        What it says, in a sentence.
    trust
        When it can be believed, and when not.
    """

    name: str
    measures: str
    trust: str


@dataclass(frozen=True)
class Question:
    """A question that findings are about.

    Attributes
    ----------
    key
        A slice of the NDCG figures, a figure of the lists, ``auc``, ``reworded``, ``cost`` or ``latency``.
    words
        As a finding says it.
    kind
        ``tested``: by paired gains with Holm; ``higher``/``lower``: is better, told by a tenth's difference.
    """

    key: str
    words: str
    kind: Literal["tested", "higher", "lower", "other"]


QUESTIONS: tuple[Question, ...] = (
    Question("all", "everybody, the whole catalogue", "tested"),
    Question("auc", "chances of clicks (AUC)", "tested"),
    Question("cold_among_cold", "items nobody has taken, among themselves", "tested"),
    Question("cold_items", "items nobody has taken, in the whole catalogue", "tested"),
    Question("stranger_1", "strangers with one event", "tested"),
    Question("stranger_5", "strangers with five events", "tested"),
    Question("long_tail", "rarely taken items", "tested"),
    Question("diversity", "diversity of a list", "higher"),
    Question("novelty", "novelty of a list", "higher"),
    Question("coverage", "share of the catalogue that is shown", "higher"),
    Question("miscalibration", "distance from a person's own mix of kinds", "lower"),
    Question("reworded", "other words for the same items", "other"),
    Question("cost", "processor time to fit", "other"),
    Question("latency", "time waited for a list", "other"),
)

CRITERIA: tuple[Criterion, ...] = (
    Criterion(
        "NDCG, HR, recall @10",
        "How high what a person really took next stands in their list, over the whole catalogue less their "
        "history; equal scores count by expectation.",
        "Compare arms on one data set, never across. It rewards guessing what people would have taken anyway."
        " With few people the intervals say so.",
    ),
    Criterion(
        "gain, = + −",
        "NDCG less that of the reference, the conventional arm that was best on validation, paired over the "
        "same people. + or − where the difference is clear at 5 % after Holm over all arms of the data set; ="
        " where it is not.",
        "= does not mean equal: look at the interval. Seeds are averaged within each person first; the spread"
        " over seeds is given beside it and is no part of the interval.",
    ),
    Criterion(
        "AUC, GAUC, log loss",
        "Whether a like is told from a dislike: over all rows, within each person, and as a calibrated "
        "chance. Rows are divided 8 : 1 : 1 by time, ratings above 3 are likes, of 3 left out.",
        "Only where people have said what they dislike. It is about items that were chosen to be rated, not "
        "about what to show. Intervals and tests draw people, not rows.",
    ),
    Criterion(
        "cold items",
        "Held-out items without a training event (a twentieth of every catalogue is withheld): where they "
        "stand among such items alone, and in the whole catalogue.",
        "Among themselves it tells whether there is any signal; chance is given beside it. In the whole "
        "catalogue it tells whether the signal is used. Few targets: wide intervals.",
    ),
    Criterion(
        "strangers with 1, 3, 5 events",
        "The same people shown without an account and with their latest events only; their whole history stays masked.",
        "Their events took part in training, so it is a little kind to all arms alike. It does not cover "
        "people whose taste is of another kind than anybody's in the data.",
    ),
    Criterion(
        "long tail",
        "Held-out items that have training events but are not among the fifth of the catalogue with most of them.",
        "Of what people took by themselves; whether they would have liked more of the tail, no log can tell.",
    ),
    Criterion(
        "diversity, novelty, coverage, Gini, miscalibration",
        "Mean distance of a list's texts in the space; mean self-information of its items in bits; share of "
        "the catalogue in any list; how unevenly items are shown; Jensen-Shannon divergence of a list's kinds"
        " from the history's.",
        "Each can be had for nothing by random lists: read them beside NDCG. Diversity is judged by the same "
        "space that some arms read. A difference of a tenth is called one; they are not tested.",
    ),
    Criterion(
        "other words",
        "The same recommender fitted on the same events with every item's text put otherwise: paraphrased by "
        "rules (article moved, short forms, numbers, case) or translated word by word with a list of 276 "
        "words (English to German; German, French, Spanish to English). Share of the list that stays, change "
        "of NDCG.",
        "Rules and a small dictionary, not a translator: names stay, most rare words stay. The share of words"
        " replaced is given. Arms that read no texts stay as they are by construction.",
    ),
    Criterion(
        "cost",
        "Processor seconds of the last fit and of what came before it (search, early stopping), most memory "
        "the process held, milliseconds waited from a request to its list, numbers learned; for federated "
        "arms bytes that a partner sends in a round.",
        "Threads as stated; the peak of memory is begun anew for each arm. Encoding the catalogue is done once "
        "for all arms and not among it. Other work on the machine lengthens waiting, the 95th percentile most; "
        "on other machines only the order holds.",
    ),
)
