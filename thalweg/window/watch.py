"""The thread that follows the ledger: it keeps the columns, tells the feed, and takes samples of the whole."""

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from thalweg.query.reports.followed_tasks import FollowedTasks, LedgerEvent
from thalweg.query.reports.task_index import TaskGrouping
from thalweg.query.reports.task_list import TaskFilter
from thalweg.scheduling.world.lifecycle import LIVE
from thalweg.sync.clock import Clock
from thalweg.window.feed import Feed, ledger_mark, told
from thalweg.window.free_memory import give_back
from thalweg.window.metrics import CHANGES

log = logging.getLogger("thalweg.window")

_MOST_ARCHIVED: Final = 0.1
"""Share of archived tasks from which on all is read anew: for a while that takes the memory of the tasks once more."""
SAMPLE_MS: Final = 5_000
MOST_SAMPLES: Final = 720
"""An hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneSample:
    """The whole at a moment."""

    at_ms: int
    by_state: dict[str, int]
    usd_per_hour: float
    placed_gpus: float
    changes: int
    """Rows of the ledger since the last sample."""


class LedgerWatch:
    """See the module's words."""

    def __init__(self, tasks: FollowedTasks, feed: Feed, clock: Clock, *, look_s: float, anew_s: float) -> None:
        """Prepare.

        Args:
            tasks: followed here and nowhere else.
            feed: told.
            clock: milliseconds since 1970.
            look_s: between two looks at the ledger.
            anew_s: so often it is seen whether so much was archived that everything is loaded anew.
        """
        self.tasks, self.feed = tasks, feed
        self._clock, self._look_s, self._anew_s = clock, look_s, anew_s
        self.samples: deque[PlaneSample] = deque(maxlen=MOST_SAMPLES)
        self.trouble = ""
        """Why the ledger cannot be read, in words; "" where it can."""
        self.looked_ms = 0
        """When it was last read."""
        self._changes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="window-ledger", daemon=True)

    @property
    def is_loaded(self) -> bool:
        """Tell whether the tables were read once."""
        return self.looked_ms > 0

    def live_tasks(self) -> int:
        """Count the tasks that have not ended, as of the last sample."""
        return sum(self.samples[-1].by_state.get(state, 0) for state in LIVE) if self.samples else 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, after the step that is under way."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def step(self) -> None:
        """Look once."""
        was = self.tasks.columns
        events = self.tasks.step()
        if self.tasks.columns is not was or not self.is_loaded:
            self._begin()
            give_back()
        self._tell(events)

    def _begin(self) -> None:
        self.feed.begin(self.tasks.position, ledger_mark(self.tasks.ledger_id))

    def load_anew(self) -> None:
        """Read everything once more where much was archived; listeners go on as if nothing had been."""
        if self.tasks.archived_share() < _MOST_ARCHIVED:
            return
        was, events = self.tasks.columns, None
        try:
            events = self.tasks.load_anew()
        finally:
            if events is None and self.tasks.columns is not was:
                self._begin()  # who listens reads what is between from the ledger
        self._tell(events or ())
        del was
        give_back()

    def _tell(self, events: Sequence[LedgerEvent]) -> None:
        if events:
            self._changes += len(events)
            for change, rows in Counter(event.transition for event in events).items():
                CHANGES.labels(change).inc(rows)
            last = {event.task_id: event.position for event in events}
            ledger = ledger_mark(self.tasks.ledger_id)
            shown = {task["task_id"]: task for task in self.tasks.columns.states_of(last)}
            # The last of a task's events in this step brings the task as it is now.
            self.feed.tell(
                [
                    told(event, shown.get(event.task_id) if last[event.task_id] == event.position else None, ledger)
                    for event in events
                ]
            )
        self.looked_ms, self.trouble = self._clock(), ""
        self._sample()

    def _sample(self) -> None:
        if self.samples and self.looked_ms - self.samples[-1].at_ms < SAMPLE_MS:
            return
        groups = self.tasks.columns.group(TaskFilter(), TaskGrouping.STATE)
        self.samples.append(
            PlaneSample(
                at_ms=self.looked_ms,
                by_state={row["state"]: row["tasks"] for row in groups},
                usd_per_hour=sum(row["usd_per_hour"] for row in groups),
                placed_gpus=sum(row["placed_gpus"] for row in groups),
                changes=self._changes,
            )
        )
        self._changes = 0

    def _run(self) -> None:
        since_ms = self._clock()
        while not self._stop.is_set():
            self._guarded(self.step)
            if self._clock() - since_ms > self._anew_s * 1_000:
                since_ms = self._clock()
                self._guarded(self.load_anew)
            self._stop.wait(self._look_s)

    def _guarded(self, do: Callable[[], Any]) -> None:
        """Go on, whatever the tables do: the next look may find them well."""
        try:
            do()
        except Exception as error:  # the engine raises its own errors, Arrow's, and bare Exception
            words = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            if words != self.trouble:
                log.warning("the ledger cannot be read now, and is looked at again: %s", words)
            self.trouble = words
