r"""Can what an audit of ml-1m finds be mended, and at what cost?

    python bench/audit_mitigation.py --out mitigation --seeds 7 --people 1000
    python bench/audit_mitigation.py --out mitigation --seeds 8 --people 5000 --dials 0.05 0.1 0.2 0.5 0.7 0.85 1.0 \
        --remedies calibrated calibrated_popularity exposure alike decorrelated

For each seed, which draws the held-out events, one audit with remedies (EASE, ridge 500): the recommender before
validation chooses every dial, the test is read for what was chosen. Afterwards the seeds' figures side by side. An
audit whose results are there is not run again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from koinon.fairness.conduct import conduct
from koinon.fairness.drafting import draft, write_plan
from koinon.fairness.mitigation.plan import MitigationPlan
from koinon.fairness.plan import PLAN_FILE, AuditPlan
from koinon.fairness.record import LocalRecord
from koinon.fairness.report import RESULTS_FILE
from koinon.fairness.results import AuditResults

QUESTIONS = (
    ("ndcg", "gender", 0.01),
    ("ndcg", "activity", 0.03),
    ("popularity_lift", "gender", 0.02),
    ("miscalibration_kl", "gender", 0.01),
)


def planned(folder: Path, dataset: str, seed: int, mitigation: dict) -> None:
    made = draft(
        f"{dataset}-{seed}", [f"dataset:{dataset}"], folder, settings={"lambda_": 500.0}, attributes=["gender"]
    )
    raw = made.model_dump(mode="json", exclude_none=True)
    raw |= {
        "question": "Whom do the recommendations serve worse, and what would it cost to mend that?",
        "primary": [{"metric": m, "group": g, "tolerance": t} for m, g, t in QUESTIONS],
        "exploratory": ["recall", "novelty", "diversity"],
        "providers": [{"by": "popularity", "tolerance": 0.1}],
        "control": [],
        "intersections": [],
        "mitigation": mitigation,
    }
    raw["data"]["seed"] = seed
    write_plan(folder, AuditPlan.from_dict(raw))


def audited(folder: Path, dataset: str, seed: int, mitigation: dict) -> AuditResults:
    if (folder / RESULTS_FILE).is_file():
        return AuditResults.read(folder / RESULTS_FILE)
    if not (folder / PLAN_FILE).is_file():
        planned(folder, dataset, seed, mitigation)
    return conduct(folder, LocalRecord(folder), say=lambda step: print(f"  {step}", flush=True))


def told(results: AuditResults) -> dict[tuple[str, str], dict[str, list[float]]]:
    """For each question and remedy: gap before, after, share left, cost."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    assert results.mitigation is not None
    for question in results.mitigation.questions:
        rows = found.setdefault((question.metric, question.over), {})
        for option in question.options:
            rows[f"{option.remedy} {option.of}".strip()] = [
                option.dial, question.before.value, option.after.value, option.left.value, option.cost.value,
                float(option.mended),
            ]  # fmt: skip
    return found


def one(results: AuditResults) -> None:
    assert results.mitigation is not None
    for question in results.mitigation.questions:
        was = question.before
        print(f"{question.metric} over {question.over}: gap {was.value:.4f} ({was.lo:.4f} to {was.hi:.4f})")
        for option in question.options:
            ends = "" if option.left.lo is None else f" ({option.left.lo:.2f} to {option.left.hi:.2f})"
            print(
                f"  {option.remedy} {option.of} at {option.dial:g}: gap {option.after.value:.4f} "
                f"({option.after.lo:.4f} to {option.after.hi:.4f}), left {option.left.value:.2f}{ends}, NDCG lost "
                f"{option.cost.value:.2%} ({option.cost.lo:.2%} to {option.cost.hi:.2%})"
                f"{'' if option.lifted is None else f', by lifting {option.lifted:.0%}'}"
                f"{', mended' if option.mended else ''}"
            )
        place = results.mitigation.questions.index(question)
        for frontier in results.mitigation.frontiers:
            first = frontier.points[0]
            steps = ", ".join(
                f"{p.dial:g}: {p.gaps[place] / first.gaps[place]:.2f} at {1 - p.ndcg / first.ndcg:.1%}"
                for p in frontier.points[1:]
                if p.gaps[place] is not None and first.gaps[place]
            )
            print(f"    validation, {frontier.remedy} {frontier.of}: {steps}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dataset", default="ml-1m")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8, 9])
    parser.add_argument("--dials", type=float, nargs="+", default=[0.05, 0.1, 0.2, 0.5, 1.0])
    parser.add_argument("--remedies", nargs="+", default=list(MitigationPlan().remedies))
    parser.add_argument("--people", type=int, default=MitigationPlan().people)
    given = parser.parse_args()
    mitigation = {"dials": given.dials, "remedies": given.remedies, "people": given.people}
    every = []
    for seed in given.seeds:
        print(f"seed {seed}", flush=True)
        results = audited(given.out / f"{given.dataset}-{seed}", given.dataset, seed, mitigation)
        one(results)
        every.append(told(results))
    print("over all seeds: dial, gap before, after, left, cost, mended; mean of those seeds in which it was chosen")
    for question in dict.fromkeys(key for found in every for key in found):
        open_in = sum(question in found for found in every)
        print(f"{question[0]} over {question[1]} (open in {open_in} of {len(every)})")
        for remedy in dict.fromkeys(name for found in every for name in found.get(question, {})):
            rows = [found[question][remedy] for found in every if remedy in found.get(question, {})]
            print(f"  {remedy}, {len(rows)} of {open_in}: {np.round(np.mean(rows, axis=0), 4).tolist()}")


if __name__ == "__main__":
    main()
