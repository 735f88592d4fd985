"""Moves for money: figures by hand, and who is never moved."""

from dataclasses import replace

import pytest

from tests.unit.scheduling.again.stage import (
    HOUR_MS,
    LIMITS,
    SETTINGS,
    TEN_HOURS,
    looked,
    moved,
    of_two,
    priced,
    runs,
)
from tests.unit.scheduling.worlds import applied, ask, node, placed, where, world_of
from thalweg.scheduling.again.copying import copied
from thalweg.scheduling.again.look import look_again
from thalweg.scheduling.again.proposals import SaidSaving
from thalweg.scheduling.again.proving import proved
from thalweg.scheduling.again.running import ClassBook
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.world.orders import HeldTenant, OrderRow
from thalweg.scheduling.world.tasks import Change, DataNeed, TaskSpec, TaskTerms, Transition
from thalweg.scheduling.world.world import World


def test_a_task_moves_where_it_is_cheaper_now_and_its_row_says_why_and_what_it_saves() -> None:
    world = of_two(TEN_HOURS)
    assert moved(world, HOUR_MS) == []
    priced(world, a=2.0, b=1.0)
    revoked, assigned = moved(world, HOUR_MS)
    assert (revoked.change, assigned.change, where(world, "t0")) == (Change.REVOKED, Change.ASSIGNED, ["b"])
    # By hand: 9 h are left; 1 h and 36 s are done again. 18 USD to stay; 10.01 h at 1 USD to go, and 1 for the move.
    said = SaidSaving.read(assigned.reason or "")
    assert said is not None
    assert said.why == "it is cheaper there"
    assert (said.saving_usd, said.hours, said.usd_an_hour) == pytest.approx((18.0 - 10.01 - 1.0, 10.01, 1.0))
    assert said.lost_usd == pytest.approx(1.01 * 2.0 + 1.0, abs=0.005)
    assert said.realised_usd(said.hours) == pytest.approx(said.saving_usd, abs=0.01)


@pytest.mark.parametrize("bound", [0, 1, 2])
def test_tasks_of_a_tenant_that_are_not_alike_are_judged_each_by_its_own_terms(bound: int) -> None:
    world = world_of(node("a", "n"), node("b", "n"), usd={"a": 2.0, "b": 3.0})
    for number in range(3):
        ask(world, f"t{number}", replace(TEN_HOURS, allowed_regions=("a",)) if number == bound else TEN_HOURS)
    placed(world)
    runs(world)
    priced(world, a=2.0, b=1.0)
    free = {f"t{number}" for number in range(3)} - {f"t{bound}"}
    assert {row.task_id for row in moved(world, HOUR_MS)} == free


def test_what_was_checkpointed_is_not_lost_and_what_is_done_is_not_left() -> None:
    world = of_two(TEN_HOURS)
    priced(world, a=2.0, b=1.7)
    assert looked(world, 5 * HOUR_MS) == [], "five hours done again cost more than the rest of it saves"
    (row,) = world.tasks["t0"].copies[0].occupancy
    world.occupancy.tell(row, 0, 5 * HOUR_MS - 36_000)
    (one,) = looked(world, 5 * HOUR_MS)
    assert (one.run.left_h, one.run.lost_h) == pytest.approx((5.0, 0.02))
    assert one.saving_usd == pytest.approx(5 * 2.0 - 5.02 * 1.7 - 1.0)
    world.occupancy.tell(row, 990_000, 0)
    assert looked(world, 5 * HOUR_MS) == [], "a tenth of an hour is left"


