"""Reading back what regions were told before the ledger was put back from a copy, and what they have reported of it.

A ledger that is older than the broker has lost rows that regions were told of. The requests of that time are in their
topic and are taken again. Were they decided again as if for the first time, what has ended would run once more. So the
events of the regions' topics that the ledger does not have, and the reports about their tasks, are laid between the
requests by their times; each becomes the row it was (`scheduling.decisions.taking_back`). Until the requests and reports
that were there at the start are read, nothing is planned and no list of a region is judged.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from thalweg.jobs.placement.facts import applied
from thalweg.jobs.placement.judge import Judge
from thalweg.scheduling.counted import counted
from thalweg.scheduling.decisions.decide import RequestOrigin
from thalweg.scheduling.decisions.taking_back import ToldBefore, given_up, is_known, taken_back
from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.liveness.hearing import Reached
from thalweg.scheduling.world.tasks import Transition
from thalweg.scheduling.world.world import World
from thalweg.streams.broker.consume import IncomingRecord
from thalweg.streams.contract.decode import UndecodableError
from thalweg.streams.contract.messages import AssignmentEvent
from thalweg.streams.contract.topics import ASSIGNMENTS, region_of_topic
from thalweg.streams.placement import inbox
from thalweg.streams.placement.assignments import copy_of_event, read_event, shares_of
from thalweg.streams.placement.requests import RequestError

NEVER_MS: Final = 2**62
TELLING: Final = frozenset({"accepted", "running", "succeeded", "failed", "evicted"})
"""Reports from which rows follow."""

log = logging.getLogger("thalweg.place")

_Order = tuple[int, int, int, int]
"""Moment; what frees before what takes; epoch; offset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    order: _Order
    what: ToldBefore | inbox.ReceivedStatus

    @property
    def task_id(self) -> TaskId:
        return self.what.task_id if isinstance(self.what, ToldBefore) else TaskId(self.what.event.task_id or "")


@dataclass(slots=True, kw_only=True)
class ReadBack:
    """What is to be taken back, in its order; used up as the requests are read."""

    entries: list[_Entry] = field(default_factory=list)
    until: Mapping[tuple[str, int], int] = field(default_factory=dict)
    """Up to where requests and reports are read before anything is planned."""
    over: Callable[[], None] = lambda: None
    """Called once all that is in the ledger."""
    taken: int = 0
    reached: dict[tuple[str, int], int] = field(default_factory=dict)
    """Up to where requests and reports were read."""
    _next: int = 0
    _kept: dict[TaskId, list[_Entry]] = field(default_factory=dict)
    """Of tasks whose requests have not been read."""

    def before(self, moment_ms: int, task_id: TaskId | None, judge: Judge, now_ms: int) -> list[Transition]:
        """Take back what came no later than a request or report that is judged next; the rows are followed already.

        Args:
            moment_ms: of that record.
            task_id: of whom it is; what was kept of that task comes first.
            judge: reads reports.
            now_ms: the time.
        """
        rows: list[Transition] = []
        while self._next < len(self.entries) and self.entries[self._next].order[0] <= moment_ms:
            entry = self.entries[self._next]
            self._next += 1
            if entry.task_id in self._kept or judge.world.find(entry.task_id) is None:
                self._kept.setdefault(entry.task_id, []).append(entry)
            else:
                rows += self._take(entry, judge, now_ms)
        for known in [one for one in self._kept if one == task_id or moment_ms == NEVER_MS]:
            rows += self._of_kept(known, moment_ms, judge, now_ms)
        return rows

    def _of_kept(self, task_id: TaskId, moment_ms: int, judge: Judge, now_ms: int) -> list[Transition]:
        rows: list[Transition] = []
        kept = self._kept.pop(task_id)
        while kept and judge.world.find(task_id) is not None and kept[0].order[0] <= moment_ms:
            rows += self._take(kept.pop(0), judge, now_ms)
        if kept:
            self._kept[task_id] = kept
        return rows

    def _take(self, entry: _Entry, judge: Judge, now_ms: int) -> list[Transition]:
        world = judge.world
        if isinstance(entry.what, inbox.ReceivedStatus):
            return applied(world, judge.report(entry.what, now_ms).transitions)
        if is_known(world, entry.what):
            return []
        self.taken += 1
        rows = applied(world, given_up(world, entry.what, now_ms))
        return rows + applied(world, [taken_back(world, entry.what)])

    def note(self, origin: RequestOrigin) -> None:
        """Note that a record was read."""
        self.reached[origin.topic, origin.partition] = origin.offset + 1

    def is_read(self, reached: Reached) -> bool:
        """Tell whether all is read that was there at the start.

        Args:
            reached: up to where the batch reads that was just judged; what it leaves out is known from the records.
        """
        self.reached.update(reached)
        return all(self.reached.get(place, 0) >= end for place, end in self.until.items())

    def rest(self, judge: Judge, now_ms: int) -> list[Transition]:
        """Take back all that is left, and say of what the broker has no request any more."""
        rows = self.before(NEVER_MS, None, judge, now_ms)
        names = sorted(task_id for task_id, kept in self._kept.items() if any(map(_assigns, kept)))
        if names:
            log.warning(
                f"{counted(len(names), 'task')} of which regions were told, in neither the ledger nor the requests "
                "topic: regions that hold them are told to stop; who sent them must send them again",
                extra={"fields": {"tasks": names[:20]}},
            )
        log.warning("what regions were told is in the ledger again", extra={"fields": {"events": self.taken}})
        return rows


