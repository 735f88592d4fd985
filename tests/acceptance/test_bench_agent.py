"""The measurement of the regional side counts every task: a small one, for what it says and not for its figures."""

import pytest

from thalweg.benchmarks.agent.agent import agent

pytestmark = pytest.mark.acceptance


def test_a_small_measurement_loses_and_repeats_nothing(broker: str) -> None:
    found = agent(rate=200, seconds=2, backlog=500, regions=2, fence_events=500, rounds=2, bootstrap=broker)
    assert found["reports"] == {"tasks": (10 + 2) * 2_200 + 400 + 500, "missing": 0, "twice": 0, "others": 0}
    assert found["fence"]["us_per_event"] > 0
    assert found["steady"]["until_accepted"]["p50_ms"] < 5_000
    assert found["backlog"]["tasks_per_s"] > 50
