import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.scheduling.worlds import ask, node, planned, spec, world_of
from thalweg.benchmarks.placement.live_gap import live_world
from thalweg.scheduling.live.micro_batch import PlanSettings, plan
from thalweg.scheduling.live.node_limits import contained, workers_by_pool
from thalweg.scheduling.pack.nodes import Need, Nodes, Pool
from thalweg.scheduling.pack.packer import Packer

NEEDS = st.builds(
    Need,
    gpus=st.sampled_from([0, 1, 2, 3, 4, 8]),
    gpu_milli=st.sampled_from([250, 400, 500, 1_000]),
    cpu_milli=st.sampled_from([0, 1_000, 4_000]),
    memory_mib=st.sampled_from([0, 1_000, 16_000]),
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(NEEDS, min_size=1, max_size=12), NEEDS, st.lists(st.sampled_from([1, 2, 4, 8]), min_size=1, max_size=4))
def test_whatever_lies_on_the_nodes_keeps_their_limits(workers: list[Need], shape: Need, gpus: list[int]) -> None:
    size = len(gpus)
    nodes = Nodes.from_columns(
        ids=[f"n{i}" for i in range(size)], pools=[Pool("a", "A100")], pool=np.zeros(size, np.int64),
        gpus=np.array(gpus), cpu_milli=np.full(size, 16_000), memory_mib=np.full(size, 64_000),
    )  # fmt: skip
    limit = int(workers_by_pool(nodes, shape)[0])
    packer = Packer(nodes)
    lying = [need for need in workers if packer.place(need, (0,)) is not None]
    assert sum(contained(need, shape) for need in lying) <= limit


def test_a_worker_of_eight_does_not_wait_for_a_sum_of_smaller_pieces():
    world = world_of(node("a", "n1", 4), node("a", "n2", 4), node("b", "n3", 8), usd={"a": 1.0, "b": 9.0})
    ask(world, "large", spec(gpus=8))
    ask(world, "small", spec(gpus=2))
    made = planned(world)
    # Without the limits the cheap region's eight GPUs look like room for the large one, and a waiting task in no bound.
    assert {one.task_id: one.region for one in made.assignments} == {"large": "b", "small": "a"}
    assert made.gap < 1e-6


@pytest.mark.parametrize("seed", [0, 38, 49, 59, 80, 112])
def test_small_live_worlds_are_planned_to_half_a_per_cent(seed):
    made = plan(live_world(seed), PlanSettings(), 0, seed=0)
    assert made is not None
    assert made.gap <= 5e-3
