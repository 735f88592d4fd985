"""Samples prepared before they leave: fewer of them, nothing that is placed by is late, and the record says how."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.thalweg.agents import REGION, World, assign
from thalweg.agent.prepared_samples import PreparedSamples, checked_for_samples
from thalweg.edge.declaration import DeclarationError, read_declaration
from thalweg.streams.contract.messages import Sample, StatusEvent

KEY = "edge/telemetry"


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(folder=tmp_path / "agent", preparation=KEY)
    world.clock.now_ms = 1_200_000  # a whole minute
    return world


def nodes(world: World) -> list[Sample]:
    return [sample for record in world.telemetry() for sample in record.samples if sample.kind == "node"]


def beat(world: World) -> StatusEvent:
    return [report for report in world.reports() if report.type == "heartbeat"][-1]


def seconds(world: World, count: int) -> None:
    world.steps(count, advance_ms=1_000)


def test_without_a_record_every_sample_leaves(world: World) -> None:
    seconds(world, 10)
    assert len(nodes(world)) == 10


def test_a_record_that_is_missing_is_said_once_and_again_when_it_comes(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "thalweg.agent")

    def said(words: str) -> int:
        return sum(words in record.getMessage() for record in caplog.records)

    missing = f"no record {KEY} (setting agent.preparation) that can be carried out is there: every sample of {REGION}"
    seconds(world, 5)
    assert said(missing) == 0, "the topic may not have been read to its end"
    seconds(world, 60)
    assert said(missing) == 1
    assert [words.startswith(missing) for words in world.announced] == [True]
    assert beat(world).detail == world.announced[0]
    world.declare(KEY, revision=1, window_s=60)
    seconds(world, 5)
    assert (said(missing), said(f"the record {KEY} is there")) == (1, 1)
    assert world.announced[1:] == [""]
    assert beat(world).detail == ""
    world.declare(KEY)
    seconds(world, 2)
    assert said(missing) == 2, "it was deleted"
    world.declare(KEY, revision=2, window_s=60, figures={"gpus": "mean"})
    seconds(world, 2)
    assert said(missing) == 2 and world.announced[-1], "what cannot be carried out is as if it were not there"
    world.declare(f"{KEY}/{REGION}", revision=3, window_s=60)
    seconds(world, 2)
    assert world.announced[-1] == ""


def test_who_names_no_record_is_told_nothing(tmp_path: Path) -> None:
    world = World(folder=tmp_path / "agent")
    seconds(world, 60)
    assert world.announced == [] and beat(world).detail == ""


def test_a_window_leaves_as_one_sample_with_the_figure_that_is_declared(world: World) -> None:
    world.declare(KEY, revision=1, window_s=60, figures={"gpu_utilisation": "mean"})
    seconds(world, 15)
    world.send(assign("t", devices=[0], expected_s=1_000))
    seconds(world, 60)
    first, whole = nodes(world)
    assert (first.gpu_utilisation, first.observed_at) == (0.0, 1_200_000)
    # 59 samples wait after the first; the task is known to the sixteenth second's, and all later ones.
    assert whole.gpu_utilisation == pytest.approx(0.25 * 45 / 59, abs=0.25 / 59)
    assert whole.observed_at == 1_259_000 and whole.gpus == 4


def test_what_tasks_are_placed_by_never_waits(world: World) -> None:
    world.declare(KEY, revision=1, window_s=3_600, figures={"gpu_utilisation": "max"})
    seconds(world, 5)
    assert len(nodes(world)) == 1
    (fleet,) = world.agent._fleets
    smaller = {name: replace(node, memory_gb=96) for name, node in fleet.nodes.items()}
    world.agent._fleets = [replace(fleet, nodes=smaller)]
    seconds(world, 1)
    assert [sample.memory_gb for sample in nodes(world)] == [192, 192, 96]


def test_a_region_may_have_its_own_and_what_cannot_be_carried_out_changes_nothing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.declare(KEY, revision=1, window_s=3_600)
    seconds(world, 2)
    assert world.agent._prepared[REGION].revision == 1
    world.declare(f"{KEY}/{REGION}", revision=7, window_s=60)
    world.declare(f"{KEY}/elsewhere", revision=8, window_s=60)
    seconds(world, 2)
    assert world.agent._prepared[REGION].revision == 7
    with caplog.at_level(logging.ERROR):
        world.declare(f"{KEY}/{REGION}", revision=9, window_s=60, figures={"gpus": "mean"})
        seconds(world, 2)
    assert "a figure of gpus: allowed are" in caplog.text and "Revision 7 goes on" in caplog.text
    assert world.agent._prepared[REGION].revision == 7
    world.declare(f"{KEY}/{REGION}")
    seconds(world, 2)
    assert world.agent._prepared[REGION].revision == 1
    world.declare(KEY)
    before = len(nodes(world))
    seconds(world, 3)
    assert world.agent._prepared[REGION].revision is None
    assert len(nodes(world)) == before + 4, "what waited, and every sample from now on"


def test_what_waits_is_told_when_the_agent_stops(world: World) -> None:
    world.declare(KEY, revision=1, window_s=3_600, figures={"gpu_utilisation": "mean"})
    seconds(world, 5)
    world.agent.stop()
    assert [sample.observed_at for sample in nodes(world)] == [1_200_000, 1_205_000]


def test_what_was_kept_from_leaving_is_counted() -> None:
    prepared = PreparedSamples()
    prepared.prepare(checked_for_samples(read_declaration({"revision": 1, "window_s": 60})))
    left = []
    for second in range(120):
        left += prepared.take([Sample(kind="node", node_id="n", gpus=4, gpu_utilisation=0.5)], second * 1_000)
    left += prepared.rest()
    saved = prepared.saved
    assert (saved.samples_in, saved.samples_out) == (120, len(left)) == (120, 3)
    assert 0 < saved.bytes_out < saved.bytes_in / 20


def test_a_share_stays_a_share(world: World) -> None:
    """A quantile is told within its error, and never outside of what was seen: above 1 nobody would believe it."""
    prepared = PreparedSamples()
    fields = {"revision": 1, "window_s": 60, "error": 0.1, "figures": {"gpu_utilisation": "p99"}}
    prepared.prepare(checked_for_samples(read_declaration(fields)))
    for second in range(50):
        prepared.take([Sample(kind="node", node_id="n", gpu_utilisation=1.0)], second * 1_000)
    (sample,) = prepared.rest()
    assert sample.gpu_utilisation == 1.0


@pytest.mark.parametrize(
    ("figures", "words"), [({"gpus": "max"}, "a figure of gpus"), ({"gbps": "sum"}, "figure sum of a sample")]
)
def test_what_would_make_samples_that_nobody_believes_is_refused(figures: dict[str, str], words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        checked_for_samples(read_declaration({"revision": 1, "window_s": 60, "figures": figures}))
