"""What only places could hold that take nothing now waits for them, is told so, and takes nothing from anybody."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.unit.scheduling.worlds import applied, ask, node, placed, spec, where, world_of
from thalweg.scheduling.decisions import ordering
from thalweg.scheduling.explain.reasons import Explainer
from thalweg.scheduling.live.live_plan import PlanSettings
from thalweg.scheduling.world.orders import Drain, Order, subject_of
from thalweg.scheduling.world.tasks import Transition
from thalweg.scheduling.world.world import NodeFacts, World

BIG, SMALL = node("lab", "big", 8), node("lab", "small", 1)
WHOLE = spec(gpus=8, priority=1_000)


def stand(world: World, order: Order, who: str = "ann") -> None:
    applied(world, ordering.stand(world, order, who, None, 0))


def lift(world: World, order: Order) -> None:
    applied(world, ordering.withdraw(world, subject_of(order), "ann", None, 0))


def told(rows: list[Transition], task_id: str) -> str:
    return [row.reason or "" for row in rows if row.task_id == task_id][-1]


def drained(world: World) -> None:
    stand(world, Drain(region="lab", node_id="big"))


def drained_region(world: World) -> None:
    stand(world, Drain(region="lab"))


def taken_away(world: World) -> None:
    stand(world, Drain(region="lab", node_id="big", by_ms=120_000), who="notice of lab")


def draining(world: World) -> None:
    say_of_big(world, replace(BIG, ready=False, draining=True))


def silent(world: World) -> None:
    say_of_big(world, replace(BIG, ready=False))


def say_of_big(world: World, fact: NodeFacts) -> None:
    world.set_nodes([fact if known.node_id == "big" else known for known in world.fleet.facts.values()])


WITHHELD: list[tuple[Callable[[World], None], str]] = [
    (drained, "drained: lab/big could hold it; to let it take tasks: `thalweg undrain lab/big`"),
    (drained_region, "drained: lab could hold it; to let it take tasks: `thalweg undrain lab`"),
    (taken_away, "drained: lab/big could hold it, and its cloud has said that it takes it away"),
    (draining, "drained: lab/big could hold it, and its region says that it takes nothing new now"),
    (silent, "silent: lab/big could hold it, and is not heard of now"),
]


@pytest.mark.parametrize(("withhold", "words"), WITHHELD)
def test_what_only_a_withheld_place_could_hold_is_told_which(withhold: Callable[[World], None], words: str) -> None:
    world = world_of(BIG, SMALL)
    withhold(world)
    ask(world, "t", WHOLE)
    assert told(placed(world), "t") == words
    wait = Explainer(world, PlanSettings()).wait(world.tasks["t"], 0)
    assert wait.reason == words
    assert wait.start is not None and wait.start.p50_h == float("inf")


@pytest.mark.parametrize("withhold", [draining, silent])
def test_it_is_the_same_for_a_driver_that_starts_then(withhold: Callable[[World], None]) -> None:
    world = world_of(BIG, SMALL)
    withhold(world)
    later = world_of(*world.fleet.facts.values())
    for one in (world, later):
        ask(one, "t", WHOLE)
    assert told(placed(world), "t") == told(placed(later), "t")


@pytest.mark.parametrize(("withhold", "_words"), WITHHELD)
def test_it_takes_nobodys_turn_and_no_share(withhold: Callable[[World], None], _words: str) -> None:
    world = world_of(BIG, SMALL, node("other", "n", 4))
    withhold(world)
    for index in range(20):
        ask(world, f"whole{index}", replace(WHOLE, tenant="x"))
    for index in range(2):
        ask(world, f"mine{index}", spec(tenant="x", allowed_regions=("other",)))
        ask(world, f"theirs{index}", spec(tenant="y", allowed_regions=("other",)))
    placed(world, window_tasks=10, window_classes=2)
    assert [name for name in ("mine0", "mine1", "theirs0", "theirs1") if where(world, name)] == [
        "mine0", "mine1", "theirs0", "theirs1"
    ]  # fmt: skip


@pytest.mark.parametrize("order", [Drain(region="lab", node_id="big"), Drain(region="lab")])
def test_it_runs_once_its_place_takes_tasks_again(order: Drain) -> None:
    world = world_of(BIG, SMALL)
    stand(world, order)
    ask(world, "t", WHOLE)
    placed(world)
    assert where(world, "t") == []
    lift(world, order)
    placed(world)
    assert where(world, "t") == ["lab"]


def test_once_heard_again_it_is_placed_and_once_forgotten_it_is_impossible() -> None:
    world = world_of(BIG, SMALL)
    ask(world, "t", WHOLE)
    silent(world)
    assert told(placed(world), "t").startswith("silent: ")
    world.set_nodes([SMALL])
    assert told(placed(world), "t").startswith("impossible: no pool could hold 1 worker of 8 GPUs")
    world.set_nodes([BIG, SMALL])
    placed(world)
    assert where(world, "t") == ["lab"]


def test_what_the_whole_fleet_could_never_hold_is_impossible_whatever_is_drained() -> None:
    world = world_of(BIG, SMALL)
    drained(world)
    ask(world, "t", spec(gpus=9))
    ask(world, "two", spec(gpus=1, replicas=2))
    rows = placed(world)
    assert told(rows, "t").startswith("impossible: no pool could hold 1 worker of 9 GPUs")
    assert told(rows, "two").startswith("impossible: 2 regions would have to hold a copy")


def test_two_places_are_named_with_a_command_for_each() -> None:
    world = world_of(node("a/b", "n"), node("lab", "m", 4), node("lab", "n", 4))
    for name in ("m", "n"):
        stand(world, Drain(region="lab", node_id=name))
    stand(world, Drain(region="a/b", node_id="n"))
    ask(world, "gang", spec(gpus=4, workers=2, allowed_regions=("lab",)))
    ask(world, "slashed", spec(gpus=8))
    rows = placed(world)
    assert told(rows, "gang") == (
        "drained: lab/m, lab/n could hold it; to let them take tasks: `thalweg undrain lab/m`, `thalweg undrain lab/n`"
    )
    assert told(rows, "slashed").endswith("to let it take tasks: `thalweg undrain a/b --node n`")
    lift(world, Drain(region="lab", node_id="m"))
    now = Explainer(world, PlanSettings()).wait(world.tasks["gang"], 0).reason  # the ledger tells each kind once
    assert now == "drained: lab/n could hold it; to let it take tasks: `thalweg undrain lab/n`"


def test_a_silent_region_leaves_it_to_wait_for_room() -> None:
    """Where nobody of a region speaks, its nodes are as they were last told."""
    world = world_of(BIG, SMALL)
    world.close_region("lab")
    ask(world, "t", WHOLE)
    assert told(placed(world), "t").startswith("capacity: ")
    world.hear("lab", 1)
    placed(world)
    assert where(world, "t") == ["lab"]
