"""Counterfactual probes and associations on ml-100k: does EASE with the space read who somebody says they are?

    python bench/audit_probes.py --out DIR

Writes a plan with probes of gender, age and country in four languages and conducts it; `koinon audit verify DIR`
checks it. A plan that is there already is conducted as it is.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from koinon.fairness.conduct import conduct
from koinon.fairness.drafting import draft, write_plan
from koinon.fairness.plan import PLAN_FILE, AuditPlan
from koinon.fairness.probes import Counterfactual
from koinon.fairness.record import LocalRecord
from koinon.fairness.results import AuditResults

LANGUAGES = ("en", "de", "fr", "es")


def plan(folder: Path, people: int, draws: int) -> None:
    made = draft("probed", ["dataset:ml-100k"], folder, recommender="semantic-ease", attributes=["gender"])
    attributes = ("gender", "age", "country")
    probes = [{"attribute": name, "languages": LANGUAGES, "people": people} for name in attributes]
    changes = {"exploratory": [], "providers": [], "draws": draws}
    changes["probes"] = {"counterfactual": probes, "association": {"languages": LANGUAGES}}
    write_plan(folder, AuditPlan.from_dict({**made.model_dump(mode="json"), **changes}))


def show(results: AuditResults) -> None:
    assert results.probes is not None
    for found in results.probes.counterfactual:
        show_probe(found)
    for test in results.probes.association:
        print(f"{test.test}, {test.language}, {test.form}: effect {test.effect:+.2f}, p {test.p_adjusted:.3f}")


def show_probe(one: Counterfactual) -> None:
    own = "" if one.own is None else f"; own value {one.own.mean:+.4f} ({one.own.lo:+.4f} to {one.own.hi:+.4f})"
    print(f"{one.attribute} in {one.language}: {one.people} people, {one.changed:.2f} changed{own}")
    for value in one.stated:
        print(
            f"    {value.label:12} jaccard {value.jaccard.mean:.3f} serp {value.serp.mean:.3f} prag "
            f"{value.prag.mean:.3f} ndcg over neutral {value.ndcg_over_neutral.mean:+.4f} "
            f"({value.ndcg_over_neutral.lo:+.4f} to {value.ndcg_over_neutral.hi:+.4f})"
        )
    for spread in one.spreads:
        print(
            f"    {spread.measure:8} range {spread.range:.4f} ({spread.lo:.4f} to {spread.hi:.4f}), by chance "
            f"{spread.by_chance:.4f}, deviation {spread.deviation:.4f}, p {spread.p_adjusted:.3f}, least "
            f"{spread.least}, most {spread.most}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--draws", type=int, default=1000)
    options = parser.parse_args()
    if not (options.out / PLAN_FILE).exists():
        plan(options.out, options.people, options.draws)
    show(conduct(options.out, LocalRecord(options.out)))


if __name__ == "__main__":
    main()
