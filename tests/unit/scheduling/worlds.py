"""Small worlds for tests of the live core."""

from thalweg.scheduling.decisions.decide import Refused, RequestOrigin, place, submit
from thalweg.scheduling.live.live_plan import Plan, PlanSettings
from thalweg.scheduling.live.micro_batch import plan
from thalweg.scheduling.pack.nodes import Need
from thalweg.scheduling.world.tasks import Part, TaskSpec, Transition
from thalweg.scheduling.world.world import NodeFacts, World

ORIGIN = RequestOrigin(topic="requests", partition=0, offset=0, timestamp_ms=0)


def node(
    region: str, name: str, gpus: int = 8, *, model: str = "A100", spot: bool = False, ready: bool = True
) -> NodeFacts:
    return NodeFacts(
        region=region, node_id=name, gpu_model=model, spot=spot, gpus=gpus, cpus=96.0, memory_gb=512.0, ready=ready
    )


def world_of(*nodes: NodeFacts, now_ms: int = 0, usd: dict[str, float] | None = None, heard: bool = True) -> World:
    """A world whose regions all reach each other in 50 ms and were just heard, or not yet."""
    world = World()
    regions = sorted({fact.region for fact in nodes})
    world.set_nodes(nodes)
    world.set_links({(a, b): (50.0, 5.0, 0.05) for a in regions for b in regions if a != b})
    world.set_prices({(fact.region, fact.gpu_model, fact.spot): (usd or {}).get(fact.region, 2.0) for fact in nodes})
    for region in regions if heard else ():
        world.hear(region, now_ms)
    return world


def spec(gpus: int = 1, workers: int = 1, **more: object) -> TaskSpec:
    need = Need(gpus=gpus, cpu_milli=1_000, memory_mib=1_000)
    return TaskSpec(parts=(Part(workers=workers, need=need),), **more)  # type: ignore[arg-type]


def applied(world: World, rows: list[Transition] | Refused) -> list[Transition]:
    assert not isinstance(rows, Refused), rows
    for row in rows:
        world.follow(row)
    return rows


def ask(world: World, task_id: str, wanted: TaskSpec | None = None, now_ms: int = 0) -> list[Transition]:
    return applied(world, submit(world, task_id, wanted or spec(), "{}", f"hash of {task_id}", ORIGIN, now_ms))


def planned(world: World, now_ms: int = 0, **settings: object) -> Plan:
    made = plan(world, PlanSettings(**settings), now_ms, seed=0)  # type: ignore[arg-type]
    assert made is not None
    return made


def placed(world: World, now_ms: int = 0, **settings: object) -> list[Transition]:
    made = plan(world, PlanSettings(**settings), now_ms, seed=0)  # type: ignore[arg-type]
    return [] if made is None else applied(world, place(world, made, "plan", now_ms))


def where(world: World, task_id: str) -> list[str]:
    return sorted(copy.region for copy in world.tasks[task_id].copies.values())
