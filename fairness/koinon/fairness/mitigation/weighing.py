"""Weighing remedies: every one over its dial on validation, and on the test, once, the settings chosen there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from koinon.evaluation.significance import paired_gain
from koinon.fairness.cells import Grouping
from koinon.fairness.gaps import gap_of
from koinon.fairness.lists import Given, look
from koinon.fairness.metrics import METRICS
from koinon.fairness.mitigation.calibrated import SMOOTHING
from koinon.fairness.mitigation.findings import Effect, Frontier, Mitigation, Option, Point, Question, Span
from koinon.fairness.mitigation.remedies import Stage, Treatment, fit_planned, treatments
from koinon.fairness.mitigation.reranking import Remembered
from koinon.fairness.moments import moments_of
from koinon.fairness.plan import AuditPlan, ProviderPlan, WindowPlan
from koinon.fairness.providing import compare_providers
from koinon.fairness.resampling import bootstrap_means
from koinon.fairness.results import Comparison, Provider
from koinon.fairness.subject import Source
from koinon.fairness.units import Units
from koinon.recommenders.protocol import Recommender

__all__ = ["weigh"]

Doubles = NDArray[np.float64]
Divide = Callable[[AuditPlan, list[Given]], tuple[Units, dict[str, Grouping]]]
Asked = Comparison | Provider

_FEW_DRAWS = 200


@dataclass(frozen=True)
class _Outcome:
    """What people got: their lists, their figures, and how they are divided."""

    given: list[Given]
    units: Units
    groupings: Mapping[str, Grouping]

    def values(self, metric: str) -> Doubles:
        column: Doubles = self.units.values[:, self.units.metrics.index(metric)]
        return column

    @property
    def ndcg(self) -> float:
        return float(self.values("ndcg").mean())


def weigh(
    plan: AuditPlan,
    sources: Sequence[Source],
    judged: Sequence[Asked],
    divide: Divide,
    *,
    say: Callable[[str], None] = lambda _: None,
) -> Mitigation | None:
    """Weigh the plan's remedies on the primary questions that did not pass; ``None`` where the plan names none.

    Parameters
    ----------
    plan
        Of the audit.
    sources
        As audited, the recommender fitted on everything before the test.
    judged
        Every comparison of the audit, with its verdict.
    divide
        Unites people and divides them, as the audit does.
    say
        Told each step in one line.

    Raises
    ------
    EvaluationError
        K524 a group that is large enough in the test is too small in validation.
    """
    if plan.mitigation is None:
        return None
    largest_cost = plan.mitigation.largest_cost
    primary = {one.metric for one in plan.primary}
    others = tuple(name for name in dict.fromkeys(("ndcg", *plan.metrics)) if name not in primary)
    plan = plan.model_copy(update={"exploratory": others})
    questions = [one for one in judged if one.verdict is not None and one.verdict != "pass"]
    questions = [one for one in questions if isinstance(one, Provider) or one.gap is not None]
    say("fitting the recommender without validation events")
    validation = _Weighing(plan, [_before_validation(plan, one) for one in sources], divide)
    test = _Weighing(plan, sources, divide, plan.data.window)
    groups = list(dict.fromkeys(one.group for one in questions if isinstance(one, Comparison)))
    divisions = list(dict.fromkeys(one.by for one in questions if isinstance(one, Provider)))
    frontiers: list[Frontier] = []
    options: list[list[Option]] = [[] for _ in questions]
    for treatment in treatments(plan, validation.stages, groups, divisions):
        say(f"weighing {treatment.remedy}{' of ' + treatment.of if treatment.of else ''}")
        frontier = _frontier(plan, validation, treatment, questions)
        frontiers.append(frontier)
        chosen = {
            place: dial
            for place in range(len(questions))
            if (dial := _chosen(frontier, place, largest_cost)) is not None
        }
        for dial in sorted(set(chosen.values())):
            after = test.treated(treatment, dial)
            for place in (place for place, one in chosen.items() if one == dial):
                options[place].append(_option(plan, treatment, dial, questions[place], validation, test, after))
    return Mitigation(
        largest_cost=largest_cost,
        questions=[
            _question(one, sorted(found, key=lambda option: option.after.value))
            for one, found in zip(questions, options, strict=True)
        ],
        frontiers=frontiers,
    )


class _Weighing:
    """One set of people who are asked over and over: validation's, or the test's."""

    def __init__(
        self, plan: AuditPlan, sources: Sequence[Source], divide: Divide, window: WindowPlan | None = None
    ) -> None:
        self.plan, self.divide, self.window = plan, divide, window
        depth = plan.mitigation.depth if plan.mitigation else plan.k
        self.inner = [Remembered(one.recommender, one.known.n_items, depth=depth) for one in sources]
        self.sources = sources
        self.before = self._asked(list(self.inner))
        self.stages = [
            Stage(plan, source, inner, self.before.groupings) for source, inner in zip(sources, self.inner, strict=True)
        ]

    def treated(self, treatment: Treatment, dial: float) -> _Outcome:
        """What people get with a remedy."""
        return self._asked([treatment.build(stage, dial) for stage in self.stages])

    def _asked(self, recommenders: Sequence[Recommender]) -> _Outcome:
        plan = self.plan
        given = [
            look(
                replace(source, recommender=recommender),
                plan.metrics,
                k=plan.k,
                patience=plan.patience,
                like_from=plan.data.like_from,
                seed=plan.seed,
                window=self.window,
            )
            for source, recommender in zip(self.sources, recommenders, strict=True)
        ]
        return _Outcome(given, *self.divide(plan, given))


def _before_validation(plan: AuditPlan, source: Source) -> Source:
    """The same source as it was before its validation events, which are asked for."""
    split = replace(source.split, test=source.split.validation)
    fitted = fit_planned(plan, split.train, source.space)
    return replace(source, split=split, known=split.train, recommender=fitted)


def _frontier(plan: AuditPlan, validation: _Weighing, treatment: Treatment, questions: Sequence[Asked]) -> Frontier:
    assert plan.mitigation is not None
    outcomes = [(0.0, validation.before)]
    outcomes += [(dial, validation.treated(treatment, dial)) for dial in plan.mitigation.dials]
    points = [
        Point(
            dial=dial,
            ndcg=outcome.ndcg,
            gaps=[_gap(plan, outcome, question) for question in questions],
            figures=_figures(outcome, validation.stages),
        )
        for dial, outcome in outcomes
    ]
    return Frontier(remedy=treatment.remedy, of=treatment.of, asks_group=treatment.asks_group, points=points)


def _chosen(frontier: Frontier, place: int, largest_cost: float) -> float | None:
    """The dial with the least gap among those that cost little enough; ``None``: none has a lesser one than 0."""
    first, *others = frontier.points
    dear = first.ndcg * (1 - largest_cost)
    fit = [(gap, one.dial) for one in others if (gap := one.gaps[place]) is not None and one.ndcg >= dear]
    before = first.gaps[place]
    if before is None or not fit or min(fit)[0] >= before:
        return None
    return min(fit)[1]


def _gap(plan: AuditPlan, outcome: _Outcome, question: Asked) -> float | None:
    if isinstance(question, Provider):
        return _exposure(plan, outcome, question, _FEW_DRAWS).deviation
    means = _means(outcome, question)[1]
    return float(np.ptp(means)) if len(means) > 1 else None


def _means(outcome: _Outcome, question: Comparison) -> tuple[list[str], Doubles]:
    grouping = outcome.groupings[question.group]
    means = moments_of(outcome.values(question.metric)[:, None], grouping.cell, len(grouping.labels)).means[:, 0]
    shown = grouping.shown[np.isfinite(means[grouping.shown])]
    return [grouping.labels[one] for one in shown], means[shown]


def _exposure(plan: AuditPlan, outcome: _Outcome, question: Provider, draws: int) -> Provider:
    narrowed = plan.model_copy(update={"providers": (ProviderPlan(by=question.by),), "draws": draws})  # type: ignore[arg-type]
    return compare_providers(narrowed, [one for one in outcome.given if one.source.name == question.source])[0]


def _figures(outcome: _Outcome, stages: Sequence[Stage]) -> dict[str, float]:
    means = np.nanmean(outcome.units.values, axis=0)
    figures = {name: float(mean) for name, mean in zip(outcome.units.metrics, means, strict=True) if np.isfinite(mean)}
    if "miscalibration_kl" in figures:
        apart = [_from_everybody(one, stage) for one, stage in zip(outcome.given, stages, strict=True)]
        figures["from_everybody"] = float(np.nanmean(np.concatenate(apart)))
    return figures


def _from_everybody(given: Given, stage: Stage) -> Doubles:
    """Divergence of each list's kinds from what everybody takes, ``float64[users]``, nats, smoothed alike."""
    due = given.source.known.item_counts @ stage.kinds
    due = due / due.sum()
    there = given.lists >= 0
    shares = np.where(there[..., None], stage.kinds[given.lists], 0.0).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = shares / shares.sum(axis=1, keepdims=True)
        mixed = (1 - SMOOTHING) * shares + SMOOTHING * due
        apart: Doubles = np.where(due > 0, due * np.log(due / mixed), 0.0).sum(axis=1)
    return apart


