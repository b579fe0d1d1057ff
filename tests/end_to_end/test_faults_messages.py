"""Messages that come twice or late: real simulations over a connection that repeats all it ever carried."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from koinon.server import FederationConfig, FederationResult, read_release, run_federation, sessions

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

REPEATER = '''
"""The server app of koinon over a connection that gives every message twice, and all earlier ones with each."""
from flwr.serverapp import Grid, ServerApp
from koinon.server.app import main as coordinate

app = ServerApp()


class Repeating(Grid):
    def __init__(self, grid):
        self.grid = grid
        self.before = []

    def pull_messages(self, message_ids):
        messages = list(self.grid.pull_messages(message_ids))
        said = self.before + messages + messages
        self.before += messages
        return said

    run = property(lambda self: self.grid.run)
    set_run = lambda self, run: self.grid.set_run(run)
    create_message = lambda self, *a, **k: self.grid.create_message(*a, **k)
    get_node_ids = lambda self: self.grid.get_node_ids()
    push_messages = lambda self, messages: self.grid.push_messages(messages)
    send_and_receive = lambda self, *a, **k: self.grid.send_and_receive(*a, **k)


@app.main()
def main(grid, context):
    coordinate(Repeating(grid), context)
'''


@pytest.fixture
def config(make_shop: Callable[..., Path]) -> FederationConfig:
    shops = {name: make_shop(name, seed=seed, first=10 * seed) for seed, name in enumerate(("alpha", "beta", "gamma"))}
    return FederationConfig.model_validate(
        {
            "name": "shops",
            "partners": shops,
            "learners": [{"name": "federated_popularity", "settings": {"rounds": 3, "memory": 0.5}}],
            "encoder": "none",
            "minimum_participants": 3,
        }
    )


def counts(result: FederationResult) -> np.ndarray:
    assert [event["participants"] for event in result.rounds] == [["alpha", "beta", "gamma"]] * 3
    assert result.left_out == {}
    return read_release(result.releases["federated_popularity"]).arrays["counts"]


def test_a_message_that_comes_again_is_not_counted_again(
    config: FederationConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = counts(run_federation(config, tmp_path / "once"))
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "koinon_test_repeater.py").write_text(REPEATER)
    monkeypatch.setattr(sessions, "THIN_APP", sessions.THIN_APP.replace("koinon.server.app:", "koinon_test_repeater:"))
    path = os.pathsep.join(filter(None, [str(tmp_path / "modules"), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PYTHONPATH", path)
    again = counts(run_federation(config, tmp_path / "again"))
    assert again.tobytes() == once.tobytes()
    secure = config.model_copy(update={"aggregation": "secure"})
    np.testing.assert_allclose(counts(run_federation(secure, tmp_path / "secure")), once, atol=1e-4)
