"""Graphs of tasks: no child starts before its parents' condition, and none is forgotten; see `graph_lives`."""

import pytest

from tests.properties.graph_lives import GraphLife
from thalweg.scheduling.world.tasks import TaskState


@pytest.mark.parametrize("seed", range(25))
def test_nothing_starts_too_early_and_nothing_is_forgotten(seed: int) -> None:
    life = GraphLife(seed, size=10 + 3 * seed)
    life.run(batches=12)
    assert life.books.starts


def test_a_graph_of_a_thousand_tasks_runs_to_its_end() -> None:
    life = GraphLife(2, size=1_000)
    life.run(batches=20)
    assert life.books.given_up, "parents that nobody submits are met, too"
    states = set(life.books.ended.values())
    assert states == {TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED}
    assert life.kills
