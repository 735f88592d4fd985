"""Placement goes on for everybody, whatever one region says of itself and one tenant asks for."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.scheduling.worlds import ORIGIN, applied, ask, node, placed, spec, where, world_of
from thalweg.scheduling.decisions import decide
from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.scheduling.pack.nodes import MAX_DEVICES, Need, Nodes, Pool
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.pack.pool_ids import pool_name, pool_of
from thalweg.scheduling.world.image import image_of
from thalweg.scheduling.world.image import world_of as from_image
from thalweg.scheduling.world.tasks import Change, DataNeed, TaskState, Transition
from thalweg.scheduling.world.world import TenantLimits, World

ODD = ["a/b", "cpu", "%63pu", "%2F", "spot", "/on-demand", "x/spot"]
names = st.text(min_size=1, max_size=8) | st.sampled_from(ODD)


def told(rows: list[Transition], task_id: str) -> str:
    return next(row.reason or "" for row in reversed(rows) if row.task_id == task_id)


# Devices


@pytest.mark.parametrize("gpus", [16, 17, 63, 64, 65, 72, MAX_DEVICES])
def test_every_gpu_of_a_wide_node_is_given_once(gpus: int) -> None:
    nodes = Nodes()
    nodes.set_node("narrow", Pool("r", "A"), gpus=1, cpu_milli=1_000, memory_mib=1)
    nodes.set_node("wide", Pool("r", "A"), gpus=gpus, cpu_milli=10**9, memory_mib=10**9)
    packer = Packer(nodes, futures=2)
    slots = packer.place(Need(gpus=gpus // 2), [0], workers=2)
    assert slots is not None
    assert sorted(device for slot in slots for device in slot.devices) == list(range(gpus // 2 * 2))
    share = packer.place(Need(gpus=1, gpu_milli=300), [0])
    assert share is not None
    assert not len(nodes.overcommitted())


def test_a_ledger_rebuilds_a_world_whose_nodes_no_sample_has_described() -> None:
    world = world_of(node("east", "rack", 72))
    rows = [*ask(world, "t", spec(gpus=72)), *placed(world)]
    again = World()
    for row in rows:
        again.follow(row)
    assert len(again.tasks["t"].copies[0].shares[0].devices) == 72
    assert again.set_nodes([node("east", "rack", 72)]) == []
    assert not len(again.nodes.overcommitted())
    assert again.nodes.gpu_milli_free.sum() == 0


# Facts


@pytest.mark.parametrize(
    "change",
    [{"gpus": MAX_DEVICES + 1}, {"gpus": -1}, {"cpus": math.nan}, {"memory_gb": math.inf}, {"node_id": "a\x1fb"}],
)
def test_a_node_that_cannot_be_is_left_out_with_its_reason_and_stops_nobody(change: dict[str, object]) -> None:
    odd = replace(node("west", "n"), **change)  # type: ignore[arg-type]
    world = world_of(node("east", "n"), odd)
    assert len(world.left_out["nodes"]) == 1
    assert "allowed" in next(iter(world.left_out["nodes"].values()))
    ask(world, "t")
    placed(world)
    assert where(world, "t") == ["east"]


def test_a_node_that_makes_no_sense_any_more_takes_nothing_new_and_keeps_what_it_has() -> None:
    world = world_of(node("east", "n"))
    ask(world, "t")
    placed(world)
    assert world.set_nodes([replace(node("east", "n"), cpus=math.nan)]) == []
    assert where(world, "t") == ["east"]
    ask(world, "u")
    placed(world)
    assert where(world, "u") == []


def test_links_prices_and_datasets_without_meaning_are_left_out() -> None:
    world = world_of(node("east", "n"), node("west", "n"))
    world.set_links({("east", "west"): (-1.0, 1.0, 0.0), ("west", "east"): (math.nan, math.inf, 0.1)})
    world.set_prices({("east", "A100", False): -2.0, ("west", "A100", False): 2.0})
    assert list(world.left_out["links"]) == [("east", "west")]
    assert list(world.left_out["prices"]) == [("east", "A100", False)]
    ask(world, "t")
    placed(world)
    assert where(world, "t") == ["west"]


# Names


@given(names, names | st.just(""), st.booleans())
def test_the_id_of_a_pool_stands_for_it_alone_and_its_region_reads_it(region: str, model: str, spot: bool) -> None:
    pool = Pool(region, model, spot)
    assert pool_of(region, pool_name(pool)) == pool


@given(names, names, names, names)
def test_pools_of_different_names_have_different_ids(a: str, b: str, c: str, d: str) -> None:
    one, other = Pool(a, b), Pool(c, d)
    assert (pool_name(one) == pool_name(other)) == (one == other)


def test_ids_of_older_ledgers_are_read_with_their_slashes() -> None:
    assert pool_of("a/b", "a/b/RTX 6000/8000/spot") == Pool("a/b", "RTX 6000/8000", spot=True)
    assert pool_of("a", "a/cpu/on-demand") == Pool("a", "")


@pytest.mark.parametrize("model", ["RTX 6000/8000", "cpu", "b/A100", "100 % é"])
def test_any_name_of_a_model_is_placed_again_and_again(model: str) -> None:
    facts = (node("a", "n", model=model), node("a/b", "n", model="A100"), node("c", "cpus", 0, model=""))
    world = world_of(*facts)
    rows = [*ask(world, "t", spec(gpu_models=(model,))), *placed(world)]
    assert where(world, "t") == ["a"]
    again = World()
    for row in rows:
        again.follow(row)
    again.set_nodes(facts)
    assert again.tasks["t"].copies[0].pool == Pool("a", model)
    assert len(again.nodes.pools) == 3


# Updates


@pytest.mark.parametrize(("replicas", "done"), [(1, (0, 1)), (1, (1,)), (2, (2, 0)), (1, (2,))])
def test_fewer_replicas_than_have_succeeded_end_the_task(replicas: int, done: tuple[int, ...]) -> None:
    world = world_of(node("a", "n"), node("b", "n"), node("c", "n"))
    ask(world, "t", spec(replicas=3))
    placed(world)
    for index in done:
        copy = world.tasks["t"].copies[index]
        applied(world, decide.report(world, copy.region, "succeeded", "t", copy.epoch, "", 3, 1))
    applied(world, decide.update(world, "t", spec(replicas=replicas), "{}", "other", ORIGIN, 2))
    ended = world.ended.get("t")
    assert ended is not None
    assert ended.state is TaskState.SUCCEEDED
    ask(world, "u")
    placed(world)
    assert where(world, "u")


def test_a_copy_is_not_placed_where_another_has_succeeded() -> None:
    world = world_of(node("a", "n"), node("b", "n"))
    ask(world, "t", spec(replicas=2))
    placed(world)
    one, other = world.tasks["t"].copies.values()
    applied(world, decide.report(world, one.region, "succeeded", "t", one.epoch, "", 3, 1))
    applied(world, decide.report(world, other.region, "evicted", "t", other.epoch, "", 3, 2))
    placed(world, now_ms=5_000)
    assert where(world, "t") == [other.region]


# Nodes that change


def test_a_draining_node_takes_nothing_new_and_loses_nothing() -> None:
    world = world_of(node("east", "n"))
    ask(world, "t")
    placed(world)
    assert world.set_nodes([replace(node("east", "n"), ready=False, draining=True)]) == []
    ask(world, "u")
    placed(world)
    assert (where(world, "t"), where(world, "u")) == (["east"], [])
    world.set_nodes([node("east", "n")])
    placed(world)
    assert where(world, "u") == ["east"]


@pytest.mark.parametrize("now", [[node("east", "n2")], [node("east", "n1", ready=False)]])
def test_a_node_that_went_while_the_driver_was_down_loses_its_copies(now: list) -> None:  # type: ignore[type-arg]
    world = world_of(node("east", "n1"))
    rows = [*ask(world, "t"), *placed(world)]
    again = World()
    for row in rows:
        again.follow(row)
    assert again.set_nodes([]) == []
    assert again.set_nodes([node("west", "n")]) == [], "nothing was said of its region"
    assert again.set_nodes([node("west", "n"), *now]) == [("t", 0)]


def test_what_sits_where_nothing_is_said_to_be_is_not_too_much_there() -> None:
    world = world_of(node("east", "n"))
    rows = [*ask(world, "t"), *placed(world)]
    untold = World()
    for row in rows:
        untold.follow(row)
    assert len(untold.nodes.overcommitted()) == 1
    assert decide.leave_overcommitted(untold, 5) == [], "no sample has described the node yet"
    assert untold.set_nodes([node("east", "n", 0, ready=False)]) == [("t", 0)], "it is lost with its node"
    assert decide.leave_overcommitted(untold, 5) == []


def test_a_node_that_shrank_gives_up_what_it_cannot_hold_and_no_more() -> None:
    world = world_of(node("east", "n", 8), node("west", "n", 8), usd={"west": 9.0})
    for name, priority in (("low", 100), ("high", 900), ("other", 100)):
        ask(world, name, spec(gpus=2, priority=priority))
    placed(world)
    high = world.tasks["high"].copies[0].shares[0].devices
    world.set_nodes([node("east", "n", 4), node("west", "n", 8)])
    rows = applied(world, decide.leave_overcommitted(world, 5))
    assert all(row.change is Change.REVOKED for row in rows)
    assert len(rows) == 1
    assert not len(world.nodes.overcommitted())
    assert max(high) >= 4 or where(world, "high") == ["east"]
    placed(world, now_ms=6)
    assert all(where(world, name) for name in ("low", "high", "other"))


# Regions that refuse


def refuse_all(world: World, region: str, now_ms: int) -> int:
    refused = world.copies_in(region)
    for task_id, index in refused:
        epoch = world.tasks[task_id].copies[index].epoch
        applied(world, decide.report(world, region, "evicted", task_id, epoch, "no room", 3, now_ms))
    return len(refused)


def test_a_region_that_always_refuses_is_tried_less_and_less_and_the_task_goes_elsewhere() -> None:
    world = world_of(node("east", "n"), node("west", "n"), usd={"west": 9.0})
    ask(world, "t")
    placed(world)
    assert where(world, "t") == ["east"]
    refuse_all(world, "east", 10)
    placed(world, now_ms=20)
    assert where(world, "t") == ["west"]


def test_where_nothing_else_is_the_tries_become_rare_and_the_reason_says_so() -> None:
    world = world_of(node("east", "n"))
    ask(world, "t")
    tries, rows = 0, list[Transition]()
    for second in range(0, 3_600, 10):
        rows += placed(world, now_ms=1_000 * second)
        tries += refuse_all(world, "east", 1_000 * second)
    assert 8 <= tries <= 16
    waits = [row.reason or "" for row in rows if row.change is Change.WAITING]
    assert any(reason.startswith("refused: region east gave it back") for reason in waits)


def test_a_region_that_refuses_everybody_is_closed_for_everybody_until_it_accepts() -> None:
    world = world_of(node("east", "n", 8))
    for index in range(100):
        ask(world, f"t{index}")
    tries = 0
    for second in range(0, 600, 10):
        placed(world, now_ms=1_000 * second)
        tries += refuse_all(world, "east", 1_000 * second)
    assert tries <= 8 * 12
    assert world.refusing["east"].count > 5
    placed(world, now_ms=10**7)
    task_id, index = world.copies_in("east")[0]
    applied(world, decide.report(world, "east", "accepted", task_id, world.tasks[task_id].epoch, "", 3, 10**7))
    assert world.refusing == {}
    assert world.open_region("east")


def test_where_it_failed_is_avoided_only_for_a_region_that_could_hold_it() -> None:
    world = world_of(node("east", "n", model="H100"), node("west", "n", model="T4"))
    ask(world, "t", spec(gpu_models=("H100",)))
    placed(world)
    copy = world.tasks["t"].copies[0]
    applied(world, decide.report(world, "east", "failed", "t", copy.epoch, "", 3, 1))
    placed(world, now_ms=2)
    assert where(world, "t") == ["east"]


# What cannot be


@pytest.mark.parametrize(
    "wanted",
    [
        spec(gpus=1, workers=12, tenant="x"),
        spec(gpus=9, tenant="x"),
        spec(gpus=1, replicas=2, tenant="x"),
        spec(gpus=1, workers=2, spread_workers=True, tenant="x"),
        spec(gpus=1, workers=12, min_workers=9, max_workers=12, tenant="x"),
        replace(spec(tenant="x"), parts=(*spec(gpus=4).parts, *spec(gpus=5).parts)),
    ],
)
def test_what_no_empty_fleet_could_hold_takes_nothing_from_its_tenant_and_says_so(wanted: object) -> None:
    world = world_of(node("east", "n", 8))
    ask(world, "never", replace(wanted, priority=1_000))  # type: ignore[type-var]
    for index in range(6):
        ask(world, f"mine{index}", spec(tenant="x"))
        ask(world, f"theirs{index}", spec(tenant="y"))
    rows = placed(world)
    assert told(rows, "never").startswith("impossible: ")
    held = [name for name in world.tasks if where(world, name)]
    assert sum(name.startswith("mine") for name in held) == 4
    assert sum(name.startswith("theirs") for name in held) == 4


def test_what_is_impossible_takes_no_turn_however_much_of_it_waits() -> None:
    world = world_of(node("east", "n", 8))
    for index in range(50):
        ask(world, f"never{index}", spec(gpus=16, priority=1_000))
    ask(world, "small", spec(priority=0))
    rows = placed(world, window_tasks=10, window_classes=1)
    assert where(world, "small") == ["east"]
    assert sum((row.reason or "").startswith("impossible: ") for row in rows) == 50


def test_what_was_impossible_is_placed_when_the_fleet_has_grown() -> None:
    world = world_of(node("east", "n", 8))
    ask(world, "t", spec(gpus=16))
    assert told(placed(world), "t").startswith("impossible: ")
    world.set_nodes([node("east", "n", 8), node("east", "wide", 16)])
    placed(world)
    assert where(world, "t") == ["east"]


def test_more_than_the_whole_quota_takes_nothing_of_it() -> None:
    world = world_of(node("east", "n", 8))
    world.set_tenants({"x": TenantLimits(quota_gpus=4.0)})
    ask(world, "never", spec(gpus=6, tenant="x", priority=1_000))
    ask(world, "small", spec(gpus=4, tenant="x"))
    assert told(placed(world), "never").startswith("quota: it asks for 6 GPUs")
    assert where(world, "small") == ["east"]


def test_a_region_that_is_silent_makes_nothing_impossible() -> None:
    world = world_of(node("east", "n", 8), heard=False)
    ask(world, "t")
    assert not told(placed(world), "t").startswith("impossible: ")


# Victims


def test_among_equals_the_victim_is_where_the_place_is_cheapest_whatever_seconds_they_are_apart() -> None:
    world = world_of(node("east", "n", 4), node("south", "n", 4))
    for index in range(8):
        # Those of the south came first: their seconds of age must not outweigh what the transfer costs.
        home = ("south", "east")[index // 4]
        ask(world, f"low{index}", spec(priority=100, allowed_regions=(home,)), now_ms=7_000 * index)
    placed(world, now_ms=60_000)
    data = DataNeed(dataset=None, region="south", size_gb=500.0)
    ask(world, "urgent", spec(priority=900, data=(data,)), now_ms=60_000)
    placed(world, now_ms=61_000)
    assert where(world, "urgent") == ["south"]


def test_a_task_that_was_given_back_goes_elsewhere_while_others_still_go_there() -> None:
    world = world_of(node("a", "n1"), node("b", "n1"), usd={"a": 1.0, "b": 9.0})
    ask(world, "t")
    placed(world, 1_000)
    assert where(world, "t") == ["a"]
    applied(world, decide.report(world, "a", "evicted", "t", world.tasks["t"].epoch, "", 3, 1_100))
    ask(world, "other", now_ms=1_100)
    placed(world, 1_200)
    assert (where(world, "t"), where(world, "other")) == (["b"], ["a"])


def test_a_repeated_accepted_writes_one_row() -> None:
    world = world_of(node("a", "n1"))
    ask(world, "t")
    placed(world)
    copy = world.tasks["t"].copies[0]
    rows = [
        applied(world, decide.report(world, copy.region, kind, "t", copy.epoch, "", 3, at))
        for at, kind in enumerate(["accepted"] * 3 + ["running", "accepted", "running"])
    ]
    assert [len(made) for made in rows] == [1, 0, 0, 1, 0, 0]


# Regions that come and go


MINUTE_MS = 60_000


def flap(world: World, region: str, now_ms: int) -> None:
    """Let a region be lost with what it holds, and come back."""
    world.lose_region(region)
    applied(world, decide.lose_region(world, region, 10_000, now_ms))
    world.hear(region, now_ms + 1)


def test_a_region_that_comes_and_goes_is_used_less_and_less() -> None:
    world = world_of(node("east", "n"))
    ask(world, "t")
    moves = 0
    for minute in range(90):
        placed(world, now_ms=minute * MINUTE_MS)
        if where(world, "t"):
            moves += 1
            flap(world, "east", minute * MINUTE_MS + 1)
    assert 8 <= moves <= 16, "it would be ninety"


def test_a_region_that_is_lost_now_and_then_is_used_as_soon_as_it_is_back() -> None:
    world = world_of(node("east", "n"))
    ask(world, "t")
    for hours in range(0, 10, 2):
        now_ms = hours * 60 * MINUTE_MS
        placed(world, now_ms=now_ms)
        flap(world, "east", now_ms + 1)
        placed(world, now_ms=now_ms + 2)
        assert where(world, "t") == ["east"]


def test_why_a_region_is_not_used_is_said_and_a_restart_knows_it() -> None:
    world, rows = world_of(node("east", "n")), list[Transition]()
    rows += ask(world, "t")
    for step in (1, 20_000):
        rows += placed(world, now_ms=step)
        world.lose_region("east")
        rows += applied(world, decide.lose_region(world, "east", 10_000, step + 1))
        world.hear("east", step + 2)
    told = [row.reason or "" for row in placed(world, now_ms=20_010)]
    assert any("region east was lost 2 times lately, and is used again in 60 s" in reason for reason in told), told
    followed = World()
    for row in rows:
        followed.follow(row)
    for again in (followed, from_image(image_of(followed), lambda _: spec(), 0)):
        again.set_nodes([node("east", "n")])
        again.set_prices({("east", "A100", False): 2.0})
        again.hear("east", 20_010)
        assert not again.open_region("east")
        placed(again, now_ms=81_000)
        assert where(again, "t") == ["east"]


# Copies in distinct regions


@settings(max_examples=60, deadline=None)
@given(
    replicas=st.integers(2, 3),
    steps=st.lists(
        st.tuples(st.sampled_from(["lose", "return", "succeed", "fail"]), st.sampled_from("abcde")), max_size=14
    ),
)
def test_copies_are_brought_back_to_as_many_as_asked_for_in_distinct_regions(
    replicas: int, steps: list[tuple[str, str]]
) -> None:
    world = world_of(*(node(region, "n") for region in "abcde"))
    ask(world, "t", spec(replicas=replicas))
    placed(world)
    for number, (what, region) in enumerate(steps, start=1):
        now_ms = number * 120 * MINUTE_MS  # so that no region counts as one that comes and goes
        task = world.tasks.get("t")
        if task is None:
            break
        copy = next((copy for copy in task.copies.values() if copy.region == region), None)
        if what == "lose":
            world.lose_region(region)
            applied(world, decide.lose_region(world, region, 10_000, now_ms))
        elif what == "return":
            world.hear(region, now_ms)
        elif copy is not None:
            kind = "succeeded" if what == "succeed" else "failed"
            applied(world, decide.report(world, region, kind, "t", copy.epoch, "", 99, now_ms))
        placed(world, now_ms=now_ms)
        task = world.tasks.get("t")
        if task is None:
            break
        held = where(world, "t")
        assert len(set(held)) == len(held)
        assert not set(held) & task.done_regions, "nor where one has succeeded"
        usable = {name for name in "abcde" if world.open_region(name)} - task.done_regions
        wanted = replicas - len(task.done_copies)
        assert len(held) == min(wanted, len(usable)), "as many as there are regions for"


def test_who_was_given_back_and_may_be_tried_again_comes_before_others_of_its_class() -> None:
    world = world_of(node("east", "n1", 1))
    east = RegionId("east")
    for name in ("given back", "later"):
        ask(world, name)
    task = world.tasks[TaskId("given back")]
    task.barred |= {east}
    world.book.wait(task, first=False)
    world.book.unbar(task, {east})
    placed(world)
    assert where(world, "given back") == ["east"]
    assert where(world, "later") == []
