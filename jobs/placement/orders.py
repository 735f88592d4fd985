"""Judging orders, and notices of regions: what follows from them, or why they are refused."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from thalweg.scheduling.decisions import decide, ordering
from thalweg.scheduling.explain.reasons import Explainer
from thalweg.scheduling.ids import NodeId, RegionId
from thalweg.scheduling.live.live_plan import PlanSettings
from thalweg.scheduling.live.relocation import MovedCopy, Relocation, in_region
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.world.orders import SAID_BY_CLOUD, Drain, subject_of
from thalweg.scheduling.world.tasks import Copy, Task, TaskSpec, Transition
from thalweg.scheduling.world.world import World
from thalweg.streams.contract.messages import ControlOrder, StatusEvent
from thalweg.streams.placement import inbox, orders

MOVE_HOLDS_MS: Final = 600_000
"""A move that was asked for longer ago is refused: who asked sees another world by now."""


def judge_order(
    said: inbox.ReceivedOrder, world: World, settings: PlanSettings, now_ms: int
) -> list[Transition] | decide.Refused:
    """Say what follows from an order; the caller applies it.

    Args:
        said: the order.
        world: read, and left as it was.
        settings: of the planner, which finds a place for what is moved.
        now_ms: the moment.
    """
    order, origin = said.order, said.origin
    if order.order == "move":
        return _move(order, origin, world, settings, now_ms)
    subject = orders.subject(order)
    if orders.withdraws(order):
        node_id = None if order.node_id is None else NodeId(order.node_id)
        return ordering.withdraw(world, subject, order.who, origin, now_ms, region=order.region, node_id=node_id)
    wanted = orders.standing(order, world.orders.get(subject))
    return ordering.stand(world, wanted, order.who, origin, now_ms)


def judge_notice(event: StatusEvent, world: World, now_ms: int) -> list[Transition]:
    """Drain the nodes that a region is told it will lose, or all of it; what is known, or no node of it, is passed."""
    nodes: Sequence[str | None] = list(dict.fromkeys(event.nodes)) or [None]
    who = f"{SAID_BY_CLOUD} {event.region}"
    rows: list[Transition] = []
    for node in nodes:
        drain = Drain(region=event.region, node_id=None if node is None else NodeId(node), by_ms=event.by)
        known = world.orders.by_subject.get(subject_of(drain))
        if known is not None and (known.order == drain or not known.by_notice):
            continue  # what a person ordered stands above it
        made = ordering.stand(world, drain, who, None, now_ms)
        rows += [] if isinstance(made, decide.Refused) else made
    return rows


def _move(
    order: ControlOrder, origin: decide.RequestOrigin, world: World, settings: PlanSettings, now_ms: int
) -> list[Transition] | decide.Refused:
    assert order.task_id is not None and order.region is not None
    if now_ms - origin.timestamp_ms > MOVE_HOLDS_MS:
        ago_s = (now_ms - origin.timestamp_ms) / 1_000
        return decide.Refused(
            reason=f"move of task_id {order.task_id!r}: it was asked for {ago_s:.0f} s ago; allowed are "
            f"{MOVE_HOLDS_MS / 1_000:.0f} s. Ask again if it is still wanted"
        )

    def find(task: Task, copy: Copy, region: RegionId) -> MovedCopy | None:
        relocation = Relocation(world, [(task.task_id, copy.index)], settings, now_ms, Packer(world.nodes))
        try:
            return relocation.find(task, copy, in_region(region))
        finally:
            relocation.undo()  # also where it fails: who judges changes nothing

    def why_not(spec: TaskSpec, region: RegionId) -> str:
        return Explainer(world, replace(settings, fair_share=False)).why_not(replace(spec, replicas=1), region, now_ms)

    return ordering.move(
        world,
        order.task_id,
        order.region,
        order.copy,
        order.who,
        origin,
        now_ms,
        find=find,
        why_not=why_not,
    )
