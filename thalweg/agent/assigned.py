"""The tasks a region holds: admitted, started, watched, stopped, reported; every change in the caller's transaction.

Life of a held task: accepted → starting → running → over; stopping where its process takes a while to end. `starting`
is committed before the runner is called, so that a crash in between is seen: what may have run is never run again.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from thalweg.agent.capacity import Capacity
from thalweg.agent.fleet import RegionFleet
from thalweg.agent.runners import Cause, CommandNotFoundError, Ended, Runner, RunnerError, RunOutputs
from thalweg.agent.store import AgentStore, HeldAssignment, HeldState
from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.streams.contract.messages import AssignmentEvent, StatusEvent
from thalweg.streams.placement.fence import FenceVerdict
from thalweg.sync.clock import Clock

log = logging.getLogger("thalweg.agent")

REFUSED: Final = "refused"
NOTHING: Final = RunOutputs()
MAX_DETAIL: Final = 2_000
"""Characters of words in a report."""


class AssignedTasks:
    """Held tasks of all regions of one agent."""

    def __init__(self, fleets: Sequence[RegionFleet], store: AgentStore, runner: Runner, steady: Clock) -> None:
        """Hold nothing yet.

        Args:
            fleets: the regions and their nodes.
            store: the agent's file.
            runner: what runs tasks; its time is the steady clock's.
            steady: milliseconds, without steps. Every other time here is the wall clock's, for what is said.
        """
        self.capacity = Capacity(fleets)
        """What the ledger gave to whom."""
        self._occupied = Capacity(fleets)
        self._fleets = fleets
        """What processes really sit on: one that is told to stop keeps its GPUs until it is gone."""
        self._regions = {fleet.region for fleet in fleets}
        self._store = store
        self._runner = runner
        self._steady = steady
        self._held: dict[tuple[RegionId, TaskId], dict[int, HeldAssignment]] = {}
        self._accepted: set[tuple[RegionId, TaskId]] = set()
        self._started: list[tuple[HeldAssignment, int | None, RunnerError | None]] = []
        self._ended: list[Ended] = []
        """Ends that the file may not have yet."""
        self.may_start: Callable[[RegionId], bool] = lambda region: True
        """Whether tasks of a region may be started now."""

    def held(self, region: RegionId) -> Iterable[HeldAssignment]:
        """Tasks a region holds, each epoch by itself."""
        return (
            held for (of_region, _), epochs in self._held.items() if of_region == region for held in epochs.values()
        )

    def resume(self, now: int) -> None:
        """Take up what an earlier life held: go on with it where the runner can, else report what became of it."""
        for held in self._store.held():
            if held.event.region not in self._regions:
                continue  # not hosted by this start of the agent: the region counts as silent
            self._keep(held)
            if held.state is HeldState.ACCEPTED:
                continue
            if held.state is HeldState.STOPPING:
                self._resume_stopping(held, now)
            elif self._runner.survives_restart and held.started_ms is not None:
                # The wall clock may have been set back since: then it is as if it had just begun.
                self._runner.resume(held.event, min(held.started_ms, self._steady()))
                if held.state is HeldState.STARTING:
                    self._started.append((held, None, None))
            else:
                left = self._runner.progress(held.key, self._steady())
                outputs = left.outputs if left is not None else NOTHING
                self._over(held, "failed", now, detail="its agent ended while it ran", cause="agent", outputs=outputs)

    def give_up_stored(self, now: int, why: str) -> None:
        """Give back all that the file holds: it does not go on where the region stopped.

        What may run still is stopped, and sits on its GPUs until it is gone.
        """
        for held in self._store.held():
            if held.event.region not in self._regions:
                continue
            self._keep(held)
            if held.state is HeldState.STOPPING:
                self._resume_stopping(held, now)
            elif self._runner.survives_restart and held.started_ms is not None:
                self._runner.resume(held.event, min(held.started_ms, self._steady()))
                self._leave(held, "evicted", now, why)
            else:
                self._over(held, "evicted", now, detail=why, cause="agent")

    def _resume_stopping(self, held: HeldAssignment, now: int) -> None:
        """Stop again what an earlier life told to stop; it sits on its GPUs until it is gone."""
        if self._runner.survives_restart and held.started_ms is not None:
            self._runner.resume(held.event, min(held.started_ms, self._steady()))
            if not self._runner.stop(held.key, self._steady()):
                return
        self._over(held, "revoked", now)

    def obey(self, event: AssignmentEvent, now: int) -> FenceVerdict:
        """Act on an assignment event, if the fence admits it."""
        verdict = self._store.fence.admit(event)
        if verdict is FenceVerdict.REPEATED:
            self._compare(event, now)
        if verdict is not FenceVerdict.ACCEPTED:
            return verdict
        key = (event.region, event.task_id)
        known = key in self._held
        for held in list(self._held.get(key, {}).values()):
            self._revoke(held, now)
        if event.type == "assign":
            self._assign(event, now)
        elif not known:
            self._report(event, "revoked", now)
        return verdict

    def advance(self, now: int) -> list[HeldAssignment]:
        """Note what started and ended since the last call, and return what is to be started after the commit."""
        for held, pid, trouble in self._started:
            if self._held.get(held.key[:2], {}).get(held.event.epoch) is not held or held.state is HeldState.STOPPING:
                continue  # revoked meanwhile
            if trouble is not None:
                exit_code = trouble.exit_code if isinstance(trouble, CommandNotFoundError) else None
                self._over(held, "failed", now, exit_code=exit_code, detail=str(trouble), cause="start")
                continue
            held.state, held.pid = HeldState.RUNNING, pid
            self._store.hold(held)
            begun = self._runner.progress(held.key, self._steady())
            log_uri = begun.outputs.log if begun is not None else None
            self._report(held.event, "running", now, started_ms=held.started_ms, outputs=RunOutputs(log=log_uri))
        self._ended += self._runner.ended(self._steady())
        for ended in self._ended:
            self.note_end(ended, now)
        starting = self._startable()
        for held in starting:
            held.state, held.started_ms = HeldState.STARTING, now
            self._store.begin_run(held, now)
            self._store.hold(held)
        return starting

    def start(self, starting: Iterable[HeldAssignment]) -> None:
        """Start what `advance` chose; outside any transaction, after its commit."""
        self._started.clear()
        self._ended.clear()
        for held in starting:
            try:
                self._started.append((held, self._runner.start(held.event, self._steady()), None))
            except RunnerError as error:
                self._started.append((held, None, error))

    def report_progress(self, now: int) -> None:
        """Report how far each running task is, and what it gave so far."""
        for epochs in self._held.values():
            for held in epochs.values():
                seen = self._runner.progress(held.key, self._steady()) if held.state is HeldState.RUNNING else None
                if seen is not None:
                    share = None if seen.share is None else round(seen.share, 4)
                    self._report(
                        held.event,
                        "progress",
                        now,
                        progress=share,
                        started_ms=held.started_ms,
                        outputs=replace(seen.outputs, artefacts={}, result=None),
                    )

    def evict_all(self, now: int) -> None:
        """Give up every task, so that it is placed elsewhere: for an orderly stop of what does not survive one."""
        for epochs in list(self._held.values()):
            for held in list(epochs.values()):
                outcome = "revoked" if held.state is HeldState.STOPPING else "evicted"
                cause: Cause | None = "agent" if outcome == "evicted" else None
                self._over(held, outcome, now, detail="its agent stops", cause=cause)

    def read_back(self) -> None:
        """Hold again what the file holds: what was changed since was not committed. Processes are left alone."""
        self.capacity, self._occupied = Capacity(self._fleets), Capacity(self._fleets)
        self._held.clear()
        self._accepted.clear()
        for held in self._store.held():
            if held.event.region in self._regions:
                self._keep(held)
        # Those that were started meanwhile wait for a commit that says so.
        self._started = [
            (self._held[held.key[:2]][held.event.epoch], pid, trouble)
            for held, pid, trouble in self._started
            if held.event.epoch in self._held.get(held.key[:2], {})
        ]

    # Within

    def _compare(self, event: AssignmentEvent, now: int) -> None:
        """Give back a task that is held on other nodes than the ledger says now, in the same epoch.

        The ledger has lost the decision that is obeyed here, and made another one. Which GPUs are free is known again
        when the task has left them and is assigned with the next epoch.
        """
        held = self._held.get((event.region, event.task_id), {}).get(event.epoch)
        if event.type != "assign" or held is None or held.event.nodes == event.nodes:
            return
        if held.state is not HeldState.STOPPING:
            why = "the ledger decided this epoch again, with other nodes"
            log.warning("task given back: %s", why, extra={"fields": {"task_id": event.task_id, "epoch": event.epoch}})
            self._leave(held, "evicted", now, why)

    def _assign(self, event: AssignmentEvent, now: int) -> None:
        objection = self.capacity.objection(event)
        held = HeldAssignment(event=event)
        if objection is not None:
            log.warning("assignment refused", extra={"fields": {"task_id": event.task_id, "reason": objection}})
            self._store.begin_run(held, now)
            self._store.end_run(held, now, REFUSED)
            self._store.fence.finish(event.region, event.task_id, event.epoch)
            self._report(event, "evicted", now, detail=objection, cause="start")
            return
        self._keep(held)
        self._store.hold(held)
        self._report(event, "accepted", now)

    def _revoke(self, held: HeldAssignment, now: int) -> None:
        if held.state is not HeldState.STOPPING:
            self._leave(held, "revoked", now)

    def _leave(self, held: HeldAssignment, outcome: str, now: int, detail: str = "") -> None:
        """Let a task end at once, or as soon as its process is gone; one that is given back is reported at once."""
        if held.state is HeldState.ACCEPTED or self._runner.stop(held.key, self._steady()):
            self._over(held, outcome, now, detail=detail)
            return
        if outcome != "revoked":
            self._store.fence.finish(*held.key)
            self._report(held.event, outcome, now, detail=detail)
        self.capacity.release(held.event)  # the ledger gave it up already; its process still sits there
        held.state = HeldState.STOPPING
        self._store.hold(held)

    def _startable(self) -> list[HeldAssignment]:
        """Accepted tasks of which no older epoch is still ending, on GPUs that nobody's process sits on any more."""
        ready: list[HeldAssignment] = []
        for key in sorted(self._accepted):
            epochs = self._held.get(key, {})
            accepted = [held for held in epochs.values() if held.state is HeldState.ACCEPTED]
            if not accepted:
                self._accepted.discard(key)
            elif not self.may_start(key[0]) or len(ready) >= self._runner.starts_at_once:
                continue
            elif len(epochs) == 1 and self._occupied.objection(accepted[0].event) is None:
                self._accepted.discard(key)
                self._occupied.reserve(accepted[0].event)
                ready += accepted
        return ready

    def note_end(self, ended: Ended, now: int) -> None:
        """Note how a run ended."""
        region, task_id, epoch = ended.key
        held = self._held.get((region, task_id), {}).get(epoch)
        if held is None:
            return
        outcome = "succeeded" if ended.succeeded else "failed"
        if held.state is HeldState.STOPPING:
            outcome = "revoked"
        self._over(
            held,
            outcome,
            now,
            exit_code=ended.exit_code,
            detail=ended.detail,
            cause=ended.cause if outcome == "failed" else None,
            outputs=ended.outputs,
        )

    def _keep(self, held: HeldAssignment) -> None:
        region, task_id, epoch = held.key
        self._held.setdefault((region, task_id), {})[epoch] = held
        if held.state is not HeldState.STOPPING:
            self.capacity.reserve(held.event)
        if held.state is HeldState.ACCEPTED:
            self._accepted.add((region, task_id))
        else:
            self._occupied.reserve(held.event)

    def _over(
        self,
        held: HeldAssignment,
        outcome: str,
        now: int,
        *,
        exit_code: int | None = None,
        detail: str = "",
        cause: Cause | None = None,
        outputs: RunOutputs = NOTHING,
    ) -> None:
        """Hold a task no longer, and say why, and what it gave."""
        region, task_id, epoch = held.key
        epochs = self._held[region, task_id]
        del epochs[epoch]
        if not epochs:
            del self._held[region, task_id]
        if held.state is not HeldState.STOPPING:
            self.capacity.release(held.event)
        if held.state is not HeldState.ACCEPTED:
            self._occupied.release(held.event)
        self._store.drop(held)
        self._store.end_run(held, now, outcome)
        if outcome != "revoked":
            self._store.fence.finish(region, task_id, epoch)
        self._report(
            held.event,
            outcome,
            now,
            exit_code=exit_code,
            detail=detail,
            cause=cause,
            started_ms=held.started_ms,
            outputs=outputs,
        )

    def _report(
        self,
        event: AssignmentEvent,
        kind: str,
        now: int,
        *,
        progress: float | None = None,
        exit_code: int | None = None,
        detail: str = "",
        cause: Cause | None = None,
        started_ms: int | None = None,
        outputs: RunOutputs = NOTHING,
    ) -> None:
        self._store.report(
            StatusEvent(
                type=kind,  # type: ignore[arg-type]  # one of the message's kinds, by the callers above
                region=event.region,
                task_id=event.task_id,
                epoch=event.epoch,
                progress=progress,
                exit_code=exit_code,
                detail=detail[:MAX_DETAIL],
                cause=cause,
                started_at=started_ms,
                checkpointed_at=None if outputs.checkpointed_ms is None else min(outputs.checkpointed_ms, now),
                metrics=dict(outputs.metrics),
                result=outputs.result,
                log=outputs.log,
                artefacts=dict(outputs.artefacts),
                observed_at=now,
                stamp=self._store.stamp(event.region, now),
            )
        )