def _option(
    plan: AuditPlan,
    treatment: Treatment,
    dial: float,
    question: Asked,
    validation: _Weighing,
    test: _Weighing,
    after: _Outcome,
) -> Option:
    assert plan.mitigation is not None
    before = test.before
    gain = paired_gain(after.values("ndcg"), before.values("ndcg"), seed=plan.seed, level=plan.level)
    cost = Span(value=-gain.relative, lo=-gain.relative_hi, hi=-gain.relative_lo)
    if isinstance(question, Provider):
        was, now = (_exposure(plan, one, question, plan.draws) for one in (before, after))
        gap = Span(value=now.deviation, lo=now.lo, hi=now.hi)
        left, whole = Span(value=now.deviation / was.deviation, lo=None, hi=None), was.deviation
        lifted = None
        effects = [
            Effect(
                label=one.label,
                n=one.items,
                before=one.exposure,
                after=other.exposure,
                ndcg_before=None,
                ndcg_after=None,
            )
            for one, other in zip(was.classes, now.classes, strict=True)
        ]
    else:
        gap, left, whole, effects = _people(plan, question, validation.before, before, after)
        lifted = _lifted(effects, METRICS[question.metric].better)
    return Option(
        remedy=treatment.remedy,
        of=treatment.of,
        dial=dial,
        after=gap,
        left=left,
        lifted=lifted,
        cost=cost,
        mended=gap.value <= whole / 2 and cost.value <= plan.mitigation.largest_cost,
        effects=effects,
    )


