"""Federated Gram's private settings, chosen on a partner's own validation users.

A few hundred validation users cannot tell settings apart that differ by a tenth: the standard error of one hold-out is
as large. A partner without timestamps therefore asks each of them several times. Besides the split's own validation
event, one of the training events is held out at random in its place, and the partner's own part of the Gram matrix is
made without it. Test events are never touched, and the others' part stays what it is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_matrix

from koinon.data import Domain, EvaluationSet, Interactions, Split
from koinon.recommenders._search import Axis, Trial, Validator, descend
from koinon.recommenders.conventional import SemanticEaseConfig, semantic_prior
from koinon.recommenders.conventional._families import _EaseTrial as EaseTrial
from koinon.recommenders.conventional._solve import Matrix
from koinon.recommenders.federated.gram import GramConfig
from koinon.recommenders.federated.gram_sums import Carried
from koinon.space import EvenedSpace, Space

__all__ = ["reheld", "search"]

Doubles = NDArray[np.float64]
OnTrial = Callable[[Trial], None] | None

ALONE_AXES = (
    Axis("lambda_", (30.0, 300.0, 1000.0)),
    Axis("beta", (0.0, 0.1, 1.0)),
    Axis("popularity_weight", (0.01, 0.03, 0.1)),
)
OTHERS_AXES = (
    Axis("cap", (1.0, 10.0, 30.0)),
    Axis("item_power", (0.0, 0.5)),
    Axis("lambda_", (0.4, 2.5), relative=True),
    Axis("beta", (0.03, 0.1, 0.3, 1.0)),
    Axis("popularity_weight", (0.0, 0.01, 0.03, 0.1)),
    Axis("output_power", (0.0, 0.25, 0.5)),
    Axis("cold_weight", (0.03, 0.1, 0.3, 1.0)),
    Axis("cold_blend", (0.0, 1.0, 3.0)),
    Axis("beta", (0.55, 1.8), relative=True),
)
STATED = {
    "lambda_": 100.0,
    "user_power": 0.0,
    "item_power": 0.0,
    "output_power": 0.0,
    "beta": 0.1,
    "popularity_weight": 0.03,
    "cold_weight": 0.1,
    "cold_blend": 0.0,
}
"""What suits shops of a few thousand readers without times."""
ANSWERS = 2000
"""Answers wanted: few users are asked more often."""
MOST_ROUNDS = 4


def search(
    config: GramConfig,
    others: Carried | None,
    split: Split,
    space: Space | None,
    *,
    rng: np.random.Generator,
    start: SemanticEaseConfig | None,
    rows: int,
    caution: float,
    on_trial: OnTrial,
    ranked: int | None = None,
) -> tuple[GramConfig, list[Trial]]:
    """Return the best settings and all trials; see :meth:`FederatedGram.tune`.

    With ``ranked`` only the first so many items are held out and ranked; the rest speak for them.

    From ``start``, or else from what is best without the others, it varies how much of them is taken in and the
    ridge, then what costs no factorisation: the prior, the popularity, and the columns of rarely taken items.
    """
    begin = config if start is None else config.model_copy(update=start.model_dump())
    begin = begin.model_copy(update={"share": 0.0, "cap": None})
    if start is not None and not others:
        return begin, []
    trials: list[Trial] = []
    asked = _Asked(split, others, space, rng, rows, ranked, begin.evenness)

    def go(from_: GramConfig, axes: tuple[Axis, ...]) -> GramConfig:
        best, tried = descend("federated_gram", from_, axes, asked, budget=100, caution=caution, on_trial=on_trial)
        trials.extend(tried)
        return GramConfig.model_validate(best.model_dump())

    if start is None:
        begin = go(begin, ALONE_AXES)
    elif split.train.events.time is None:
        # settings tuned on one small hold-out may be tuned to its noise: stated ones are held against them
        stated = begin.model_copy(update=STATED)
        begin = stated if asked(stated).mean() > asked(begin).mean() else begin
    if not others:
        return begin, trials
    joined = go(begin.model_copy(update={"share": 1.0, "cap": 3.0}), OTHERS_AXES)
    gain = asked(joined) - asked(begin)
    ahead = gain.mean() > max(0.0, caution * gain.std() / np.sqrt(len(gain)))
    return (joined if ahead else begin), trials


def reheld(split: Split, rng: np.random.Generator, ranked: int | None = None) -> tuple[Domain, EvaluationSet]:
    """Hold out another event of each main validation user: ``(training domain, validation set)``.

    The validation event joins training (unless its item is withheld as cold), a random one leaves it, among the first
    ``ranked`` items.
    """
    validation, domain = split.validation, split.train
    asked = np.flatnonzero(validation.main & (np.diff(validation.target_indptr) > 0))
    entered = np.isin(np.repeat(np.arange(len(validation)), np.diff(validation.target_indptr)), asked)
    user = np.repeat(validation.user, np.diff(validation.target_indptr))[entered]
    item = validation.target_items[entered]
    user = np.concatenate([domain.events.user, user[~split.cold_item[item]]])
    item = np.concatenate([domain.events.item, item[~split.cold_item[item]]])
    user, item = np.divmod(np.unique(user.astype(np.int64) * domain.n_items + item), domain.n_items)
    user, item = user.astype(np.int32), item.astype(np.int32)
    outside = np.zeros(len(item), dtype=np.bool_) if ranked is None else item >= ranked
    order = np.lexsort((rng.random(len(user)), outside, user))
    user, item, outside = user[order], item[order], outside[order]
    main = np.zeros(domain.n_users, dtype=np.bool_)
    main[validation.user[asked]] = True
    leaves = np.concatenate([[True], user[1:] != user[:-1]]) & main[user] & ~outside
    train = domain.with_events(Interactions(user[~leaves], item[~leaves]))
    held_user, held_item = user[leaves], item[leaves]
    histories = [train.history(row) for row in held_user.tolist()]
    held = EvaluationSet(
        user=held_user,
        history_indptr=np.concatenate([[0], np.cumsum([len(h) for h in histories])]).astype(np.int64),
        history_items=np.concatenate([*histories, np.empty(0, dtype=np.int32)]).astype(np.int32),
        target_indptr=np.arange(len(held_user) + 1, dtype=np.int64),
        target_items=held_item,
        time=None,
        cold_user=np.array([len(h) <= 2 for h in histories], dtype=np.bool_),
        main=np.ones(len(held_user), dtype=np.bool_),
    )
    return train, held


class _Asked:
    """Asks the validation users, each as often as their number demands; one value per user, their mean."""

    def __init__(
        self,
        split: Split,
        others: Carried | None,
        space: Space | None,
        rng: np.random.Generator,
        rows: int,
        ranked: int | None = None,
        evenness: float | None = None,
    ) -> None:
        prior = None
        if space is not None:
            if evenness is not None:
                space = EvenedSpace(space, split.train.texts, evenness)
            prior = semantic_prior(np.asarray(space.encode(split.train.texts), dtype=np.float32))
        users = int((split.validation.main & (np.diff(split.validation.target_indptr) > 0)).sum())
        rounds = 1
        if split.train.events.time is None and split.validation.time is None:
            rounds = int(np.clip(round(ANSWERS / max(users, 1)), 1, MOST_ROUNDS))
        sets = [(split.train, split.validation), *(reheld(split, rng, ranked) for _ in range(rounds - 1))]
        self._rounds: list[_Round] = []
        for domain, held in sets:
            validator = Validator(domain, held, "ndcg@10", rng, rows)
            if ranked is not None:
                _never_rank(validator, ranked)
            self._rounds.append(_Round(validator, others, prior))
        self._users = np.unique([request.user or 0 for round_ in self._rounds for request in round_.validator.requests])
        self._known: dict[GramConfig, Doubles] = {}

    def __call__(self, config: GramConfig) -> Doubles:
        """Metric per validation user, ``float64[users]``, as the fitted recommender would get it."""
        if config not in self._known:
            total, times = np.zeros(len(self._users)), np.zeros(len(self._users))
            for round_ in self._rounds:
                where = np.searchsorted(self._users, [request.user or 0 for request in round_.validator.requests])
                total[where] += round_.ask(config)
                times[where] += 1
            self._known[config] = total / times
        return self._known[config]


def _never_rank(validator: Validator, ranked: int) -> None:
    """Mask the items from ``ranked`` on for everybody."""
    row, item = np.divmod(
        np.arange(len(validator.requests) * (validator.domain.n_items - ranked)),
        max(validator.domain.n_items - ranked, 1),
    )
    seen_row, seen_item = validator.seen
    validator.seen = (np.concatenate([seen_row, row]), np.concatenate([seen_item, item + ranked]))


class _Round:
    """One set of held-out events, and the solutions that do not know them."""

    def __init__(self, validator: Validator, others: Carried | None, prior: csc_matrix | None) -> None:
        self.validator = validator
        self.others = others
        self.prior = prior
        self._trial: tuple[tuple[float, float | None], _JoinedTrial] | None = None

    def ask(self, config: GramConfig) -> Doubles:
        key = (config.share, config.cap)
        if self._trial is None or self._trial[0] != key:
            self._trial = None
            self._trial = (key, _JoinedTrial(self.validator, self.others, self.prior, *key))
        return self._trial[1].measure(config)


class _JoinedTrial(EaseTrial):
    """Trials of EASE on the partner's own Gram matrix and the others'."""

    def __init__(
        self, validator: Validator, others: Carried | None, prior: csc_matrix | None, share: float, cap: float | None
    ) -> None:
        super().__init__(validator, None)
        self.prior = prior
        self.taken_in = (others, share, cap)
        if others and share:
            known = others.known(self.counts, share, cap)
            self.counts = np.ceil(known).astype(np.int64)

    def _gram(self, user_power: float) -> Matrix:
        if user_power not in self._grams:
            gram = super()._gram(user_power)
            others, share, cap = self.taken_in
            if others and share:
                others.add_to(gram, share, cap)
        return self._grams[user_power]
