"""The line broken on purpose, one way each, to show that the histories would notice.

A proof that cannot fail proves nothing. Each break replaces one function for the length of a `with` block
(`thalweg.sync.proof.mutants.broken`).
"""

from dataclasses import replace
from typing import Any, Final

from thalweg.agent.assigned import AssignedTasks
from thalweg.agent.capacity import Capacity
from thalweg.jobs.microbatch.outcome import DEAD_LETTERS
from thalweg.jobs.placement import placer
from thalweg.jobs.placement.fold import Fold
from thalweg.proof import driver_life
from thalweg.scheduling.live import decide
from thalweg.scheduling.liveness.hearing import Hearing
from thalweg.scheduling.world.fleet import Fleet
from thalweg.scheduling.world.tasks import Change
from thalweg.scheduling.world.waiting import WaitingQueue
from thalweg.streams.placement.fence import Fence, FenceVerdict
from thalweg.sync.delta.contracts import DECISIONS
from thalweg.sync.delta.log_writer import LogWriter
from thalweg.sync.ledger.ledger import Ledger
from thalweg.sync.ledger.reading import LedgerVersion
from thalweg.sync.proof.mutants import Mutant


def _nothing(*_: object, **__: object) -> None:
    """Leave it out."""


_decided, _said_again, _admit = placer.Placer._decided, placer.Placer._said_again, Fence.admit
_place, _all_rows, _window = decide.place, LedgerVersion.all_rows, WaitingQueue.window


def _admit_all(fence: Fence, event: Any) -> FenceVerdict:
    _admit(fence, event)
    return FenceVerdict.ACCEPTED


def _decide_again(self: Any, received: Any, batch: Any) -> Any:
    return _decided(self, received, batch)


def _say_no_events_again(self: Any, received: Any, batch: Any) -> Any:
    return replace(_said_again(self, received, batch), steps={})


def _same_epoch(world: Any, plan: Any, *rest: Any) -> Any:
    return [
        replace(row, epoch=max(row.epoch - 1, 1)) if row.change is Change.ASSIGNED else row
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
        (placer.EVENTS, placer.LEDGER, DEAD_LETTERS),
    ),
    _break("decide again", "a repeated batch is decided anew", placer.Placer, "_said_again", _decide_again),
    _break(
        "tell once", "a committed batch's events are not said again", placer.Placer, "_said_again", _say_no_events_again
    ),
    _break("no fence", "the region acts on every event", Fence, "admit", _admit_all),
    _break("old epoch", "a new placement does not spend an epoch", decide, "place", _same_epoch),
    _break("never repaired", "inventories are not compared", decide, "reconcile", lambda *_, **__: decide.Repairs()),
    _break("never lost", "a silent region keeps its tasks", Hearing, "silent", lambda *_: {}),
    _break("short story", "a restart misses the ledger's last row", LedgerVersion, "all_rows", _forgets_the_last_row),
    _break("run again", "a restarted agent starts what it held once more", AssignedTasks, "resume", _runs_again),
    _break("two on one GPU", "an agent does not wait for the GPU's last process", Capacity, "objection", _nothing),
    _break("refused once", "a repeated batch's refusals are not said again", Fold, "refused_before", lambda *_: []),
    _break("old id believed", "a batch id is believed without its offsets", Ledger, "holds", lambda *_: True),
    _break("never freed", "what ends gives nothing back", Fleet, "free", _nothing),
    _break("never again", "what waits is tried once", WaitingQueue, "window", _tried_for_good),
    _break("no claim", "a driver does not claim the ledger", Ledger, "claim", classmethod(_no_claim)),
)
