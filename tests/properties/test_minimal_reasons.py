"""Reasons that people can check: the changes that are named place the task, and no part of them does; sums add up."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.scheduling.worlds import ask, node, placed, spec, where, world_of
from thalweg.scheduling.explain.reasons import Explainer
from thalweg.scheduling.explain.together import LET_GO, ROOM, demands_of, none_to_spare, without
from thalweg.scheduling.live.live_plan import PlanSettings
from thalweg.scheduling.problem.cost import arc_costs
from thalweg.scheduling.solve.transport.transport import Transport
from thalweg.scheduling.solve.transport.transport_simplex import by_simplex
from thalweg.scheduling.world.tasks import DataNeed, TaskSpec
from thalweg.scheduling.world.world import World

REGIONS = ("east", "west", "north")
MODELS = ("A100", "T4")
Fleet = list[tuple[str, str, bool, int]]
"""Region, model, spot, GPUs."""

fleets = st.lists(
    st.tuples(st.sampled_from(REGIONS), st.sampled_from(MODELS), st.booleans(), st.sampled_from((2, 4, 8))),
    min_size=1, max_size=5,
)  # fmt: skip
running = st.lists(st.sampled_from((1, 2, 4, 8)), max_size=5)


@st.composite
def wanted(draw: st.DrawFn) -> TaskSpec:
    """A task with any of the demands, often more than one world can meet."""
    maybe = st.booleans()
    return spec(
        draw(st.sampled_from((1, 2, 4, 8))),
        gpu_models=(draw(st.sampled_from((*MODELS, "H100"))),) if draw(maybe) else None,
        allowed_regions=(draw(st.sampled_from(REGIONS)),) if draw(maybe) else None,
        spot_ok=draw(maybe),
        max_usd_per_hour=draw(st.sampled_from((0.5, 3.0, 20.0))) if draw(maybe) else None,
        origin_region=draw(st.sampled_from(REGIONS)) if draw(maybe) else None,
        max_rtt_ms=draw(st.sampled_from((1.0, 60.0))) if draw(maybe) else None,
        data=(DataNeed(dataset=None, region="moon", size_gb=5.0),) if draw(maybe) else (),
        priority=0,
    )


def lived(fleet: Fleet, others: list[int]) -> World:
    """A fleet on which others run already."""
    world = world_of(
        *(
            node(region, f"n{row}", gpus, model=model, spot=spot)
            for row, (region, model, spot, gpus) in enumerate(fleet)
        )
    )
    for number, gpus in enumerate(others):
        ask(world, f"other-{number}", spec(gpus, spot_ok=True, priority=1_000))
    placed(world)
    return world


def is_placed(fleet: Fleet, others: list[int], needs: TaskSpec) -> bool:
    """Whether the planner itself places a task of these needs, in a world made anew."""
    world = lived(fleet, others)
    ask(world, "t", needs)
    placed(world)
    return bool(where(world, "t"))


def parts_of(names: frozenset[str]) -> Iterator[frozenset[str]]:
    return map(frozenset, chain.from_iterable(combinations(sorted(names), count) for count in range(len(names))))


@settings(max_examples=25, deadline=None)
@given(fleets, running, wanted())
def test_planning_again_with_the_changes_places_the_task_and_with_no_part_of_them(
    fleet: Fleet, others: list[int], needs: TaskSpec
) -> None:
    world = lived(fleet, others)
    ask(world, "t", needs)
    placed(world)
    if where(world, "t"):
        return
    found = Explainer(world, PlanSettings()).fewest_together(world.tasks["t"], 0)
    if found is None:
        # Not even a task without demands has a place in the fleet when it is empty, or there is no such node.
        assert not is_placed(fleet, [], without(needs, frozenset(LET_GO)))
        return
    left = [] if ROOM in found.names else others
    assert is_placed(fleet, left, found.spec), found.words
    for part in parts_of(found.names):
        assert not is_placed(fleet, [] if ROOM in part else others, without(needs, part)), (part, found.words)
    assert not where(world, "t") and Explainer(world, PlanSettings()).wait(world.tasks["t"], 0).reason


@settings(max_examples=25, deadline=None)
@given(fleets, running, wanted())
def test_each_remedy_that_is_told_of_a_demand_places_the_task(fleet: Fleet, others: list[int], needs: TaskSpec) -> None:
    world = lived(fleet, others)
    ask(world, "t", needs)
    placed(world)
    if where(world, "t"):
        return
    wait = Explainer(world, PlanSettings()).wait(world.tasks["t"], 0)
    told = {remedy.change for remedy in wait.remedies}
    for name in demands_of(needs):
        alone = is_placed(fleet, others, without(needs, frozenset({name})))
        words = {
            "gpu_models": ("GPU model",), "allowed_regions": ("region",), "max_rtt_ms": ("a round trip", "any round"),
            "spot_ok": ("spot",), "data": ("no data",), "max_usd_per_hour": (),
        }[name]  # fmt: skip
        if alone and words:
            assert any(change.startswith(words) and ";" not in change for change in told), (name, told)
    assert told or not is_placed(fleet, [], without(needs, frozenset(LET_GO)))


@settings(max_examples=20, deadline=None)
@given(fleets, running, wanted())
def test_why_here_and_not_there_is_the_difference_of_the_objective(
    fleet: Fleet, others: list[int], needs: TaskSpec
) -> None:
    """Each region's price, and each of its parts, are those of the very problem that is solved."""
    world = lived(fleet, others)
    explainer = Explainer(world, PlanSettings())
    options = [option.best for option in explainer.options(needs, 0) if option.best is not None]
    problem = explainer._node_placement(explainer._demand(replace(needs, replicas=1), 1, frozenset(), 0), 0).problem
    usd = dict(zip(problem.pools.pool_ids, arc_costs(problem).usd[0].tolist(), strict=True))
    for here in options:
        parts = [getattr(here.money, name) for name in here.money.__struct_fields__]
        assert sum(parts) == pytest.approx(here.usd, abs=1e-9)
        for there in options:
            assert there.usd - here.usd == pytest.approx(usd[there.pool_id] - usd[here.pool_id], abs=1e-9)


