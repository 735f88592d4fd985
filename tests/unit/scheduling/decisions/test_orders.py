"""The operator's hand on the pure core: drains, moves, tenants, prices, and what they refuse."""

import msgspec
import pytest

from tests.unit.scheduling.worlds import ORIGIN, applied, ask, node, placed, spec, where, world_of
from thalweg.scheduling.decisions import decide, ordering
from thalweg.scheduling.live.drains import relief
from thalweg.scheduling.live.live_plan import PlanSettings
from thalweg.scheduling.live.relocation import Relocation, in_region
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.world.image import image_of
from thalweg.scheduling.world.image import world_of as from_image
from thalweg.scheduling.world.orders import Drain, HeldTenant, Order, OrderRow, OwnPrice, TenantTerms, subject_of
from thalweg.scheduling.world.tasks import Change, TaskTerms, Transition
from thalweg.scheduling.world.world import TenantLimits, World

SETTINGS = PlanSettings()


def stand(world: World, order: Order, now_ms: int = 0) -> list[Transition]:
    return applied(world, ordering.stand(world, order, "ann", None, now_ms))


def lift(world: World, order: Order, now_ms: int = 0) -> list[Transition]:
    return applied(world, ordering.withdraw(world, subject_of(order), "ann", None, now_ms))


def refusal(world: World, order: Order, asked_ms: int = 0) -> str:
    refused = ordering.stand(world, order, "ann", msgspec.structs.replace(ORIGIN, timestamp_ms=asked_ms), asked_ms)
    assert isinstance(refused, decide.Refused)
    return refused.reason


def relieve(world: World, now_ms: int = 0, most: int = 100) -> list[Transition]:
    free = world.nodes.gpu_milli_free.copy()
    look = relief(world, SETTINGS, now_ms, Packer(world.nodes), most=most)
    assert (world.nodes.gpu_milli_free == free).all(), "a look leaves the nodes as they were"
    return applied(world, ordering.relieved(look, now_ms))


def move(world: World, task_id: str, region: str, copy: int | None = None) -> list[Transition] | decide.Refused:
    def find(task: object, one: object, to: object) -> object:
        search = Relocation(world, [(task.task_id, one.index)], SETTINGS, 0, Packer(world.nodes))  # type: ignore[attr-defined]
        found = search.find(task, one, in_region(to))  # type: ignore[arg-type]
        search.undo()
        return found

    return ordering.move(
        world, task_id, region, copy, "ann", ORIGIN, 0, find=find, why_not=lambda *_: "no room"  # type: ignore[arg-type]
    )  # fmt: skip


def test_a_drained_region_empties_into_the_others_in_one_step_and_takes_nothing_new() -> None:
    world = world_of(node("a", "n"), node("b", "n"), usd={"a": 1.0, "b": 3.0})
    for name in ("t1", "t2", "t3"):
        ask(world, name)
    placed(world)
    assert {where(world, name)[0] for name in ("t1", "t2", "t3")} == {"a"}
    stand(world, Drain(region="a"))
    rows = relieve(world, now_ms=3_600_000)
    assert [row.change for row in rows] == [Change.REVOKED, Change.ASSIGNED] * 3
    assert {where(world, name)[0] for name in ("t1", "t2", "t3")} == {"b"}
    assert "2.00 USD an hour saved" in rows[1].reason.replace("-", "") and "1.00 USD lost" in rows[1].reason  # type: ignore[union-attr]
    ask(world, "t4")
    placed(world)
    assert where(world, "t4") == ["b"]
    lift(world, Drain(region="a"))
    ask(world, "t5")
    placed(world)
    assert where(world, "t5") == ["a"]


def test_one_look_moves_no_more_than_it_may_and_the_most_important_first() -> None:
    world = world_of(node("a", "n"), node("b", "n"), usd={"a": 1.0})
    for name, priority in (("low", 100), ("high", 900), ("mid", 500)):
        ask(world, name, spec(priority=priority))
    placed(world)
    stand(world, Drain(region="a"))
    assert {row.task_id for row in relieve(world, most=1)} == {"high"}
    assert {row.task_id for row in relieve(world, most=1)} == {"mid"}


def test_a_drained_node_empties_within_its_region() -> None:
    world = world_of(node("a", "n1", 1), node("a", "n2", 1))
    ask(world, "t")
    placed(world)
    (share,) = world.tasks["t"].copies[0].shares
    stand(world, Drain(region="a", node_id=share.node_id))
    relieve(world)
    (moved,) = world.tasks["t"].copies[0].shares
    assert moved.node_id != share.node_id
    ask(world, "u")
    assert placed(world)[-1].change is Change.WAITING, "the drained node takes nothing"
    world.set_nodes([node("a", "n1", 1), node("a", "n2", 1)])
    placed(world)
    assert not world.tasks["u"].copies, "what the agent reports does not undo a drain"
    lift(world, Drain(region="a", node_id=share.node_id))
    placed(world)
    assert world.tasks["u"].copies


