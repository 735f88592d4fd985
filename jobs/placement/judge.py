"""Judging one record: what follows from it, or why it is refused. Reads the world and changes nothing of it."""

from dataclasses import dataclass
from typing import Final

from thalweg.conf.settings import PlaceSettings
from thalweg.jobs.placement import metrics
from thalweg.jobs.placement.refusals import position_of
from thalweg.scheduling.live import decide
from thalweg.scheduling.liveness.told import Told
from thalweg.scheduling.world.tasks import Transition
from thalweg.scheduling.world.world import World
from thalweg.streams.contract.topics import ASSIGNMENTS, topic_name
from thalweg.streams.placement import event_size, inbox
from thalweg.streams.placement.requests import spec_of
from thalweg.sync.ledger.taken import TakenRequests

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

    def judge(self, item: inbox.Item, now_ms: int) -> decide.Repairs | decide.Refused:
        """Say what follows from one record; the caller applies it."""
        if isinstance(item, inbox.Malformed):
            return decide.Refused(reason=item.reason)
        if isinstance(item, inbox.ReceivedStatus):
            return self._report(item, now_ms)
        origin = item.origin
        if self.taken.has(item.request.task_id, origin.topic, origin.partition, origin.offset, origin.timestamp_ms):
            return decide.Repairs()
        outcome = self._request(item, now_ms, self.world)
        return outcome if isinstance(outcome, decide.Refused) else decide.Repairs(transitions=outcome)

    def refusal(self, item: inbox.Item, now_ms: int, world: World) -> str | None:
        """Say why a record of a batch that was taken is refused, in that world; None for one that is not."""
        if isinstance(item, inbox.Malformed):
            return item.reason
        if isinstance(item, inbox.ReceivedStatus):
            return None
        outcome = self._request(item, now_ms, world)
        return outcome.reason if isinstance(outcome, decide.Refused) else None

    def _request(self, asked: inbox.ReceivedRequest, now_ms: int, world: World) -> list[Transition] | decide.Refused:
        metrics.REQUESTS_SEEN.inc()
        request = asked.request
        if request.op == "cancel":
            return decide.cancel(world, request.task_id, asked.origin, now_ms)
        spec = spec_of(request)
        most = self.place.max_task_gpus
        if spec.gpus > most:
            return decide.Refused(reason=f"{spec.gpus:.0f} GPUs in all: allowed are {most} (place.max_task_gpus)")
        if (too_large := event_size.objection(request)) is not None:
            return decide.Refused(reason=too_large)
        take = decide.submit if request.op == "submit" else decide.update
        return take(world, request.task_id, spec, asked.raw, asked.content_hash, asked.origin, now_ms)

    def _report(self, said: inbox.ReceivedStatus, now_ms: int) -> decide.Repairs:
        event = said.event
        if event.type == "inventory":
            held = {task.task_id: task.epoch for task in event.tasks}
            topic = topic_name(ASSIGNMENTS, self.prefix, event.region)
            knew = self.told.knew(topic, position_of(said), event.read_to)
            return decide.reconcile(self.world, event.region, held, knew, self.place.accept_timeout_ms, now_ms)
        if event.task_id is None:
            return decide.Repairs()
        return decide.Repairs(
            transitions=decide.report(
                self.world,
                event.region,
                event.type,
                event.task_id,
                event.epoch,
                event.detail[:LONGEST_DETAIL],
                self.place.max_attempts,
                now_ms,
            )
        )