def _people(
    plan: AuditPlan, question: Comparison, chosen_on: _Outcome, before: _Outcome, after: _Outcome
) -> tuple[Span, Span, float, list[Effect]]:
    """Gap afterwards, share of the gap that is left, gap before, and what becomes of each group."""
    grouping = before.groupings[question.group]
    columns = np.column_stack([one.values(metric) for metric in (question.metric, "ndcg") for one in (before, after)])
    cells = len(grouping.labels)
    seen = moments_of(columns, grouping.cell, cells)
    shown = grouping.shown[np.isfinite(seen.means[grouping.shown]).all(axis=1)]
    drawn = bootstrap_means(columns, [grouping.cell], [cells], before.units.stratum, draws=plan.draws, seed=plan.seed)[
        0
    ][:, shown]
    taken = seen.take(shown)
    means = taken.means
    gap = gap_of(
        means[:, 1],
        taken.errors[:, 1],
        taken.freedom[:, 1],
        drawn[..., 1] - means[:, 1],
        level=plan.level,
        seed=plan.seed,
    )
    labels, earlier = _means(chosen_on, question)
    names = [grouping.labels[one] for one in shown]
    high, low = (labels[int(end)] for end in (earlier.argmax(), earlier.argmin()))
    if high in names and low in names:
        first, last = names.index(high), names.index(low)
    else:
        first, last = int(means[:, 0].argmax()), int(means[:, 0].argmin())
    apart = drawn[:, first, :2] - drawn[:, last, :2]
    usable = apart[:, 0] > 0
    value = float((means[first, 1] - means[last, 1]) / (means[first, 0] - means[last, 0]))
    ends = [None, None]
    if usable.mean() > plan.level:
        ends = np.quantile(apart[usable, 1] / apart[usable, 0], [(1 - plan.level) / 2, (1 + plan.level) / 2]).tolist()
    effects = [
        Effect(
            label=name,
            n=int(taken.n[place, 0]),
            before=float(means[place, 0]),
            after=float(means[place, 1]),
            ndcg_before=float(means[place, 2]),
            ndcg_after=float(means[place, 3]),
        )
        for place, name in enumerate(names)
    ]
    whole = float(np.ptp(means[:, 0]))
    return Span(value=gap.plain, lo=gap.lo, hi=gap.hi), Span(value=value, lo=ends[0], hi=ends[1]), whole, effects


def _lifted(effects: Sequence[Effect], better: str) -> float | None:
    """How much of the closing between the best- and the worst-served group is the latter's gain."""
    if better == "neither":
        return None
    sign = 1.0 if better == "more" else -1.0
    worst, best = (pick(effects, key=lambda one: sign * one.before) for pick in (min, max))
    gain, loss = sign * (worst.after - worst.before), sign * (best.before - best.after)
    closing = gain + loss
    return float(np.clip(gain / closing, 0.0, 1.0)) if closing > 0 else None


def _question(question: Asked, options: list[Option]) -> Question:
    if isinstance(question, Provider):
        metric, over, source, gap = "attention", question.by, question.source, question.deviation
    else:
        assert question.gap is not None
        metric, over, source, gap = question.metric, question.group, None, question.gap
    return Question(
        metric=metric, over=over, source=source, before=Span(value=gap, lo=question.lo, hi=question.hi), options=options
    )