def test_what_has_no_other_place_stays_until_the_moment_and_is_stopped_then() -> None:
    world = world_of(node("a", "n", 2))
    ask(world, "t")
    placed(world)
    stand(world, Drain(region="a"))
    assert relieve(world, now_ms=10**9) == [], "without a moment nobody is stopped"
    stand(world, Drain(region="a", by_ms=2_000))
    assert relieve(world, now_ms=1_000) == []
    (row,) = relieve(world, now_ms=2_000)
    assert row.change is Change.REVOKED and "moment" in (row.reason or "")
    placed(world, now_ms=2_000)
    assert not world.tasks["t"].copies


def test_what_ends_before_the_moment_is_left_alone() -> None:
    world = world_of(node("a", "n"), node("b", "n"), usd={"a": 1.0})
    ask(world, "short", spec(expected_s=60.0))
    ask(world, "long", spec(expected_s=6_000.0))
    placed(world)
    for name in ("short", "long"):
        applied(world, decide.report(world, "a", "running", name, 1, "", 3, 0))
    stand(world, Drain(region="a", by_ms=600_000))
    assert {row.task_id for row in relieve(world, now_ms=1_000)} == {"long"}
    assert where(world, "short") == ["a"]


def overlapping() -> World:
    world = world_of(node("a", "n"), node("b", "n"), usd={"a": 1.0})
    ask(world, "t", spec(terms=TaskTerms(overlaps=True)))
    placed(world)
    applied(world, decide.report(world, "a", "running", "t", 1, "", 3, 0))
    stand(world, Drain(region="a"))
    (begun,) = relieve(world)
    assert begun.change is Change.ASSIGNED and where(world, "t") == ["a", "b"]
    return world


def test_what_may_overlap_is_made_before_it_is_broken() -> None:
    world = overlapping()
    assert relieve(world) == [], "the old one serves until the new one runs"
    applied(world, decide.report(world, "b", "running", "t", 2, "", 3, 0))
    (stopped,) = relieve(world)
    assert (stopped.change, stopped.region) == (Change.REVOKED, "a")
    assert where(world, "t") == ["b"] and world.tasks["t"].missing == 0


def test_what_was_begun_beside_another_goes_when_the_drain_does() -> None:
    world = overlapping()
    rows = lift(world, Drain(region="a"))
    assert [(row.change, row.region) for row in rows] == [(Change.ORDERED, None), (Change.REVOKED, "b")]
    assert where(world, "t") == ["a"]


def test_of_two_that_overlap_the_other_is_stopped_when_one_succeeds() -> None:
    world = overlapping()
    rows = applied(world, decide.report(world, "a", "succeeded", "t", 1, "", 3, 0))
    assert [(row.change, row.region) for row in rows] == [(Change.REVOKED, "b"), (Change.SUCCEEDED, "a")]
    assert world.ended.get("t") is not None


def test_of_two_whose_places_are_both_drained_the_newer_goes() -> None:
    world = overlapping()
    stand(world, Drain(region="b"))
    (row,) = relieve(world)
    assert (row.change, row.region) == (Change.REVOKED, "b")


def test_draining_everything_stops_nobody_and_lets_nobody_start() -> None:
    world = world_of(node("a", "n"), node("b", "n"))
    ask(world, "t")
    placed(world)
    for region in ("a", "b"):
        stand(world, Drain(region=region))
    assert relieve(world) == []
    ask(world, "u")
    (row,) = placed(world)
    assert row.change is Change.WAITING and "drained: a" in (row.reason or "")


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (Drain(region="nowhere"), "region 'nowhere' is not known; known are a, b"),
        (Drain(region="a", node_id="x"), "node 'x' of a is not known; known are n"),
        (Drain(region="a", by_ms=4_000), "1 s before it was asked"),
        (OwnPrice(region="a", gpu_model="H100", usd_per_gpu_hour=1.0), "it has A100"),
        (OwnPrice(region="nowhere", gpu_model="A100", usd_per_gpu_hour=1.0), "is not known"),
    ],
)
def test_an_order_about_what_is_not_there_is_refused(order: Order, words: str) -> None:
    world = world_of(node("a", "n"), node("b", "n"))
    assert words in refusal(world, order, asked_ms=5_000)


def test_orders_are_idempotent_and_undoing_what_never_stood_changes_nothing() -> None:
    world = world_of(node("a", "n"), node("b", "n"))
    for order in (Drain(region="a"), HeldTenant(tenant="x"), TenantTerms(tenant="x", weight=2.0)):
        (undone,) = lift(world, order)
        assert undone.ordered is not None and undone.ordered.before is undone.ordered.after is None
        stand(world, order)
        (again,) = stand(world, order)
        assert again.ordered is not None and again.ordered.before == again.ordered.after
        lift(world, order)
    assert not list(world.orders) and not world.tenants