def _assigns(entry: _Entry) -> bool:
    return isinstance(entry.what, ToldBefore) and entry.what.assigns


def told_beyond(world: World, records: Iterable[IncomingRecord], prefix: str) -> list[tuple[AssignmentEvent, int]]:
    """Decode the events of regions' topics that a ledger does not have, each with its offset."""
    found = []
    for record in records:
        region = region_of_topic(record.topic, ASSIGNMENTS, prefix)
        try:
            event = read_event(record.value)
        except UndecodableError:
            continue  # somebody else's, and refused by its reader
        task = world.find(event.task_id)
        if event.region == region and (task is None or task.epoch < event.epoch):
            found.append((event, record.offset))
    return found


def lay_out(
    beyond: Sequence[tuple[AssignmentEvent, int]], reports: Iterable[IncomingRecord], prefix: str
) -> list[_Entry]:
    """Put what was told and what was reported of it into the order in which the lost rows had it."""
    entries: dict[tuple[TaskId, int, str], _Entry] = {}
    for event, offset in beyond:
        assigns = event.type == "assign"
        told = ToldBefore(
            assigns=assigns,
            task_id=event.task_id,
            copy=copy_of_event(event),
            epoch=event.epoch,
            region=event.region,
            shares=shares_of(event),
            plan_id=event.plan_id,
            usd_per_hour=event.cost_usd_per_hour,
            reason=event.reason,
            decided_ms=event.decided_at,
        )
        order = (event.decided_at, 2 if assigns else 1, event.epoch, offset)
        entries.setdefault((event.task_id, event.epoch, event.type), _Entry(order=order, what=told))
    assigned_ms = {(task, epoch): entry.order[0] for (task, epoch, kind), entry in entries.items() if kind == "assign"}
    said = [
        _Entry(order=_order_of(report, assigned_ms), what=report)
        for report in (_report(record, prefix) for record in reports)
        # Of all tasks: what one was assigned to shows only once the report of who sat there before is taken.
        if report is not None and report.event.type in TELLING
    ]
    return sorted([*entries.values(), *said], key=lambda entry: entry.order)


def _order_of(said: inbox.ReceivedStatus, assigned_ms: Mapping[tuple[TaskId, int], int]) -> _Order:
    """A report lies behind the assignment it speaks of, whatever its region's clock said."""
    event, origin = said.event, said.origin
    assert event.task_id is not None
    begun_ms = assigned_ms.get((event.task_id, event.epoch), -1)
    if origin.timestamp_ms <= begun_ms:
        return begun_ms, 3, event.epoch, origin.offset
    return origin.timestamp_ms, 0, event.epoch, origin.offset


def _report(record: IncomingRecord, prefix: str) -> inbox.ReceivedStatus | None:
    try:
        return inbox.status_of(record, prefix)
    except (RequestError, UnicodeDecodeError):
        return None
