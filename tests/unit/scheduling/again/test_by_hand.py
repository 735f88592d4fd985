"""What an operator has moved stays where it was put, for as long as it stays there."""

from dataclasses import replace

import pytest

from tests.unit.scheduling.again.stage import HOUR_MS, LIMITS, SETTINGS, TEN_HOURS, looked, moved, of_two, priced, runs
from tests.unit.scheduling.worlds import ORIGIN, applied, ask, node, placed, spec, where, world_of
from thalweg.scheduling.again.proposals import Proposal, RunLeft
from thalweg.scheduling.again.proving import _stands
from thalweg.scheduling.decisions import decide, ordering
from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.live.drains import relief
from thalweg.scheduling.live.relocation import MovedCopy, Relocation, in_region
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.world.image import image_of
from thalweg.scheduling.world.image import world_of as from_image
from thalweg.scheduling.world.orders import Drain
from thalweg.scheduling.world.tasks import Change, Copy, Task, Transition
from thalweg.scheduling.world.world import World


def by_hand(world: World, task_id: str, region: str, now_ms: int) -> list[Transition]:
    """Move as `thalweg move` does."""

    def find(task: Task, copy: Copy, to: str) -> MovedCopy | None:
        search = Relocation(world, [(task.task_id, copy.index)], SETTINGS, now_ms, Packer(world.nodes))
        try:
            return search.find(task, copy, in_region(to))
        finally:
            search.undo()

    order = ordering.move(
        world, task_id, region, None, "ops", ORIGIN, now_ms, find=find, why_not=lambda *_: "no room"
    )  # fmt: skip
    rows = applied(world, order)
    runs(world)
    return rows


def put_into_b() -> World:
    """A task that would be cheaper in `a`, and was moved into `b` by hand in the first hour."""
    world = of_two(TEN_HOURS)
    by_hand(world, "t0", "b", HOUR_MS)
    priced(world, a=0.1, b=9.0)
    return world


def marked(world: World) -> list[bool]:
    return [copy.by_hand for copy in world.tasks["t0"].copies.values()]


@pytest.mark.parametrize("hours", [2, 5])
def test_what_was_moved_by_hand_is_never_moved_for_money(hours: int) -> None:
    assert looked(put_into_b(), hours * HOUR_MS) == []


def test_a_restart_knows_it_by_the_rows_and_by_a_snapshot() -> None:
    world = of_two(TEN_HOURS)
    rows = by_hand(world, "t0", "b", HOUR_MS)
    assert [row.change for row in rows] == [Change.REVOKED, Change.ASSIGNED, Change.ORDERED]
    again = from_image(image_of(world), lambda _: TEN_HOURS, HOUR_MS)
    assert marked(world) == marked(again) == [True]
    # What the rows after a snapshot say, they say to the world that it gives.
    later = from_image(image_of(of_two(TEN_HOURS)), lambda _: TEN_HOURS, HOUR_MS)
    applied(later, rows)
    assert marked(later) == [True]


def test_a_proposal_from_before_the_move_is_dropped() -> None:
    world = of_two(TEN_HOURS)
    by_hand(world, "t0", "b", HOUR_MS)
    copy = world.tasks["t0"].copies[0]
    priced(world, a=2.0, b=9.0)
    stale = Proposal(
        held=(TaskId("t0"), 0), assigned_ms=copy.assigned_ms, to=None, why="", run=RunLeft(left_h=8.0, lost_h=0.0),
        for_task=TaskId("other"),
    )  # fmt: skip
    assert not _stands(world, stale, LIMITS, 3 * HOUR_MS)
    copy.by_hand = False
    assert _stands(world, stale, LIMITS, 3 * HOUR_MS), "it is the hand alone"


def test_it_makes_no_room_either() -> None:
    world = world_of(node("a", "n", 4), node("b", "n", 4))
    ask(world, "t0", replace(TEN_HOURS, parts=spec(1).parts))
    placed(world)
    runs(world)
    here = where(world, "t0")[0]
    by_hand(world, "t0", "b" if here == "a" else "a", HOUR_MS)
    there = where(world, "t0")[0]
    ask(world, "gang", replace(spec(4), allowed_regions=(there,)), now_ms=HOUR_MS)
    placed(world, now_ms=HOUR_MS)
    assert where(world, "gang") == []
    assert looked(world, 2 * HOUR_MS) == []


def test_placed_again_for_another_reason_it_is_one_like_the_others() -> None:
    world = put_into_b()
    epoch = world.tasks["t0"].epoch
    applied(world, decide.report(world, "b", "evicted", "t0", epoch, "", 3, 2 * HOUR_MS))
    placed(world, now_ms=2 * HOUR_MS)
    assert marked(runs(world)) == [False]
    priced(world, a=9.0, b=0.1)
    world.wake(4 * HOUR_MS)
    assert moved(world, 4 * HOUR_MS)


def test_a_drain_moves_it_all_the_same() -> None:
    world = put_into_b()
    applied(world, ordering.stand(world, Drain(region="b"), "ops", None, 2 * HOUR_MS))
    applied(world, ordering.relieved(relief(world, SETTINGS, 2 * HOUR_MS, Packer(world.nodes), most=8), 2 * HOUR_MS))
    assert where(world, "t0") == ["a"]
    assert marked(world) == [False]


def test_an_elastic_one_that_grows_where_it_is_stays_by_hand() -> None:
    wanted = replace(TEN_HOURS, min_workers=1, max_workers=4)
    world = of_two(wanted)
    by_hand(world, "t0", "b", HOUR_MS)
    before = world.tasks["t0"].copies[0].workers
    for second in range(20):
        placed(world, now_ms=2 * HOUR_MS + 1_000 * second, resize_every_ms=5_000)
    assert world.tasks["t0"].copies[0].workers > before
    assert marked(world) == [True]


def test_asked_to_go_where_it_is_nothing_is_moved_and_nothing_marked() -> None:
    world = of_two(TEN_HOURS)
    (row,) = by_hand(world, "t0", "a", HOUR_MS)
    assert row.reason is not None and row.reason.startswith("nothing new")
    assert marked(world) == [False]
