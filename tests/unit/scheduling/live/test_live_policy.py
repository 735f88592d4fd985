"""The live core's policy: who gives way, who waits behind a quota or a share, who grows and shrinks."""

import numpy as np
import pytest

from tests.unit.scheduling.worlds import applied, ask, node, placed, planned, spec, where, world_of
from thalweg.scheduling.decisions import decide
from thalweg.scheduling.pack.nodes import Need
from thalweg.scheduling.world.tasks import Change, Part, Share, TaskSpec, Transition
from thalweg.scheduling.world.value import RankRule
from thalweg.scheduling.world.world import TenantLimits, World

HOUR_MS = 3_600_000


def promised(*, hours: int) -> RankRule:
    return RankRule(longest_wait_ms=hours * HOUR_MS)


def told(rows: list[Transition]) -> list[tuple[str, str]]:
    return [(row.task_id, str(row.change)) for row in rows]


def reason(rows: list[Transition], task_id: str) -> str:
    return next(row.reason or "" for row in rows if row.task_id == task_id)


def full_world(*priorities: int, gpus: int = 8) -> World:
    """One node whose GPUs are taken, evenly, by tasks low0, low1, ... of these priorities."""
    world = world_of(node("east", "n1", gpus))
    for index, priority in enumerate(priorities):
        ask(world, f"low{index}", spec(gpus=gpus // len(priorities), priority=priority))
    placed(world)
    assert all(where(world, f"low{index}") for index in range(len(priorities)))
    return world


def test_a_task_of_higher_priority_takes_the_place_of_the_cheapest_victims_and_of_no_more() -> None:
    world = full_world(300, 100, 300, 300)
    ask(world, "urgent", spec(gpus=2, priority=900), now_ms=1_000)
    rows = placed(world, now_ms=1_000)
    assert told(rows) == [("low1", "preempted"), ("urgent", "assigned")]
    assert rows[0].epoch == 2
    assert "preempted by urgent (priority 900 over 100)" in (rows[0].reason or "")
    assert where(world, "urgent") == ["east"]
    assert "low1" in world.waiting
    assert len(world.nodes.overcommitted()) == 0
    assert told(placed(world, now_ms=2_000)) == [("low1", "waiting")]


def test_among_equals_the_one_that_has_worked_least_gives_way() -> None:
    world = world_of(node("east", "n1", 4))
    ask(world, "older", spec(gpus=2, priority=100))
    placed(world)
    ask(world, "younger", spec(gpus=2, priority=100), now_ms=HOUR_MS)
    placed(world, now_ms=HOUR_MS)
    # The age in the queue weighs against the older one as well: it is the younger that waits again.
    ask(world, "urgent", spec(gpus=2, priority=900), now_ms=HOUR_MS + 60_000)
    rows = placed(world, now_ms=HOUR_MS + 60_000)
    assert told(rows)[0] == ("younger", "preempted")
    # A minute of two GPUs at 2 USD an hour.
    assert "0.07 USD" in (rows[0].reason or "")


def test_nobody_gives_way_to_an_equal_or_when_it_refused_or_when_preemption_is_off() -> None:
    world = full_world(500, 500)
    ask(world, "equal", spec(gpus=4, priority=500))
    assert told(placed(world)) == [("equal", "waiting")]
    world = world_of(node("east", "n1", 4))
    ask(world, "firm", spec(gpus=4, priority=100, preemptible=False))
    placed(world)
    ask(world, "urgent", spec(gpus=4, priority=900))
    assert told(placed(world)) == [("urgent", "waiting")]
    world = full_world(100, 100)
    ask(world, "urgent", spec(gpus=4, priority=900))
    assert told(placed(world, most_preempted=0)) == [("urgent", "waiting")]


def test_nobody_gives_way_where_it_does_not_help() -> None:
    world = full_world(100, 100)
    ask(world, "wide", spec(gpus=16, priority=900))
    assert told(placed(world)) == [("wide", "waiting")]
    # 100 points more are worth twice the wait of one GPU, which does not pay for eight that wait again.
    world = full_world(500)
    ask(world, "slightly", spec(gpus=1, priority=600))
    assert told(placed(world)) == [("slightly", "waiting")]


def test_a_task_that_gave_way_waits_for_what_is_free_and_never_makes_others_give_way() -> None:
    world = world_of(node("east", "n1", 4))
    ask(world, "middle", spec(gpus=4, priority=500))
    placed(world)
    ask(world, "urgent", spec(gpus=4, priority=900))
    placed(world)
    assert world.tasks["middle"].preempted == 1
    world.set_nodes([node("east", "n1", 4), node("east", "n2", 4)])
    ask(world, "low", spec(gpus=4, priority=100, allowed_regions=("east",)))
    # One place for two: it goes to the one of higher priority. Then the lower one could be pushed out, but is not.
    applied(world, decide.report(world, "east", "succeeded", "urgent", 1, "", 3, 5))
    placed(world)
    assert where(world, "middle") == ["east"]
    assert where(world, "low") == ["east"]
    applied(world, decide.report(world, "east", "evicted", "middle", world.tasks["middle"].epoch, "", 3, 6))
    ask(world, "firm", spec(gpus=4, priority=1000, preemptible=False))
    placed(world)
    assert told(placed(world)) == []
    assert where(world, "low") == ["east"]
    assert "middle" in world.waiting


def test_a_gang_clears_as_many_nodes_as_it_needs_of_the_cheaper_pool() -> None:
    world = world_of(*(node("east", f"n{i}", 4) for i in range(3)), *(node("west", f"n{i}", 4) for i in range(3)))
    for index in range(6):
        ask(world, f"low{index}", spec(gpus=4, priority=100 if index < 4 else 400))
    placed(world)
    ask(world, "gang", spec(gpus=4, workers=2, priority=900))
    rows = placed(world)
    assert [change for _, change in told(rows)] == ["preempted", "preempted", "assigned"]
    assert all(row.priority == 100 for row in rows[:2])
    assert len({row.region for row in rows}) == 1
    assert len(world.nodes.overcommitted()) == 0


def test_copies_in_distinct_regions_are_let_in_together_or_not_at_all() -> None:
    world = world_of(node("east", "n1", 4), node("west", "n1", 4))
    for name in ("a", "b"):
        ask(world, name, spec(gpus=4, priority=100))
    placed(world)
    ask(world, "twice", spec(gpus=4, priority=900, replicas=2))
    placed(world)
    assert where(world, "twice") == ["east", "west"]
    world = world_of(node("east", "n1", 4), node("west", "n1", 4))
    ask(world, "a", spec(gpus=4, priority=100))
    ask(world, "b", spec(gpus=4, priority=950))
    placed(world)
    ask(world, "twice", spec(gpus=4, priority=900, replicas=2))
    assert told(placed(world)) == [("twice", "waiting")]
    assert world.nodes.gpu_milli_free.sum() == 0


def test_one_plan_stops_at_most_so_many() -> None:
    world = full_world(100, 100, 100, 100)
    for index in range(4):
        ask(world, f"urgent{index}", spec(gpus=2, priority=900))
    rows = placed(world, most_preempted=3)
    assert [change for _, change in told(rows)].count("preempted") == 3


def test_a_quota_is_never_exceeded_even_by_what_is_idle_and_the_reason_says_so() -> None:
    world = world_of(node("east", "n1", 8))
    world.set_tenants({"lab": TenantLimits(quota_gpus=3.0)})
    for index in range(5):
        ask(world, f"t{index}", spec(tenant="lab"))
    rows = placed(world)
    assert [change for _, change in told(rows)].count("assigned") == 3
    assert reason(rows, "t4").startswith("quota: tenant lab has 0 GPUs of quota left")
    assert placed(world) == []
    applied(world, decide.report(world, "east", "succeeded", "t0", 1, "", 3, 10))
    assert told(placed(world)) == [("t3", "assigned")]


def test_a_quota_binds_preemption_too() -> None:
    world = full_world(100, 100)
    world.set_tenants({"lab": TenantLimits(quota_gpus=3.0)})
    ask(world, "urgent", spec(gpus=4, priority=900, tenant="lab"))
    assert told(placed(world)) == [("urgent", "waiting")]


def test_a_budget_is_kept_an_hour() -> None:
    world = world_of(node("east", "n1", 8))
    world.set_tenants({"lab": TenantLimits(budget_usd_per_hour=5.0)})
    for index in range(4):
        ask(world, f"t{index}", spec(tenant="lab"))
    rows = placed(world)
    assert [change for _, change in told(rows)].count("assigned") == 2
    assert reason(rows, "t3").startswith("budget")


def test_tenants_that_compete_share_by_weight_and_what_one_leaves_is_lent() -> None:
    world = world_of(node("east", "n1", 8), node("east", "n2", 4))
    world.set_tenants({"a": TenantLimits(weight=2.0)})
    for index in range(30):
        ask(world, f"a{index}", spec(tenant="a"))
    for index in range(30):
        ask(world, f"b{index}", spec(tenant="b"))
    rows = placed(world)
    got = [row.task_id[0] for row in rows if row.change is Change.ASSIGNED]
    assert (got.count("a"), got.count("b")) == (8, 4)
    assert reason(rows, "b9").startswith("share: tenant b has its fair share")
    lent = world_of(node("east", "n1", 8), node("east", "n2", 4))
    ask(lent, "b0", spec(tenant="b"))
    for index in range(30):
        ask(lent, f"a{index}", spec(tenant="a"))
    got = [row.task_id[0] for row in placed(lent) if row.change is Change.ASSIGNED]
    assert (got.count("a"), got.count("b")) == (11, 1)


def test_a_share_is_named_only_where_others_ask_for_the_same_pools() -> None:
    world = world_of(node("east", "n1", 4), node("east", "h1", 16, model="H100"))
    for index in range(14):
        ask(world, f"a{index:02d}", spec(tenant="a", gpu_models=("A100",)))
    for index in range(20):
        ask(world, f"b{index:02d}", spec(tenant="b", gpu_models=("H100",)))
    rows = placed(world)
    # Beyond its share of all GPUs, but nobody else wants these.
    assert reason(rows, "a13").startswith("capacity:")
    assert reason(rows, "b19").startswith("capacity:")


def test_what_was_lent_comes_back_as_soon_as_it_is_free() -> None:
    world = world_of(node("east", "n1", 8))
    for index in range(16):
        ask(world, f"a{index:02d}", spec(tenant="a"))
    placed(world)
    for index in range(8):
        ask(world, f"b{index}", spec(tenant="b"), now_ms=1)
    for index in range(4):
        applied(world, decide.report(world, "east", "succeeded", f"a{index:02d}", 1, "", 3, 2))
    rows = placed(world, now_ms=2)
    assert {row.task_id[0] for row in rows if row.change is Change.ASSIGNED} == {"b"}


def test_waiting_long_enough_goes_before_a_higher_priority_that_came_later() -> None:
    world = world_of(node("east", "n1", 1))
    ask(world, "old", spec(priority=100))
    now_ms = 5 * HOUR_MS
    ask(world, "new", spec(priority=500), now_ms=now_ms)
    assert told(placed(world, now_ms=now_ms, rule=promised(hours=5)))[0] == ("old", "assigned")


def test_a_deadline_near_goes_before_equals() -> None:
    world = world_of(node("east", "n1", 1))
    ask(world, "whenever", spec())
    ask(world, "soon", spec(start_by_ms=HOUR_MS))
    assert told(placed(world))[0] == ("soon", "assigned")


def test_the_window_takes_the_urgent_and_the_old_before_the_many() -> None:
    world = world_of(node("east", "n1", 1))
    ask(world, "old", spec(priority=100))
    now_ms = 5 * HOUR_MS
    for index in range(20):
        ask(world, f"new{index}", spec(priority=500, expected_s=100.0 + index), now_ms=now_ms)
    assert told(placed(world, now_ms=now_ms, window_classes=4, rule=promised(hours=5)))[0] == ("old", "assigned")


def test_workers_that_want_nodes_of_their_own_get_them() -> None:
    world = world_of(node("east", "n1", 8), node("east", "n2", 8))
    ask(world, "apart", spec(gpus=1, workers=2, spread_workers=True))
    placed(world)
    assert [share.node_id for share in world.tasks["apart"].copies[0].shares] == ["n1", "n2"]
    ask(world, "three", spec(gpus=1, workers=3, spread_workers=True))
    assert told(placed(world)) == [("three", "waiting")]


def elastic(least: int, asked: int, most: int, **more: object) -> object:
    return spec(gpus=1, workers=asked, min_workers=least, max_workers=most, **more)


def test_a_elastic_task_starts_smaller_where_room_is_short_and_grows_into_what_becomes_idle() -> None:
    world = full_world(500, 500, 500, 500)
    applied(world, decide.report(world, "east", "succeeded", "low0", 1, "", 3, 1))
    ask(world, "m", elastic(1, 4, 6))  # type: ignore[arg-type]
    rows = placed(world, now_ms=10)
    assert told(rows) == [("m", "assigned")]
    assert rows[0].reason == "starts with 2 of 4 workers"
    assert world.tasks["m"].copies[0].workers == 2
    assert rows[0].usd_per_hour == pytest.approx(4.0)
    for name in ("low1", "low2"):
        applied(world, decide.report(world, "east", "succeeded", name, 1, "", 3, 20))
    assert placed(world, now_ms=30_000) == [], "it was resized less than a minute ago"
    rows = placed(world, now_ms=70_000)
    assert [(row.task_id, row.reason) for row in rows] == [("m", "grew from 2 to 6 workers: idle GPUs")]
    assert (rows[0].epoch, rows[0].copy) == (2, 0)
    assert world.nodes.gpu_milli_free.sum() == 0
    assert world.tasks["m"].state == "assigned"


def test_a_elastic_task_shrinks_before_anybody_has_to_leave_and_never_under_its_least() -> None:
    world = world_of(node("east", "n1", 8))
    ask(world, "m", elastic(2, 6, 6, preemptible=False, priority=900))  # type: ignore[arg-type]
    ask(world, "low", spec(gpus=2, priority=100))
    placed(world)
    assert world.nodes.gpu_milli_free.sum() == 0
    ask(world, "t", spec(gpus=3, priority=500))
    rows = placed(world, now_ms=5)
    assert (rows[0].task_id, rows[0].reason) == ("m", "shrank from 6 to 3 workers")
    assert told(rows) == [("m", "assigned"), ("t", "assigned")]
    assert world.tasks["m"].copies[0].workers == 3
    ask(world, "u", spec(gpus=2, priority=50))
    assert told(placed(world, now_ms=6)) == [("u", "waiting")]
    assert world.tasks["m"].copies[0].workers == 3
    assert len(world.nodes.overcommitted()) == 0


def test_nothing_grows_into_what_somebody_waits_for() -> None:
    world = world_of(node("east", "n1", 8))
    ask(world, "m", elastic(1, 2, 8))  # type: ignore[arg-type]
    placed(world)
    ask(world, "gang", spec(gpus=2, workers=4))
    assert told(placed(world, now_ms=200_000)) == [("gang", "waiting")]
    applied(
        world, decide.cancel(world, "gang", decide.RequestOrigin(topic="", partition=0, offset=0, timestamp_ms=0), 0)
    )
    assert told(placed(world, now_ms=400_000)) == [("m", "assigned")]
    assert world.tasks["m"].copies[0].workers == 8


@pytest.mark.parametrize(("limit", "most"), [(16.0, 8), (15.9, 7)])
def test_a_task_grows_up_to_what_it_may_cost_an_hour_and_not_beyond(limit: float, most: int) -> None:
    world = world_of(node("east", "n1", 8))
    ask(world, "m", elastic(1, 2, 8, max_usd_per_hour=limit))  # type: ignore[arg-type]
    placed(world)
    assert world.tasks["m"].copies[0].workers == 2
    placed(world, now_ms=200_000)
    workers = world.tasks["m"].copies[0].workers
    assert workers <= most and 2.0 * workers <= limit
    assert workers == 8 or limit < 16.0, "at the limit is within it"


def test_a_plan_with_victims_and_growth_leaves_the_nodes_as_they_were() -> None:
    world = full_world(100, 100, 100, 100)
    ask(world, "m", elastic(1, 2, 8, priority=400))  # type: ignore[arg-type]
    ask(world, "urgent", spec(gpus=4, priority=900))
    before = world.nodes.gpu_milli_free.copy(), world.nodes.cpu_milli_free.copy(), world.nodes.memory_mib_free.copy()
    made = planned(world, now_ms=100_000)
    assert made.preempted
    after = world.nodes.gpu_milli_free, world.nodes.cpu_milli_free, world.nodes.memory_mib_free
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


def test_spot_is_taken_only_where_it_is_cheaper_with_what_may_be_lost() -> None:
    world = world_of(node("east", "n1"), node("east", "n2", spot=True))
    world.set_prices({("east", "A100", False): 2.0, ("east", "A100", True): 1.8})
    long = spec(spot_ok=True, expected_s=36_000.0)
    ask(world, "t", long)
    # Ten hours, five of them lost with a chance of 10 x 0.05 on average: 4.5 USD, more than the 2 USD saved.
    rows = placed(world, weights=_weights(risk=1.0))
    assert rows[0].pool_id == "east/A100/on-demand"
    ask(world, "u", long)
    rows = placed(world, weights=_weights(risk=1.0), lost_spot_per_hour=0.001)
    assert rows[0].pool_id == "east/A100/spot"


def _weights(**values: float) -> object:
    from thalweg.scheduling.problem.model import Weights

    return Weights(**values)


def test_nothing_starves_under_a_stream_of_higher_priority() -> None:
    world = world_of(node("east", "n1", 1))
    ask(world, "low", spec(priority=100, expected_s=7_200.0))
    ran_ms = 0
    half_hour_ms = HOUR_MS // 2
    for step in range(40):
        now_ms = step * half_hour_ms
        world.hear("east", now_ms)
        for name, task in list(world.tasks.items()):
            if name != "low" and task.copies:
                applied(world, decide.report(world, "east", "succeeded", name, task.copies[0].epoch, "", 3, now_ms))
        ask(world, f"urgent{step}", spec(priority=900, expected_s=1_800.0), now_ms=now_ms)
        placed(world, now_ms=now_ms, rule=promised(hours=8))
        ran_ms = ran_ms + half_hour_ms if where(world, "low") else 0
        if ran_ms >= 4 * half_hour_ms:
            break
    # Eight hours are the promise; from then on it holds its place, too.
    assert ran_ms >= 4 * half_hour_ms
    assert step <= 22


def test_gangs_share_too() -> None:
    world = world_of(node("east", "n1", 8), node("east", "n2", 8))
    for index in range(4):
        ask(world, f"a{index}", spec(gpus=4, tenant="a"))
        ask(world, f"b{index}", spec(gpus=4, tenant="b"))
    got = [row.task_id[0] for row in placed(world) if row.change is Change.ASSIGNED]
    assert (got.count("a"), got.count("b")) == (2, 2)


def test_whoever_can_stay_after_all_stays() -> None:
    world = world_of(node("east", "n1", 3))
    ask(world, "small", spec(gpus=1, priority=100))
    ask(world, "large", spec(gpus=2, priority=200))
    placed(world)
    # The small one is the cheapest a GPU, so it is asked first; but without the large one there is no room for two.
    ask(world, "urgent", spec(gpus=2, priority=900))
    assert told(placed(world)) == [("large", "preempted"), ("urgent", "assigned")]
    assert where(world, "small") == ["east"]


def sits(world: World, task_id: str, wanted: TaskSpec, *devices: int) -> None:
    """Let a task sit on GPUs of node n1 in region east, each named by a worker of its own."""
    ask(world, task_id, wanted)
    need = wanted.parts[0].need
    whole = need.gpu_milli == 1_000
    share = Share(
        node_id="n1",
        workers=len(devices),
        gpus=len(devices) if whole else 0,
        gpu_milli=0 if whole else need.gpu_milli * len(devices),
        devices=devices,
    )
    row = Transition(
        change=Change.ASSIGNED, task_id=task_id, decided_ms=0, epoch=1, region="east",
        pool_id="east/A100/on-demand", shares=(share,), usd_per_hour=2.0,
    )  # fmt: skip
    applied(world, [row])


def test_what_a_row_gives_is_free_when_its_turn_comes() -> None:
    """Found by `thalweg place-sim`: of two that shrank in one plan, the first went where the second still sat."""
    world = world_of(node("east", "n1", 8))
    half = Need(gpus=1, gpu_milli=500)
    sits(world, "shared", TaskSpec(parts=(Part(workers=2, need=half),), min_workers=1, max_workers=2), 7, 7)
    sits(world, "low", spec(gpus=1, workers=2, priority=0), 2, 5)
    sits(world, "pair", spec(gpus=1, workers=2, min_workers=1, max_workers=4), 0, 1)
    sits(world, "stays", TaskSpec(parts=(Part(workers=1, need=half),), preemptible=False), 6)
    ask(world, "big", spec(gpus=4, priority=1_000), now_ms=10)
    made = planned(world, now_ms=10)
    rows = decide.place(world, made, "plan", 10)
    assert rows[-1].task_id == "big"
    for row in rows:
        world.follow(row)
        assert not len(world.nodes.overcommitted()), row
