"""What the tables say of the world (nodes, links, prices, datasets): read beside the stream, used by the next batch."""

import logging
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from msgspec import structs

from thalweg.jobs.placement import metrics
from thalweg.scheduling.decisions import decide
from thalweg.scheduling.world.facts import NODE_SEPARATOR, WorldFacts
from thalweg.scheduling.world.fleet import CopyKey
from thalweg.scheduling.world.tasks import Transition
from thalweg.scheduling.world.world import World
from thalweg.sync.tables.world_tables import WorldTables

log = logging.getLogger("thalweg.place")


class FactsReader:
    """Reads the world's tables beside the stream and hands each new reading over once."""

    def __init__(self, tables: WorldTables) -> None:
        self._tables = tables
        self._lock = threading.Lock()
        self._fresh = WorldFacts()

    def read(self) -> None:
        """Read what has changed since the last time."""
        facts = self._tables.read()
        with self._lock:
            self._fresh = self._fresh.updated(facts)

    def drain(self) -> WorldFacts:
        """Give what is new since the last call."""
        with self._lock:
            fresh, self._fresh = self._fresh, WorldFacts()
        return fresh


@dataclass(slots=True, kw_only=True)
class FactsIntake:
    """Brings the world up to date with the newest facts."""

    world: World
    fresh: Callable[[], WorldFacts]
    """Newest facts, each given once."""
    shown: dict[str, dict[Hashable, str]] = field(default_factory=dict)
    """Facts that were shown as left out, and why."""

    unjudged: dict[CopyKey, int] = field(default_factory=dict)
    """Copies on nodes that are gone, with their epochs, of which nothing follows yet."""

    def learn(self, now_ms: int, *, judge: bool = True) -> list[Transition]:
        """Set what is new and return what follows for tasks, applied; what does not follow now follows later.

        Args:
            now_ms: the time.
            judge: False while it is not read what has become of copies: one whose node is gone may have ended before.
        """
        facts = self.fresh()
        for task_id, index in self.world.learn(facts):
            self.unjudged[task_id, index] = self.world.tasks[task_id].copies[index].epoch
        self._show_left_out()
        return self.judge(now_ms) if judge and (self.unjudged or facts.nodes is not None) else []

    def judge(self, now_ms: int) -> list[Transition]:
        """Say what follows for tasks of nodes that are gone, or have less than they hold."""
        tasks = self.world.tasks
        hit = [
            (task_id, index)
            for (task_id, index), epoch in self.unjudged.items()
            if task_id in tasks and index in tasks[task_id].copies and tasks[task_id].copies[index].epoch == epoch
        ]
        self.unjudged.clear()
        rows = applied(self.world, decide.lose_copies(self.world, hit, "its node is gone", now_ms))
        return rows + applied(self.world, decide.leave_overcommitted(self.world, now_ms))

    def _show_left_out(self) -> None:
        """Say once of each fact that cannot be digested why it is left out."""
        for kind, left_out in self.world.left_out.items():
            metrics.LEFT_OUT.labels(kind).set(len(left_out))
            shown = self.shown.get(kind, {})
            for key, reason in left_out.items():
                if shown.get(key) != reason:
                    what = key.split(NODE_SEPARATOR) if isinstance(key, str) else key
                    fields = {"kind": kind, "key": what, "reason": reason}
                    log.warning("a fact is left out; the others are taken", extra={"fields": fields})
            self.shown[kind] = dict(left_out)


def applied(world: World, rows: list[Transition]) -> list[Transition]:
    """Apply transitions to the world, and return them; those with which a task is over say so."""
    return [structs.replace(row, ends=True) if world.follow(row) else row for row in rows]
