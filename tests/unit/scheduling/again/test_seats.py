"""Room for who waits: gangs behind fragments, tenants over their share, copies in one region."""

from dataclasses import replace

import msgspec

from tests.unit.scheduling.again.stage import HOUR_MS, LIMITS, TEN_HOURS, looked, moved, runs
from tests.unit.scheduling.worlds import applied, ask, node, placed, spec, where, world_of
from thalweg.scheduling.again.proposals import SaidSaving
from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.scheduling.world.tasks import Change, CopyState, TaskSpec, Transition
from thalweg.scheduling.world.world import World

GANG = spec(8, workers=8, expected_s=7_200.0)
SMALL = replace(TEN_HOURS, allowed_regions=(RegionId("a"),))


def fragments(*, nodes: int, more: int, wanted: TaskSpec = SMALL) -> World:
    """A fleet where each of the first nodes holds one small task, and nodes that are full but for four GPUs."""
    world = world_of(*(node("a", f"n{number}") for number in range(nodes + more)))
    for number in range(nodes + more):
        ask(world, f"small{number}", wanted)
        ask(world, f"fill{number}", spec(7, expected_s=36_000.0))
    placed(world)
    runs(world)
    for number in range(nodes + more):
        if number < nodes:
            end(world, f"fill{number}")
    return world


def end(world: World, task_id: str) -> None:
    copy = world.tasks[TaskId(task_id)].copies[0]
    applied(world, [Transition(change=Change.SUCCEEDED, task_id=TaskId(task_id), decided_ms=0, epoch=copy.epoch,
                               region=copy.region)])  # fmt: skip


def nodes_of(world: World, task_id: str) -> set[str]:
    return {share.node_id for copy in world.tasks[TaskId(task_id)].copies.values() for share in copy.shares}


def test_a_gang_of_64_behind_fragments_is_seated_in_the_batch_of_the_moves_with_a_home_for_each() -> None:
    world = fragments(nodes=10, more=0)
    ask(world, "gang", GANG, HOUR_MS)
    assert placed(world, HOUR_MS)[-1].change is Change.WAITING
    rows = moved(world, HOUR_MS)
    assert [row.change for row in rows] == [Change.REVOKED, Change.ASSIGNED] * (len(rows) // 2)
    said = SaidSaving.read(rows[1].reason or "")
    assert said is not None and said.why == "makes room for gang" and said.saving_usd < 0
    placed(world, HOUR_MS)
    assert len(nodes_of(world, "gang")) == 8
    homes = {node for number in range(10) for node in nodes_of(world, f"small{number}")}
    assert len(homes) == 2 and homes.isdisjoint(nodes_of(world, "gang"))
    assert (world.nodes.gpu_milli_free >= 0).all()


def test_nobody_moves_where_one_of_them_has_no_new_home() -> None:
    world = fragments(nodes=8, more=0)
    ask(world, "gang", GANG, HOUR_MS)
    placed(world, HOUR_MS)
    assert moved(world, HOUR_MS) == []
    world = fragments(nodes=10, more=0, wanted=replace(SMALL, preemptible=False))
    ask(world, "gang", GANG, HOUR_MS)
    placed(world, HOUR_MS)
    assert looked(world, HOUR_MS) == [], "those that did not agree stay"


def test_for_each_of_those_who_wait_others_make_room() -> None:
    world = fragments(nodes=6, more=0)
    for hours in (1, 2):
        ask(world, f"whole node for {hours} h", spec(8, expected_s=3_600.0 * hours), HOUR_MS)
    placed(world, HOUR_MS)
    found = looked(world, HOUR_MS)
    assert len({one.for_task for one in found}) == 2
    assert len({one.held for one in found}) == len(found), "nobody moves twice"


def test_a_gang_that_needs_more_moves_than_a_look_may_make_waits() -> None:
    world = fragments(nodes=10, more=0)
    ask(world, "gang", GANG, HOUR_MS)
    placed(world, HOUR_MS)
    assert looked(world, HOUR_MS, replace(LIMITS, most_moved=7)) == []


def test_who_is_over_its_share_goes_first_while_another_waits() -> None:
    world = world_of(node("a", "n1"), node("b", "n2"))
    elsewhere = replace(TEN_HOURS, allowed_regions=(RegionId("a"), RegionId("b")))
    for number in range(4):
        ask(world, f"own{number}", replace(elsewhere, tenant="small", expected_s=36_000.0))
        ask(world, f"much{number}", replace(elsewhere, tenant="large"))
    placed(world)
    ask(world, "rest", replace(spec(6, expected_s=36_000.0), tenant="large", allowed_regions=(RegionId("b"),)))
    placed(world)
    runs(world)
    wanted = replace(spec(2, expected_s=3_600.0), tenant="small", allowed_regions=(RegionId("a"),))
    for name in ("asks", "asks too"):
        ask(world, name, wanted, HOUR_MS)
    placed(world, HOUR_MS)
    rows = moved(world, HOUR_MS)
    assert {row.task_id[:4] for row in rows} == {"much"}
    assert "its tenant being over its share" in (rows[1].reason or "")
    placed(world, HOUR_MS)
    assert where(world, "asks") == ["a"]


def test_of_two_copies_in_one_region_the_last_goes_elsewhere() -> None:
    world = world_of(node("a", "n"), node("b", "n"), node("c", "n"))
    ask(world, "t", replace(TEN_HOURS, replicas=2))
    placed(world)
    task = world.tasks[TaskId("t")]
    kept, other = task.copies[0], task.copies[1]
    assert moved(runs(world), HOUR_MS) == []
    there = Transition(change=Change.ASSIGNED, task_id=task.task_id, decided_ms=1, copy=1, epoch=task.epoch + 2,
                       region=kept.region, pool_id=kept.pool_id,
                       shares=(msgspec.structs.replace(other.shares[0], devices=(7,)),))  # fmt: skip
    gone = Transition(change=Change.REVOKED, task_id=task.task_id, decided_ms=1, copy=1, epoch=task.epoch + 1)
    applied(world, [gone, there])
    assert where(world, "t") == [kept.region] * 2
    runs(world)
    task.copies[1].state = CopyState.RUNNING
    rows = moved(world, HOUR_MS)
    assert [row.copy for row in rows] == [1, 1] and "its copies share a region" in (rows[1].reason or "")
    assert len(set(where(world, "t"))) == 2
