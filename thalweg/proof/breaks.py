"""The line broken on purpose, one way each, to show that the histories would notice.

A proof that cannot fail proves nothing. Each break replaces one function for the length of a `with` block
(`thalweg.sync.proof.mutants.broken`).
"""

from typing import Any, Final

from msgspec import structs

from thalweg.agent.agent import RegionalAgent
from thalweg.agent.assigned import AssignedTasks
from thalweg.agent.capacity import Capacity
from thalweg.agent.tenure import Tenure
from thalweg.jobs.microbatch.outcome import DEAD_LETTERS
from thalweg.jobs.placement import placer
from thalweg.jobs.placement.fold import Fold, Folded
from thalweg.proof import driver_life
from thalweg.scheduling.decisions import decide
from thalweg.scheduling.liveness.hearing import Hearing
from thalweg.scheduling.liveness.told import Told
from thalweg.scheduling.world.fleet import Fleet
from thalweg.scheduling.world.tasks import Change
from thalweg.scheduling.world.waiting import WaitingQueue
from thalweg.streams.placement.fence import Fence, FenceVerdict
from thalweg.sync.delta import commits
from thalweg.sync.delta.contracts import DECISIONS
from thalweg.sync.delta.log_writer import LogWriter
from thalweg.sync.ledger.ledger import Ledger
from thalweg.sync.ledger.reading import LedgerVersion
from thalweg.sync.ledger.taken import TakenRequests
from thalweg.sync.proof.mutants import Mutant


def _nothing(*_: object, **__: object) -> None:
    """Leave it out."""


_decided, _admit = placer.Placer._decided, Fence.admit
_to_tell, _report, _publish = placer.Placer._to_tell, decide.report, RegionalAgent._publish
_place, _all_rows, _window = decide.place, LedgerVersion.all_rows, WaitingQueue.window


def _admit_all(fence: Fence, event: Any) -> FenceVerdict:
    _admit(fence, event)
    return FenceVerdict.ACCEPTED


def _decide_again(self: Any, received: Any, batch: Any) -> Any:
    return _decided(self, received, batch)


def _tell_own_only(self: Any, step: str, events: Any, *rest: Any, **named: Any) -> Any:
    return {} if step == placer.EARLIER else _to_tell(self, step, events, *rest, **named)


def _any_epoch(world: Any, region: Any, kind: str, task_id: Any, epoch: int, *rest: Any) -> Any:
    task = world.tasks.get(task_id)
    copy = None if task is None else next((c for c in task.copies.values() if c.region == region), None)
    return _report(world, region, kind, task_id, epoch if copy is None else copy.epoch, *rest)


def _always_knew(self: Any, *_: Any) -> Any:
    return lambda _task_id, *, for_ms: True


def _acknowledged_whatever(self: Any, now: int) -> None:
    _, last = self._store.outbox(self._prefix, 10_000)
    _publish(self, now)
    self._acknowledged = max(self._acknowledged, last)


def _same_epoch(world: Any, plan: Any, *rest: Any) -> Any:
    return [
        structs.replace(row, epoch=max(row.epoch - 1, 1)) if row.change is Change.ASSIGNED else row
        for row in _place(world, plan, *rest)
    ]


def _forgets_the_last_row(self: Any) -> Any:
    tables = list(_all_rows(self))
    return iter([*tables[:-1], *(table[: max(table.num_rows - 1, 0)] for table in tables[-1:])])


def _runs_again(self: Any, now: int) -> None:
    for held in self._store.held():
        self._keep(held)
        if held.state.value != "accepted":
            self._started.append((held, self._runner.start(held.event, self._steady()), ""))


def _no_claim(cls: Any, warehouse: str) -> Any:
    return cls(LogWriter(DECISIONS, warehouse), 1)


def _tried_for_good(self: Any, loosened: Any, *rest: Any) -> Any:
    return _window(self, loosened * 0 - 1, *rest)


def _break(name: str, mistake: str, place: Any, attribute: str, replacement: Any) -> Mutant:
    return Mutant(name=name, mistake=mistake, place=place, attribute=attribute, replacement=replacement)


BREAKS: Final = (
    _break(
        "tell first",
        "events are published before the ledger is written",
        driver_life,
        "ORDER",
        (placer.EARLIER, placer.EVENTS, placer.LEDGER, DEAD_LETTERS),
    ),
    _break("decide again", "a repeated batch is decided anew", placer.Placer, "_refused_again", _decide_again),
    _break("tell once", "what an earlier life committed is not told again", placer.Placer, "_to_tell", _tell_own_only),
    _break("no fence", "the region acts on every event", Fence, "admit", _admit_all),
    _break("any epoch", "a report of an old epoch counts", decide, "report", _any_epoch),
    _break("old epoch", "a new placement does not spend an epoch", decide, "place", _same_epoch),
    _break("always knew", "an inventory is believed to know everything", Told, "knew", _always_knew),
    _break("never repaired", "inventories are not compared", decide, "reconcile", lambda *_, **__: decide.Repairs()),
    _break("never lost", "a silent region keeps its tasks", Hearing, "silent", lambda *_: {}),
    _break(
        "out of the box",
        "reports are forgotten before they are acknowledged",
        RegionalAgent,
        "_publish",
        _acknowledged_whatever,
    ),
    _break("short story", "a restart misses the ledger's last row", LedgerVersion, "all_rows", _forgets_the_last_row),
    _break("run again", "a restarted agent starts what it held once more", AssignedTasks, "resume", _runs_again),
    _break("two on one GPU", "an agent does not wait for the GPU's last process", Capacity, "objection", _nothing),
    _break(
        "refused once",
        "a repeated batch's refusals are not said again",
        Fold,
        "refused_before",
        lambda *_: Folded(transitions=[]),
    ),
    _break("old id believed", "a batch id is believed without its offsets", Ledger, "holds", lambda *_: True),
    _break("taken twice", "requests of the past count as new", TakenRequests, "has", lambda *_: False),
    _break("goes on", "an agent believes any file that it finds", Tenure, "goes_on", lambda _: True),
    _break("no flush", "a commit does not wait for the disk", commits, "sync_together", _nothing),
    _break("heard or not", "a commit without an answer is made again", Ledger, "has_taken", lambda *_: False),
    _break("never freed", "what ends gives nothing back", Fleet, "free", _nothing),
    _break("never again", "what waits is tried once", WaitingQueue, "window", _tried_for_good),
    _break("no claim", "a driver does not claim the ledger", Ledger, "claim", classmethod(_no_claim)),
)
