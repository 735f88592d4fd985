"""Where pools of a region cost the same, the nodes decide which of them it is."""

from collections.abc import Iterable
from dataclasses import replace

from tests.unit.scheduling.worlds import applied, ask, node, placed, planned, spec, where, world_of
from thalweg.scheduling.decisions.decide import place
from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.scheduling.live.live_plan import PlanSettings
from thalweg.scheduling.live.live_problem import live_problem
from thalweg.scheduling.live.micro_batch import plan
from thalweg.scheduling.live.node_placement import NodePlacement
from thalweg.scheduling.live.tenant_allowance import TenantAllowance
from thalweg.scheduling.live.who_asks import demands_of
from thalweg.scheduling.pack.nodes import Need, Pool
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.world.tasks import Part, TaskSpec
from thalweg.scheduling.world.world import TenantLimits, World


def share(milli: int, **more: object) -> TaskSpec:
    need = Need(gpus=1, gpu_milli=milli, cpu_milli=1_000, memory_mib=1_000)
    return TaskSpec(parts=(Part(workers=1, need=need),), **more)  # type: ignore[arg-type]


def nodes_of(world: World, names: Iterable[str]) -> list[str]:
    return [next(iter(world.tasks[TaskId(name)].copies.values())).shares[0].node_id for name in names]


def test_a_share_goes_beside_a_share_in_whichever_of_two_pools_that_cost_the_same() -> None:
    for model in ("A100", "H100"):
        world = world_of(node("east", "n1", 1), node("east", "n2", 1, model="H100"))
        ask(world, "a", share(600, gpu_models=(model,)))
        placed(world)
        ask(world, "b", share(400))
        placed(world, 1)
        first, second = nodes_of(world, "ab")
        assert first == second


def test_money_still_decides_between_pools_of_unlike_prices() -> None:
    world = world_of(node("east", "n1", 1), node("east", "n2", 1, model="H100"))
    east = RegionId("east")
    world.set_prices({(east, "A100", False): 2.0, (east, "H100", False): 2.01})
    ask(world, "a", share(600, gpu_models=("H100",)))
    placed(world)
    ask(world, "b", share(400))
    placed(world, 1)
    assert nodes_of(world, "b") == ["n1"]


def test_regions_are_never_mixed_for_the_nodes_sake() -> None:
    world = world_of(node("east", "n1", 1), node("west", "n1", 1))
    ask(world, "a", share(500, allowed_regions=("east",)))
    placed(world)
    ask(world, "b", share(500, allowed_regions=("west",)))
    placed(world, 1)
    assert where(world, "b") == ["west"]


def test_nothing_waits_for_a_pool_while_one_that_costs_the_same_has_room() -> None:
    world = world_of(*(node("east", f"n{at}", 2, model=model) for at, model in enumerate(("A100", "H100") * 3)))
    for at in range(4):
        ask(world, f"large-{at}", spec(gpus=2))
    for at in range(4):
        ask(world, f"small-{at}", spec(gpus=1))
    made = planned(world)
    assert len(made.assignments) == 8
    assert made.held == ()


def test_who_may_go_to_either_pool_takes_nobody_the_only_one_he_may_use() -> None:
    # The packer expects others in the pool of the H100, and would put the first, who may use both, beside the second.
    world = world_of(node("east", "n1", 2), node("east", "n2", 2, model="H100"))
    packer = Packer(world.nodes)
    packer.expect(
        RegionId("east"), {(Need(gpus=2), frozenset({world.nodes.pools.index(Pool(RegionId("east"), "H100"))})): 1.0}
    )
    ask(world, "either", spec(gpus=2))
    ask(world, "only", spec(gpus=2, gpu_models=("A100",), expected_s=7_200.0))
    made = plan(world, PlanSettings(), 0, 0, packer)
    assert made is not None
    assert {one.task_id for one in made.assignments} == {"either", "only"}, made.held


def test_a_tenant_that_may_have_no_more_takes_no_room_from_others_of_the_same_shape() -> None:
    world = world_of(node("east", "n1", 2))
    world.set_tenants({"small": TenantLimits(quota_gpus=1.0)})
    names = [TaskId(f"small-{at}") for at in range(3)]
    for name in names:
        ask(world, name, spec(tenant="small", priority=900))
    ask(world, "other", spec(tenant="other", priority=100))
    turns = world.waiting.window(world.loosened, 100, 100)
    demands = demands_of(world, turns)
    problem = live_problem(world, demands, PlanSettings(), 0)
    placement = NodePlacement(world, demands, problem, Packer(world.nodes), TenantAllowance(world))
    placement.mend()  # without a plan before, so that it is the first that finds two of the three no place
    assert [placed.task.task_id for placed in placement.done] == ["small-0", "other"]


def test_what_never_came_to_be_tried_is_expected_all_the_same() -> None:
    # A hundred ask for two GPUs and a CPU each, and their tenant may have none today. A small one leaves the node that
    # could take one of them as it is, and takes a GPU where no CPU is left for two, though that node fits it worse.
    world = world_of(node("east", "wanted", 2), replace(node("east", "odd", 3), cpus=1.0))
    world.set_tenants({"wide": TenantLimits(quota_gpus=0.0)})
    packer = Packer(world.nodes)

    def batch(now_ms: int) -> None:
        made = plan(world, PlanSettings(), now_ms, 0, packer)
        assert made is not None
        applied(world, place(world, made, "plan", now_ms))

    need = Need(gpus=2, cpu_milli=2_000, memory_mib=1_000)
    for at in range(100):
        ask(world, f"wide-{at}", TaskSpec(parts=(Part(workers=1, need=need),), tenant="wide"))
    batch(0)
    ask(world, "one", spec())
    batch(1)
    assert nodes_of(world, ["one"]) == ["odd"]
