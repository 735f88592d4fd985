"""Three brokers with copies, as the pages advise: one is lost, then another, and nothing that was acknowledged."""

import pytest

from thalweg.benchmarks.brokers.brokers import Parameters, measure
from thalweg.bootstrap.jars import ensure_jars
from thalweg.conf.environment import find_java

pytestmark = pytest.mark.acceptance


def test_of_three_brokers_two_are_lost_and_nothing_that_was_acknowledged() -> None:
    ensure_jars(find_java())
    # A busy machine may start a broker and hold an election for longer than the job waits by default.
    parameters = Parameters(rate_per_s=10, warm_up_s=1, seconds=12, alone_s=6, nodes=400, leader_wait_ms=120_000)
    found = measure(parameters)
    lost = {name: count for name, count in found["audit"].items() if name != "acknowledged"}
    assert set(lost.values()) == {0}, lost
    assert found["audit"]["acknowledged"] > 300
    assert found["place"] == {"lives": 1, "regions_lost": 0, "queries_ended": 0}
    assert "NotEnoughReplicas" in found["refused"]["by_a_broker_too_few"]
    assert "Publishing the same records again is safe" in found["refused"]["while_one_was_alone"][0]
    assert found["latency"]["one_lost"]["tasks"] > 80, "with two of three it goes on"
