"""What regions were told and the ledger has lost is taken back once its request is read, whichever of both is first."""

from types import SimpleNamespace
from typing import cast

import pytest

from tests.ledger_rows import request
from tests.unit.thalweg.agents import assign
from thalweg.jobs.placement.facts import applied
from thalweg.jobs.placement.judge import Judge
from thalweg.jobs.placement.read_back import ReadBack, lay_out
from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.world.tasks import Change, Transition
from thalweg.scheduling.world.world import World
from thalweg.streams.placement.task_specs import read_spec

NOW_MS = 9_000_000


def submit(world: World, name: str) -> None:
    """Let a request be judged."""
    text = request(name, per_worker={"gpus": 1})
    row = Transition(change=Change.SUBMITTED, task_id=TaskId(name), decided_ms=0, spec=read_spec(text), request=text)
    applied(world, [row])


@pytest.mark.parametrize("told_first", [["a", "b"], ["b", "a"]])
@pytest.mark.parametrize("requests_ms", [1, 500, 2_000], ids=["long before", "between", "by a clock that is ahead"])
def test_all_that_was_told_is_taken_back_once_whatever_the_clocks_of_requests_say(
    requests_ms: int, told_first: list[str]
) -> None:
    world = World()
    judge = cast(Judge, SimpleNamespace(world=world))
    told = [
        (assign(name, epoch, devices=[0], decided_at=1_000 + 10 * at + epoch), at)
        for at, name in enumerate(told_first)
        for epoch in (1, 2)
    ]
    reading = ReadBack(entries=lay_out(told, [], "t"))
    rows: list[Transition] = []
    for name in ("a", "b"):
        rows += reading.before(requests_ms, TaskId(name), judge, NOW_MS)
        assert not [row for row in rows if world.find(row.task_id) is None], "nothing of a task that nobody knows yet"
        submit(world, name)
    rows += reading.rest(judge, NOW_MS)
    taken = [(row.task_id, row.epoch) for row in rows if row.change is Change.ASSIGNED]
    assert sorted(taken) == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    assert reading.taken == 4 and not reading._kept
    assert reading.rest(judge, NOW_MS) == []