@st.composite
def transports(draw: st.DrawFn) -> Transport:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    classes, pools = draw(st.integers(1, 8)), draw(st.integers(1, 6))
    copies = rng.integers(1, 6, classes)
    usd = rng.integers(0, 50, (classes, pools)).astype(float)
    usd[rng.random((classes, pools)) < 0.2] = np.inf
    return Transport(
        units=np.ones(classes, np.int64),
        copies=copies,
        unit_usd=usd,
        wait_usd=rng.integers(20, 90, classes).astype(float),
        capacity=rng.integers(0, 12, pools),
        region_limit=copies.copy(),
        region=np.arange(pools),
        regions=pools,
    )


@settings(max_examples=150, deadline=None)
@given(transports())
def test_prices_of_pools_and_the_flow_prove_each_other(problem: Transport) -> None:
    """Complementary slackness: what costs something is full, and everybody has the cheapest at these prices."""
    flow = by_simplex(problem, None)
    noise = 1e-6 * 100
    used = np.bincount(flow.pool_index, flow.units, len(problem.capacity))
    assert (flow.prices >= 0).all() and (used <= problem.capacity).all()
    assert (used[flow.prices > noise] == problem.capacity[flow.prices > noise]).all(), "a price on room that is left"
    best = np.minimum((problem.unit_usd + flow.prices).min(axis=1), problem.wait_usd)
    paid = problem.unit_usd[flow.class_index, flow.pool_index] + flow.prices[flow.pool_index]
    np.testing.assert_allclose(paid, best[flow.class_index], atol=noise)
    waiting = problem.copies - np.bincount(flow.class_index, flow.units, len(problem.copies))
    assert (np.abs(best - problem.wait_usd)[waiting > 0] <= noise).all(), "who waits has nothing cheaper"
    primal = float((problem.unit_usd[flow.class_index, flow.pool_index] * flow.units).sum())
    primal += float((waiting * problem.wait_usd).sum())
    dual = float((best * problem.copies).sum() - (flow.prices * problem.capacity).sum())
    assert primal == pytest.approx(dual, rel=1e-9, abs=noise)


@given(st.lists(st.frozensets(st.sampled_from("abcde"), min_size=1), max_size=4))
def test_of_what_suffices_nothing_can_be_spared(causes: list[frozenset[str]]) -> None:
    """Any rule by which more of them suffice where fewer do: at least one of these causes is removed whole."""

    def suffices(names: frozenset[str]) -> bool:
        return any(cause <= names for cause in causes)

    found = none_to_spare("abcde", suffices)
    if found is None:
        assert not causes
        return
    assert suffices(found) and not any(suffices(part) for part in parts_of(found))
