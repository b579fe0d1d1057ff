"""Print the README's table from a demonstration's results.

Example: python bench/readme_table.py koinon-demo/results.json
"""

from __future__ import annotations

import sys
from pathlib import Path

from koinon.studies.report import Results
from koinon.studies.report.results import ARMS, Gain


def gain(found: Gain) -> str:
    if found.relative is None or found.relative_lo is None or found.relative_hi is None:
        return ""
    return f"{found.relative:+.1%} [{found.relative_lo:+.1%}, {found.relative_hi:+.1%}]"


def main(path: Path) -> None:
    results = Results.read(path)
    print("| partner | users | " + " | ".join(f"`{arm}`" for arm in ARMS) + " | deployed | over `local_space` |")
    print("|---|---:|" + "---:|" * len(ARMS) + "---|---:|")
    for name, partner in results.partners.items():
        means = [partner.arms[arm]["all"]["ndcg@10"].mean for arm in ARMS]
        cells = " | ".join("" if mean is None else f"{mean:.4f}".lstrip("0") for mean in means)
        over = gain(partner.gains["federated_vs_local_space"]["all"])
        print(f"| {name} | {partner.counts.test_users:,} | {cells} | `{partner.chosen}` | {over} |")
    print()
    for aim in results.summary.aims:
        print(f"- {'reached' if aim.reached else 'missed' if aim.reached is False else 'not measured'}: ", end="")
        print(f"{aim.target} Measured: {aim.measured}.")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
