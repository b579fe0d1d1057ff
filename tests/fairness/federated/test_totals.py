"""What may be told of a total."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from koinon.errors import EvaluationError
from koinon.fairness.federated.layout import GAINS, Layout
from koinon.fairness.federated.totals import Totals, totals_of
from koinon.fairness.plan import AuditPlan
from koinon.fairness.results import Answered, Spent

RAW: dict[str, Any] = {
    "name": "shops",
    "question": "Is anybody served worse?",
    "system": {"kept": "deployed"},
    "data": {"sources": ["alpha", "beta"]},
    "groups": [{"name": "age", "values": ["young", "middle", "old"], "small": "withhold"}],
    "primary": [{"metric": "ndcg", "group": "age", "tolerance": 0.1}],
    "minimum_cell": 20,
    "federated": {"file": "f.toml", "policy_sha256": "0" * 64, "gains": True},
}
LAYOUT = Layout(AuditPlan.from_dict(RAW))


def told(people: tuple[int, int, int], noise: float | None = None) -> Totals:
    """Totals of an audit in which so many people of each age were asked, half of them hit."""
    values = np.repeat([0.0, 1.0], [sum(people) // 2, sum(people) - sum(people) // 2])
    ages = np.repeat(["young", "middle", "old"], people).tolist()
    arrays = LAYOUT.sums(values[:, None], {"age": ages})
    arrays[GAINS] = np.array([[100.0, 20, 30, 10, 5], [35.0, 5, 6, 2, 1]])
    deviations = {} if noise is None else dict.fromkeys(("people", "figures", "gains"), noise)
    spent = Spent(epsilon=1, delta=1e-6, budget=2, mechanism="local", safe=True, noise=deviations)
    return totals_of(
        LAYOUT,
        arrays,
        plan_sha256="0" * 64,
        policy_sha256="0" * 64,
        federation="shops",
        created="now",
        secure=True,
        partners=[Answered(partner=name, code=None) for name in ("alpha", "beta")],
        privacy=None if noise is None else spent,
    )


def shown(totals: Totals) -> list[str]:
    return [cell.label for cell in totals.divisions[0].cells if cell.people is not None]


def test_a_cell_below_the_minimum_is_hidden_and_another_one_with_it() -> None:
    assert shown(told((100, 60, 35))) == ["young", "middle", "old"]
    assert shown(told((100, 60, 15))) == ["young"]
    hidden = told((100, 60, 15)).divisions[0].cells[1:]
    assert [(cell.people, cell.figures) for cell in hidden] == [(None, {})] * 2


def test_noise_must_leave_no_doubt_that_a_cell_reaches_the_minimum() -> None:
    assert shown(told((100, 60, 35), noise=10.0)) == ["young"]
    assert shown(told((100, 60, 35), noise=5.0)) == ["young", "middle", "old"]
    assert told((100, 60, 35), noise=5.0).gains is not None
    assert list(told((100, 60, 35), noise=10.0).gains or ()) == ["alpha"]


def test_nobody_has_vanished_under_noise() -> None:
    assert told((100, 60, 0)).divisions[0].vanished == ["old"]
    under_noise = told((100, 60, 0), noise=1.0).divisions[0]
    assert (under_noise.vanished, under_noise.cells[2].people) == ([], None)


def test_it_reads_back_what_it_wrote(tmp_path: Any) -> None:
    totals = told((100, 60, 35), noise=5.0)
    (tmp_path / "totals.json").write_text(totals.to_json())
    assert Totals.read(tmp_path / "totals.json") == totals
    (tmp_path / "totals.json").write_text(totals.to_json()[:-30])
    with pytest.raises(EvaluationError, match="K534"):
        Totals.read(tmp_path / "totals.json")
