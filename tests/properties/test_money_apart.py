"""Money, delay and prices of pools, held against what they say they are: planned again, or counted one by one."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.scheduling.worlds import applied, ask, node, spec, world_of
from thalweg.scheduling.decisions import decide
from thalweg.scheduling.live.demand import delay_usd_per_hour
from thalweg.scheduling.live.live_plan import IntoFree, PlanSettings
from thalweg.scheduling.live.micro_batch import plan
from thalweg.scheduling.live.node_limits import with_node_limits
from thalweg.scheduling.live.plan_money import plan_money
from thalweg.scheduling.live.pool_prices import pool_prices
from thalweg.scheduling.live.whole_pools import whole_pools
from thalweg.scheduling.solve.solve import solve
from thalweg.scheduling.world.waiting import ClassKey
from thalweg.scheduling.world.world import World

MINUTE_MS = 60_000
USD = {"east": 1.0, "west": 2.0, "north": 3.5}

Asked = tuple[int, int, float, float | None, int | None]
"""GPUs, priority, expected seconds, value that is given, minutes until its last moment to start."""

asked = st.tuples(
    st.sampled_from((1, 1, 2, 4, 8)),
    st.sampled_from((0, 300, 500, 800, 1_000)),
    st.sampled_from((60.0, 3_600.0, 360_000.0)),
    st.one_of(st.none(), st.sampled_from((0.0, 3.0, 5_000.0))),
    st.one_of(st.none(), st.integers(-60, 600)),
)
histories = st.lists(st.lists(asked, max_size=8), min_size=1, max_size=4)
fleets = st.fixed_dictionaries({region: st.lists(st.integers(1, 8), min_size=1, max_size=3) for region in USD})


def lived(fleet: dict[str, list[int]], history: list[list[Asked]]) -> World:
    return world_of(
        *(node(region, f"n{row}", gpus) for region, nodes in fleet.items() for row, gpus in enumerate(nodes)), usd=USD
    )


def least_of_the_same(world: World, into_free: IntoFree) -> float:
    """What the cheapest plan of the copies that were placed costs: they alone, and nobody may wait."""
    gpus = into_free.problem.classes.need[:, 0].astype(int).tolist()
    problem = with_node_limits(into_free.problem, world.nodes, [spec(one).parts for one in gpus])
    count = np.bincount(into_free.row, minlength=len(problem.classes)).astype(np.int64)
    alone = replace(problem.classes, count=count, wait_usd=np.full(len(count), 1e9))
    return solve(replace(problem, classes=alone)).objective


@settings(max_examples=60, deadline=None)
@given(fleets, histories, st.sampled_from(("flow", "greedy")))
def test_what_a_plan_says_of_its_money_delay_and_pools_is_so(
    fleet: dict[str, list[int]], history: list[list[Asked]], strategy: str
) -> None:
    world = lived(fleet, history)
    for batch, wanted in enumerate(history):
        now_ms = batch * MINUTE_MS
        for number, (gpus, priority, expected_s, value, minutes) in enumerate(wanted):
            start_by_ms = None if minutes is None else now_ms + minutes * MINUTE_MS
            needs = spec(
                gpus, priority=priority, expected_s=expected_s, value_usd_per_hour=value, start_by_ms=start_by_ms
            )
            ask(world, f"t{batch}-{number}", needs, now_ms)
        made = plan(world, PlanSettings(strategy=strategy), now_ms, seed=0)
        if made is None:
            continue
        placed = made.into_free if made.into_free is not None and made.into_free.row.size else None
        least_usd = 0.0 if placed is None else least_of_the_same(world, placed)
        applied(world, decide.place(world, made, "plan", now_ms))
        money = plan_money(made, whole_pools(world))
        assert money.placed_usd_per_hour == pytest.approx(sum(one.usd_per_hour for one in made.assignments))
        assert 0.0 <= money.least_usd <= money.placed_usd
        let_in_usd = money.placed_usd - (0.0 if placed is None else placed_usd(placed))
        assert money.least_usd - let_in_usd <= least_usd * (1 + 1e-9) + 1e-6

        waiting = [
            task
            for task in world.tasks.values()
            if task.task_id in world.waiting
            and not (task.reason or "").startswith("impossible:")  # costs nobody anything
        ]
        keys = [
            ClassKey(spec=one.spec, missing=one.placed_together, taken=one.taken, avoid=one.avoid) for one in waiting
        ]
        delays = [delay_usd_per_hour(key, now_ms) for key in keys]
        assert world.waiting.delay_usd_per_hour(now_ms) == pytest.approx(sum(delays))

        by_gpu = [delay / one.spec.gpus for delay, one in zip(delays, waiting, strict=True)]
        cheaper = max(USD.values()) - min(USD.values())
        for price in pool_prices(world, PlanSettings(), money.rather, now_ms):
            # Either one who waits would save it, or a copy would by another price of GPUs (no data lie anywhere).
            assert any(price.saves_usd_per_hour == pytest.approx(own) for own in by_gpu) or (
                price.saves_usd_per_hour <= cheaper + 1e-6
            )


def placed_usd(into_free: IntoFree) -> float:
    problem = into_free.problem
    gpus, hours = problem.classes.need[into_free.row, 0], problem.classes.expected_h[into_free.row]
    return float((gpus * hours * problem.pools.usd_per_gpu_hour[into_free.pool]).sum())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.sampled_from((1, 2, 4)), st.booleans()), max_size=60))
def test_the_queue_counts_who_waits_whatever_comes_and_goes(steps: list[tuple[int, int, bool]]) -> None:
    world = world_of(node("east", "n1", 8))
    queue, there = world.waiting, dict[str, int]()
    for step, (number, gpus, comes) in enumerate(steps):
        task_id = f"t{number}"
        if comes:
            key = ClassKey(spec=spec(gpus), missing=1, taken=frozenset(), avoid=frozenset())
            queue.enqueue(task_id, key, number, step, first=bool(step % 2))  # type: ignore[arg-type]
            there[task_id] = gpus
        else:
            queue.leave(task_id)  # type: ignore[arg-type]
            there.pop(task_id, None)
        assert queue.delay_usd_per_hour(0) == pytest.approx(2.0 * sum(there.values()))