def test_a_held_tenant_starts_nothing_and_what_runs_goes_on() -> None:
    world = world_of(node("a", "n"))
    ask(world, "runs", spec(tenant="x"))
    placed(world)
    stand(world, HeldTenant(tenant="x"))
    ask(world, "waits", spec(tenant="x"))
    ask(world, "other", spec(tenant="y"))
    rows = placed(world)
    assert {row.task_id: row.reason for row in rows if row.change is Change.WAITING} == {
        "waits": "held: tenant x is held by an order"
    }
    assert where(world, "runs") == where(world, "other") == ["a"]
    lift(world, HeldTenant(tenant="x"))
    placed(world)
    assert where(world, "waits") == ["a"]


def test_limits_and_prices_that_were_ordered_stand_above_the_settings_and_what_regions_say() -> None:
    world = world_of(node("a", "n"), node("b", "n"), usd={"a": 1.0, "b": 2.0})
    world.set_tenants({"x": TenantLimits(weight=3.0, quota_gpus=1.0)})
    stand(world, TenantTerms(tenant="x", quota_gpus=2.0))
    assert world.tenants["x"] == TenantLimits(weight=3.0, quota_gpus=2.0)
    stand(world, OwnPrice(region="b", gpu_model="A100", usd_per_gpu_hour=0.5))
    world.set_prices({("a", "A100", False): 1.0, ("b", "A100", False): 9.0})
    for name in ("t1", "t2", "t3"):
        ask(world, name, spec(tenant="x"))
    placed(world)
    assert [len(world.tasks[name].copies) for name in ("t1", "t2", "t3")] == [1, 1, 0]
    assert where(world, "t1") == ["b"]
    lift(world, TenantTerms(tenant="x", quota_gpus=2.0))
    assert world.tenants["x"].quota_gpus == 1.0


def test_a_move_stops_here_and_starts_there_in_one_step() -> None:
    world = world_of(node("a", "n"), node("b", "n"), usd={"a": 1.0})
    ask(world, "t")
    placed(world)
    rows = move(world, "t", "b")
    assert not isinstance(rows, decide.Refused)
    assert [(row.change, row.region, row.epoch) for row in rows[:2]] == [
        (Change.REVOKED, "a", 2), (Change.ASSIGNED, "b", 3)
    ]  # fmt: skip
    applied(world, rows)
    assert where(world, "t") == ["b"]
    again = move(world, "t", "b")
    assert not isinstance(again, decide.Refused) and [row.change for row in again] == [Change.ORDERED]


@pytest.mark.parametrize(
    ("task_id", "region", "words"),
    [
        ("nobody", "b", "no such task was submitted"),
        ("waits", "b", "it is waiting"),
        ("t", "nowhere", "is not known; known are a, b, full"),
        ("t", "full", "no room"),
        ("home", "b", "no room"),
        ("twice", "b", "name one of them"),
    ],
)
def test_a_move_that_cannot_be_is_refused_with_its_reason(task_id: str, region: str, words: str) -> None:
    world = world_of(node("a", "n"), node("b", "n"), node("full", "n", 0), usd={"a": 1.0})
    ask(world, "t")
    ask(world, "home", spec(allowed_regions=("a",)))
    ask(world, "twice", spec(replicas=2))
    placed(world)
    ask(world, "waits", spec(gpus=64))
    refused = move(world, task_id, region)
    assert isinstance(refused, decide.Refused) and words in refused.reason


def test_a_move_into_a_drained_region_is_refused() -> None:
    world = world_of(node("a", "n"), node("b", "n"), usd={"a": 1.0})
    ask(world, "t")
    placed(world)
    stand(world, Drain(region="b"))
    refused = move(world, "t", "b")
    assert isinstance(refused, decide.Refused) and "drained: b" in refused.reason


def test_orders_survive_an_image() -> None:
    world = World()
    orders: list[Order] = [
        Drain(region="a", by_ms=7),
        Drain(region="b", node_id="n"),
        HeldTenant(tenant="x"),
        TenantTerms(tenant="x", weight=2.0),
        OwnPrice(region="a", gpu_model="A100", spot=True, usd_per_gpu_hour=0.0),
    ]
    for order in orders:
        world.obey(OrderRow(subject=subject_of(order), who="ann", after=order))
    again = from_image(image_of(world), lambda _: spec(), 0, tenants={"x": TenantLimits(quota_gpus=1.0)})
    assert list(again.orders) == list(world.orders) and len(list(world.orders)) == len(orders)
    assert again.tenants["x"] == TenantLimits(weight=2.0, quota_gpus=1.0)
