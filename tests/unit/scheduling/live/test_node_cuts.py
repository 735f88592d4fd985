"""What does not fit a pool's nodes together is learned: who can stand aside for least does, and the bound knows it."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.scheduling.worlds import ask, node, planned, spec, where, world_of
from thalweg.scheduling.live.joint_fit import JointFit
from thalweg.scheduling.pack.nodes import Need
from thalweg.scheduling.problem.model import GPUS
from thalweg.scheduling.world.tasks import Part, TaskSpec


def of(cpus: float, hours: float = 1.0, gpu_milli: int = 1_000, **more: object) -> TaskSpec:
    need = Need(gpus=1, gpu_milli=gpu_milli, cpu_milli=round(cpus * 1_000), memory_mib=1_000)
    return TaskSpec(parts=(Part(workers=1, need=need),), expected_s=hours * 3_600.0, **more)  # type: ignore[arg-type]


def test_of_those_that_do_not_fit_together_the_one_goes_elsewhere_for_whom_it_costs_least() -> None:
    # As the demo had it: by sums, and by the shape of each worker alone, the cheap pool holds all four. Packed largest
    # first, "c" is left over and pays for twenty hours elsewhere, which "a" needs for minutes.
    world = world_of(node("east", "n1", 4), node("east", "n2", 4), node("west", "n1"), usd={"east": 1.0, "west": 9.0})
    for name, cpus, hours in (("a", 58.0, 0.1), ("b", 58.0, 1.0), ("c", 39.0, 20.0), ("d", 36.0, 3.0)):
        ask(world, name, of(cpus, hours))
    made = planned(world)
    assert {one.task_id: one.region for one in made.assignments} == {"a": "west", "b": "east", "c": "east", "d": "east"}
    assert made.objective == pytest.approx(0.1 * 9.0 + 24.0, rel=0.01)
    assert (made.status, made.gap) == ("optimal", pytest.approx(0.0, abs=1e-6))


def test_where_somebody_has_to_wait_the_bound_says_so() -> None:
    world = world_of(node("east", "n1", 4), node("east", "n2", 4))
    for name, gpus in (("a", 3), ("b", 3), ("c", 2)):
        ask(world, name, spec(gpus=gpus))
    made = planned(world)
    assert sorted(one.task_id for one in made.assignments) == ["a", "b"]
    assert made.gap < 1e-6
    (held,) = made.held
    assert held.reason.startswith("capacity:") and "resource" not in held.reason


def test_shares_of_gpus_that_lie_in_pieces_are_learned_too() -> None:
    world = world_of(node("east", "n1", 1), node("east", "n2", 1), node("west", "n1"), usd={"east": 1.0, "west": 5.0})
    for name, milli, hours in (("a", 550, 0.1), ("b", 560, 1.0), ("c", 455, 20.0), ("d", 430, 3.0)):
        ask(world, name, of(1.0, hours, milli))
    made = planned(world)
    assert {one.task_id: one.region for one in made.assignments} == {"a": "west", "b": "east", "c": "east", "d": "east"}
    assert made.gap < 1e-6


def test_a_plan_gives_back_what_it_tried() -> None:
    world = world_of(node("east", "n1", 4), node("east", "n2", 4), node("west", "n1", 2), usd={"west": 9.0})
    for name, gpus in (("a", 3), ("b", 3), ("c", 2), ("d", 1)):
        ask(world, name, spec(gpus=gpus))
    before = world.nodes.gpu_milli_free.copy(), world.nodes.cpu_milli_free.copy(), world.nodes.memory_mib_free.copy()
    first = planned(world)
    after = world.nodes.gpu_milli_free, world.nodes.cpu_milli_free, world.nodes.memory_mib_free
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    assert where(world, "a") == [] and first.gap < 1e-6


EAST, WEST, WAITS = range(3)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from((250, 400, 550, 700, 1_000)), st.sampled_from((1.0, 30.0, 55.0)), st.integers(1, 30)),
        min_size=2,
        max_size=5,
    )
)
def test_no_placement_costs_less_than_the_bound_and_the_plan_does_not_lie(asked: list[tuple[int, float, int]]) -> None:
    world = world_of(
        node("east", "n1", 1), node("east", "n2", 1), node("west", "n1", 1), usd={"east": 1.0, "west": 4.0}
    )
    for number, (milli, cpus, hours) in enumerate(asked):
        ask(world, f"t{number}", of(cpus, float(hours), milli))
    made = planned(world, fair_share=False)
    assert made.into_free is not None
    classes = made.into_free.problem.classes
    columns = (classes.need.tolist(), classes.expected_h.tolist(), classes.wait_usd.tolist())
    waits = {(round(need[GPUS] * 1_000), need[1], hours): usd for need, hours, usd in zip(*columns, strict=True)}
    east, west = [((1_000,), 96_000, 500_000)] * 2, [((1_000,), 96_000, 500_000)]
    best = np.inf
    for places in product((EAST, WEST, WAITS), repeat=len(asked)):
        there = {
            place: [of(cpus, 1.0, milli).parts[0].need for (milli, cpus, _), at in zip(asked, places, strict=True)
                    if at == place]
            for place in (EAST, WEST)
        }  # fmt: skip
        if JointFit(10_000).fits(there[EAST], east) and JointFit(10_000).fits(there[WEST], west):
            best = min(
                best,
                sum(
                    waits[milli, cpus, float(hours)] if at == WAITS else milli / 1_000 * hours * (1.0, 4.0)[at]
                    for (milli, cpus, hours), at in zip(asked, places, strict=True)
                ),
            )
    assert made.bound <= best * (1 + 1e-9) + 1e-6
    assert made.objective >= best * (1 - 1e-9) - 1e-6


@pytest.mark.parametrize(
    ("needs", "fits"),
    [([1_000, 1_000], True), ([1_000, 1_000, 1], False), ([600, 600, 400, 400], True), ([700, 600, 550], False)],
)
def test_whether_workers_fit_together_is_known_for_sure(needs: list[int], fits: bool) -> None:
    nodes = [((1_000,), 10_000, 10_000)] * 2
    assert JointFit(1_000).fits([Need(gpus=1, gpu_milli=milli) for milli in needs], nodes) is fits


def test_where_the_steps_do_not_suffice_nothing_is_said() -> None:
    nodes = [((1_000,), 10_000, 10_000)] * 4
    needs = [Need(gpus=1, gpu_milli=milli) for milli in (510, 520, 530, 540, 550)]
    assert JointFit(3).fits(needs, nodes) is None
    assert JointFit(3).fits([Need(gpus=2, gpu_milli=500)], nodes) is None


def test_nodes_that_hold_nobody_cost_no_steps() -> None:
    needs = [Need(gpus=1, gpu_milli=milli) for milli in (700, 600, 300)]
    open_ = [((1_000,), 10_000, 10_000), ((800,), 10_000, 10_000)]
    full = [((100 + milli,), 10_000, 10_000) for milli in range(199)] * 20
    assert JointFit(10).fits(needs, [*full, *open_]) is True
    assert JointFit(30).fits([*needs, needs[0]], [*full, *open_]) is False


def test_a_step_among_many_nodes_counts_as_many() -> None:
    needs = [Need(gpus=1, gpu_milli=500)] * 3
    nodes = [((500 + milli,), 10_000, 10_000) for milli in range(320)]
    assert JointFit(40).fits(needs, nodes) is None
    assert JointFit(63).fits(needs, nodes) is True


@given(
    st.lists(st.sampled_from((250, 400, 550, 700, 1_000)), min_size=1, max_size=4),
    st.lists(st.sampled_from((0, 200, 400, 550, 800, 1_000)), max_size=6),
)
def test_what_is_left_out_changes_no_answer(asked: list[int], free: list[int]) -> None:
    needs = [Need(gpus=1, gpu_milli=milli) for milli in asked]
    nodes = [((milli,), 1_000, 1_000) for milli in free]
    everywhere = product(range(len(nodes)), repeat=len(needs)) if nodes else ()
    fits = any(
        all(sum(a for a, at in zip(asked, places, strict=True) if at == node) <= free[node] for node in set(places))
        for places in everywhere
    )
    assert JointFit(100_000).fits(needs, nodes) is fits
