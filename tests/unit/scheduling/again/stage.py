"""A world whose tasks run, looked at again and moved as the place job does."""

from tests.unit.scheduling.worlds import applied, ask, node, placed, spec, world_of
from thalweg.scheduling.again.copying import copied
from thalweg.scheduling.again.look import look_again
from thalweg.scheduling.again.proposals import LookLimits, Proposal
from thalweg.scheduling.again.proving import proved, rows_of
from thalweg.scheduling.live.live_plan import PlanSettings
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.problem.model import Weights
from thalweg.scheduling.world.tasks import Change, CopyState, TaskSpec, Transition
from thalweg.scheduling.world.world import World

HOUR_MS = 3_600_000
SETTINGS = PlanSettings(weights=Weights(move=1.0))
LIMITS = LookLimits(most_moved=8, rest_ms=600_000, start_up_s=36.0)


def runs(world: World) -> World:
    for task in world.tasks.values():
        for copy in [copy for copy in task.copies.values() if copy.state is not CopyState.RUNNING]:
            applied(world, [
                Transition(change=change, task_id=task.task_id, decided_ms=copy.assigned_ms, copy=copy.index,
                           epoch=copy.epoch, region=copy.region)
                for change in (Change.ACCEPTED, Change.RUNNING)
            ])  # fmt: skip
    return world


def priced(world: World, **usd: float) -> None:
    world.set_prices({("a", "A100", False): usd["a"], ("b", "A100", False): usd["b"]})


def of_two(wanted: TaskSpec, *, tasks: int = 1) -> World:
    """Tasks of ten hours that run in `a` at 2 USD, since moment 0."""
    world = world_of(node("a", "n"), node("b", "n"), usd={"a": 2.0, "b": 3.0})
    for number in range(tasks):
        ask(world, f"t{number}", wanted)
    placed(world)
    return runs(world)


def looked(world: World, now_ms: int, limits: LookLimits = LIMITS) -> list[Proposal]:
    copy = copied(world, now_ms)
    return look_again(copy.world, SETTINGS, limits, now_ms, stuck=copy.stuck)


def moved(world: World, now_ms: int, limits: LookLimits = LIMITS) -> list[Transition]:
    free = world.nodes.gpu_milli_free.copy()
    found = proved(world, looked(world, now_ms, limits), SETTINGS, limits, now_ms, Packer(world.nodes))
    assert (world.nodes.gpu_milli_free == free).all(), "a proof leaves the nodes as they were"
    return applied(world, rows_of(found, now_ms))


TEN_HOURS = spec(expected_s=36_000.0)