def test_data_is_brought_again_at_the_price_of_its_way() -> None:
    def saving(size_gb: float) -> list[float | None]:
        data = (DataNeed(dataset=None, region="a", size_gb=size_gb),)  # type: ignore[arg-type]
        world = of_two(replace(TEN_HOURS, data=data))
        priced(world, a=2.0, b=1.0)
        return [one.saving_usd for one in looked(world, HOUR_MS)]

    # 10 GB at 0.05 USD, and 16 s at 5 Gbit/s until they are there.
    assert saving(10.0) == [pytest.approx(6.99 - 0.5 - 16 / 3600)]
    assert saving(200.0) == []


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (replace(TEN_HOURS, preemptible=False), "it did not agree"),
        (replace(TEN_HOURS, terms=TaskTerms(overlaps=True)), "it serves"),
        (replace(TEN_HOURS, allowed_regions=("a",)), "residency"),
        (replace(TEN_HOURS, origin_region="a", max_rtt_ms=10.0), "too far"),
        (replace(TEN_HOURS, expected_s=3_600.0), "it is over its time"),
    ],
)  # fmt: skip
def test_who_may_not_or_need_not_move_stays(wanted: TaskSpec, why: str) -> None:
    world = of_two(wanted)
    priced(world, a=2.0, b=0.1)
    assert looked(world, HOUR_MS) == [], why


def test_nobody_moves_before_he_has_rested_so_prices_that_swing_swing_nobody() -> None:
    world = of_two(TEN_HOURS)
    priced(world, a=2.0, b=0.5)
    assert looked(world, 599_999) == []
    assert len(moved(world, 600_000)) == 2
    runs(world)
    priced(world, a=0.1, b=2.0)
    assert looked(world, 1_199_999) == []
    assert len(moved(world, 1_200_000)) == 2


def test_a_look_moves_no_more_than_it_may_into_no_more_than_there_is() -> None:
    world = of_two(TEN_HOURS, tasks=6)
    priced(world, a=2.0, b=1.0)
    assert len(moved(world, HOUR_MS, replace(LIMITS, most_moved=2))) == 4
    world = world_of(node("a", "n"), node("b", "n", 3), usd={"a": 2.0, "b": 3.0})
    for number in range(6):
        ask(world, f"t{number}", TEN_HOURS)
    placed(world)
    runs(world)
    priced(world, a=2.0, b=1.0)
    assert {row.task_id for row in moved(world, HOUR_MS)} == {"t0", "t1", "t2"}


def test_equal_worlds_give_equal_moves_whatever_was_learnt_before() -> None:
    world, book = of_two(TEN_HOURS, tasks=6), ClassBook()
    copy = copied(world, HOUR_MS)
    look_again(copy.world, SETTINGS, LIMITS, HOUR_MS, book=book)
    priced(world, a=2.0, b=1.0)
    copy = copied(world, HOUR_MS)
    first, again = (look_again(copy.world, SETTINGS, LIMITS, HOUR_MS, book=one) for one in (book, None))
    assert first == again != []


def test_what_has_changed_since_the_look_is_dropped() -> None:
    def left(change: object) -> int:
        world = of_two(TEN_HOURS)
        priced(world, a=2.0, b=1.0)
        proposals = looked(world, HOUR_MS)
        change(world)  # type: ignore[operator]
        return len(proved(world, proposals, SETTINGS, LIMITS, HOUR_MS, Packer(world.nodes)))

    def evict(world: World) -> None:
        copy = world.tasks["t0"].copies[0]
        applied(world, [Transition(change=Change.EVICTED, task_id="t0", decided_ms=HOUR_MS, epoch=1, region="a")])  # type: ignore[arg-type]
        assert copy.index not in world.tasks["t0"].copies
        placed(world, HOUR_MS)

    def hold(world: World) -> None:
        world.tasks["t0"].held = True

    def deadline(hours: float) -> object:
        def set_to(world: World) -> None:
            task = world.tasks["t0"]
            task.spec = replace(task.spec, start_by_ms=round((hours - 10) * HOUR_MS))

        return set_to

    def hold_tenant(world: World) -> None:
        row = OrderRow(subject="tenant hold/default", who="ann", after=HeldTenant(tenant="default"))
        world.obey(row)

    assert left(lambda _: None) == 1
    assert left(evict) == 0
    assert left(hold) == left(hold_tenant) == 0
    # An hour has gone by, and 10.01 hours are to come.
    assert (left(deadline(11.02)), left(deadline(11.0))) == (1, 0)
    assert left(lambda world: priced(world, a=2.0, b=1.5)) == 0
    assert left(lambda world: priced(world, a=1.5, b=1.0)) == 0
    assert left(lambda world: world.set_nodes([node("a", "n"), node("b", "n", ready=False)])) == 0
