"""Judging one record: what follows from it, or why it is refused. Reads the world and changes nothing of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from thalweg.conf.settings import PlaceSettings
from thalweg.jobs.placement.orders import judge_notice, judge_order
from thalweg.jobs.placement.refusals import position_of
from thalweg.jobs.placement.settings import plan_settings
from thalweg.scheduling.counted import counted
from thalweg.scheduling.decisions import decide, ordering
from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.liveness.told import Told
from thalweg.scheduling.world.orders import NOBODY
from thalweg.scheduling.world.tasks import Change, RunReport, Transition
from thalweg.scheduling.world.world import World
from thalweg.streams.contract.messages import TaskRequest
from thalweg.streams.contract.topics import ASSIGNMENTS, topic_name
from thalweg.streams.placement import event_size, inbox
from thalweg.streams.placement.requests import content_hash
from thalweg.streams.placement.run_reports import run_report
from thalweg.streams.placement.task_specs import read_spec, spec_of
from thalweg.sync.ledger.taken import TakenRequests

_BY_ID: Final = {"cancel": decide.cancel, "hold": decide.hold, "release": decide.release}
"""What is done with a task by its id alone."""
BEGINNING: Final = ("submit", "rerun")
"""Operations with which a task begins."""
PASSED: Final = "it was refused, for a reason that has passed since: it can be sent again"
_ENDS_OF_RUNS: Final = frozenset({"succeeded", "failed", "evicted"})
_RUNS_ON: Final = RunReport(), ""
LONGEST_DETAIL: Final = 4_000
"""Characters of a report's words that become a row's reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Knows the world, what the ledger has taken, and what regions were told."""

    place: PlaceSettings
    prefix: str
    world: World
    taken: TakenRequests
    told: Told
    requests_of: Callable[[Sequence[TaskId]], Mapping[TaskId, str]] = lambda _: {}
    """Reads the requests that tasks were last submitted or updated with."""
    recalled: dict[TaskId, str] = field(default_factory=dict)
    """What tasks asked for that may be to run again by their name alone."""

    def recall(self, task_ids: Sequence[TaskId]) -> None:
        """Look up, in one go, what tasks had asked for that are to run again in the batch that begins."""
        self.recalled.clear()
        if task_ids:
            self.recalled.update(self.requests_of(task_ids))

    def remember(self, rows: Sequence[Transition]) -> None:
        """Note what tasks ask for in this batch, which the ledger does not have yet."""
        for row in rows:
            if row.change in (Change.SUBMITTED, Change.UPDATED) and row.request is not None:
                self.recalled[row.task_id] = row.request

    def judge(self, item: inbox.Item, now_ms: int) -> decide.Repairs | decide.Refused:
        """Say what follows from one record; the caller applies it."""
        if isinstance(item, inbox.Malformed):
            return decide.Refused(reason=item.reason)
        if isinstance(item, inbox.ReceivedStatus):
            return self.report(item, now_ms)
        origin = item.origin
        if isinstance(item, inbox.ReceivedOrder):
            if self.taken.has(NOBODY, origin.topic, origin.partition, origin.offset, origin.timestamp_ms):
                return decide.Repairs()
            ordered = judge_order(item, self.world, plan_settings(self.place), now_ms)
            return ordered if isinstance(ordered, decide.Refused) else decide.Repairs(transitions=ordered)
        if self.taken.has(item.request.task_id, origin.topic, origin.partition, origin.offset, origin.timestamp_ms):
            return decide.Repairs()
        outcome = self._request(item, now_ms, self.world)
        if isinstance(outcome, decide.Refused):
            return outcome
        return decide.Repairs(transitions=[*outcome, *_written_down(item.request, outcome, now_ms)])

    def refusal(self, item: inbox.Item, now_ms: int, world: World) -> str | None:
        """Say why a record of a batch that was taken is refused, in that world; None for one that is not."""
        if isinstance(item, inbox.Malformed):
            return item.reason
        if isinstance(item, inbox.ReceivedStatus):
            return None
        if isinstance(item, inbox.ReceivedOrder):
            ordered = judge_order(item, world, plan_settings(self.place), now_ms)
            return ordered.reason if isinstance(ordered, decide.Refused) else None
        outcome = self._request(item, now_ms, world)
        if isinstance(outcome, decide.Refused):
            return outcome.reason
        # It was not taken and would be now: what spoke against it (too many tasks, one that ran) was over by the end of
        # its own batch. In another world than the one after the batch, nothing can be said of that.
        return PASSED if outcome and world is self.world and item.request.op in BEGINNING else None

    def _request(self, asked: inbox.ReceivedRequest, now_ms: int, world: World) -> list[Transition] | decide.Refused:
        outcome = self._wanted(asked, now_ms, world)
        if isinstance(outcome, decide.Refused):
            return outcome
        return decide.objection_to_number(world, outcome, self.place.most_tasks) or outcome

    def _wanted(self, asked: inbox.ReceivedRequest, now_ms: int, world: World) -> list[Transition] | decide.Refused:
        request = asked.request
        if (act := _BY_ID.get(request.op)) is not None:
            return act(world, request.task_id, asked.origin, now_ms)
        if request.op == "rerun":
            return self._rerun(asked, now_ms, world)
        spec = spec_of(request)
        most = self.place.max_task_gpus
        if spec.gpus > most:
            return decide.Refused(
                reason=f"{counted(spec.gpus, 'GPU')} in all: allowed are {most} (place.max_task_gpus)"
            )
        if (too_large := event_size.objection(request, asked.raw)) is not None:
            return decide.Refused(reason=too_large)
        take = decide.submit if request.op == "submit" else decide.update
        return take(world, request.task_id, spec, asked.raw, asked.content_hash, asked.origin, now_ms)

    def _rerun(self, asked: inbox.ReceivedRequest, now_ms: int, world: World) -> list[Transition] | decide.Refused:
        """Run what has ended once more: its request comes along, or is what the ledger has of it."""
        task_id = asked.request.task_id
        if (objection := decide.objection_to_rerun(world, task_id)) is not None:
            return objection
        ended = world.ended.get(task_id)
        raw, content = asked.raw, asked.content_hash
        if ended is None or not ended.has_content(content):
            # Looked up by itself where it has ended in this very batch.
            raw = self.recalled.get(task_id) or self.requests_of([task_id]).get(task_id, "")
            if not raw:
                return decide.Refused(reason=f"rerun of task_id {task_id!r}: the ledger has no request of it")
            content = content_hash(raw)
        return decide.rerun(world, task_id, read_spec(raw), raw, content, asked.origin, now_ms)

    def report(self, said: inbox.ReceivedStatus, now_ms: int) -> decide.Repairs:
        """Say what follows from a region's report; see `judge`."""
        event = said.event
        if event.type == "inventory":
            held = {task.task_id: task.epoch for task in event.tasks}
            topic = topic_name(ASSIGNMENTS, self.prefix, event.region)
            knew = self.told.knew(topic, position_of(said), event.read_to)
            return decide.reconcile(self.world, event.region, held, knew, self.place.accept_timeout_ms, now_ms)
        if event.type == "notice":
            return decide.Repairs(transitions=judge_notice(event, self.world, now_ms))
        if event.task_id is None:
            return decide.Repairs()
        run, left_out = run_report(event) if event.type in _ENDS_OF_RUNS else _RUNS_ON
        detail = event.detail[:LONGEST_DETAIL]
        return decide.Repairs(
            transitions=decide.report(
                self.world,
                event.region,
                event.type,
                event.task_id,
                event.epoch,
                "; ".join(filter(None, (detail, left_out))),
                self.place.max_attempts,
                now_ms,
                run,
            )
        )


def _written_down(request: TaskRequest, rows: Sequence[Transition], now_ms: int) -> list[Transition]:
    """Give the row for `audit`, where somebody who gave a name has changed something."""
    return [ordering.asked_of_task(request.op, request.task_id, request.who, now_ms)] if request.who and rows else []
