"""What else could have been done with one task: region by region, and with one of its demands given up.

Every question is asked of the planner itself: a probe with the task's needs is submitted to the world, planned as a
micro-batch would plan it, nodes included, and taken back. So an answer is what the live job would do, no model of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from scheduling.micro_batch import Assignment, PlanSettings, plan
from scheduling.tasks import Change, TaskSpec, Transition
from scheduling.world import World

_PROBE = "\x1fprobe"  # no task id of a request holds a control character


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One region for one copy of a task."""

    region: str
    best: Assignment | None
    """The cheapest place for it there now; None where there is none."""
    reason: str
    """Why there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """One change that alone would let a waiting task in."""

    change: str
    regions: tuple[str, ...]
    usd: float
    """What its copies would cost then, in all."""


def place_alone(world: World, spec: TaskSpec, settings: PlanSettings, now_ms: int) -> tuple[Assignment, ...] | str:
    """Place a task of these needs into the world as if nothing else waited: its copies, or the reason it would wait.

    The world must have no waiting tasks of its own; it is left as it was.
    """
    probe = Transition(change=Change.SUBMITTED, task_id=_PROBE, decided_ms=now_ms, spec=spec, request="{}")
    world.apply(probe)
    try:
        made = plan(world, settings, now_ms, seed=0)
    finally:
        world.apply(replace(probe, change=Change.CANCELLED))
        del world.tasks[_PROBE]
    if made is None:
        return "capacity: no region has sent a node yet"
    return made.assignments or made.held[0].reason


def options(world: World, spec: TaskSpec, regions: Iterable[str], settings: PlanSettings, now_ms: int) -> list[Option]:
    """Price one copy in each of the regions, cheapest first, those without a place last."""
    found = []
    for region in regions:
        if spec.allowed_regions is not None and region not in spec.allowed_regions:
            found.append(Option(region=region, best=None, reason="residency: not one of its allowed regions"))
            continue
        alone = place_alone(world, replace(spec, replicas=1, allowed_regions=(region,)), settings, now_ms)
        if isinstance(alone, str):
            found.append(Option(region=region, best=None, reason=alone))
        else:
            found.append(Option(region=region, best=alone[0], reason=""))
    return sorted(found, key=lambda o: (o.best is None, o.best.usd if o.best else 0.0, o.region))


def remedies(world: World, empty: World, spec: TaskSpec, settings: PlanSettings, now_ms: int) -> list[Remedy]:
    """Name every single change that would let the task in, cheapest outcome first.

    Args:
        world: as it is.
        empty: the same world with nothing placed: what room alone would change.
        spec: the waiting task's needs.
        settings: of the live job.
        now_ms: the moment.
    """
    relaxed: list[tuple[str, World, TaskSpec]] = [("room: other tasks end or leave", empty, spec)]
    if spec.gpu_models is not None:
        relaxed.append(("any GPU model", world, replace(spec, gpu_models=None)))
    if spec.allowed_regions is not None:
        relaxed.append(("any region allowed", world, replace(spec, allowed_regions=None)))
    if spec.max_rtt_ms is not None:
        relaxed.append((f"a round trip above {spec.max_rtt_ms:g} ms", world, replace(spec, max_rtt_ms=None)))
    if not spec.spot_ok:
        relaxed.append(("spot capacity accepted", world, replace(spec, spot_ok=True)))
    if spec.max_usd_per_hour is not None:
        change = f"more than {spec.max_usd_per_hour:g} USD an hour and copy"
        relaxed.append((change, world, replace(spec, max_usd_per_hour=None)))
    if spec.replicas > 1:
        relaxed.append((f"one copy instead of {spec.replicas}", world, replace(spec, replicas=1)))
    if spec.data:
        relaxed.append(("no data to bring", world, replace(spec, data=())))
    found = []
    for change, where, changed in relaxed:
        placed = place_alone(where, changed, settings, now_ms)
        if not isinstance(placed, str):
            usd = sum(copy.usd for copy in placed)
            found.append(Remedy(change=change, regions=tuple(copy.region for copy in placed), usd=usd))
    return sorted(found, key=lambda remedy: (remedy.usd, remedy.change))
