"""Looking again at what runs, beside the stream: a copy of the world out, proposals in, proved within a micro-batch.

The batch copies the world now and then and goes on. A thread looks at the copy for as long as it takes. What it
proposes waits for the next batch, which proves it on the world as it is by then and commits it like any other rows.
Proposals are kept nowhere: a driver that ends takes them along, and the next one looks anew.
"""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Final

from thalweg.conf.settings import PlaceSettings
from thalweg.jobs.placement import metrics
from thalweg.jobs.placement.settings import look_limits, plan_settings
from thalweg.scheduling.again.copying import WorldCopy, copied
from thalweg.scheduling.again.look import look_again
from thalweg.scheduling.again.proposals import Proposal
from thalweg.scheduling.again.proving import ProvedMove, proved
from thalweg.scheduling.again.running import ClassBook
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.passed import has_passed
from thalweg.scheduling.world.world import World

LOOK_POLL_S: Final = 0.2
"""How often the thread asks whether there is a copy to look at."""
A_BATCH: Final = 8
"""Proposals that one batch proves: some milliseconds. Those that belong together are proved together."""

log = logging.getLogger("thalweg.place")


@dataclass(slots=True, kw_only=True)
class LookingAgain:
    """What is looked at, and what came of it and is not done yet."""

    place: PlaceSettings
    looked_ms: int
    """When the world was copied last; the beginning of this life, before."""
    book: ClassBook = field(default_factory=ClassBook)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _to_see: WorldCopy | None = None
    _proposals: list[Proposal] = field(default_factory=list)

    def in_batch(self, world: World, packer: Packer, now_ms: int) -> list[ProvedMove]:
        """Prove some of what was proposed; give the thread a new copy when it is time.

        Args:
            world: as the batch has made it so far; left as it was.
            packer: over its nodes.
            now_ms: the moment.
        """
        if not self.place.look_again_every_s:
            return []
        if has_passed(self.looked_ms, now_ms, self.place.look_again_every_s * 1_000):
            self.looked_ms = now_ms
            with self._lock:
                self._proposals.clear()
                self._to_see = copied(world, now_ms)
            return []
        turn = self._next()
        return proved(world, turn, plan_settings(self.place), look_limits(self.place), now_ms, packer) if turn else []

    def look(self) -> None:
        """Look at the copy, if there is one; for a thread beside the stream."""
        with self._lock:
            seen, self._to_see = self._to_see, None
        if seen is None:
            return
        began = time.perf_counter()
        proposals = look_again(
            seen.world,
            plan_settings(self.place),
            look_limits(self.place),
            seen.now_ms,
            stuck=seen.stuck,
            book=self.book,
        )
        metrics.LOOK_SECONDS.set(time.perf_counter() - began)
        metrics.PROPOSED_MOVES.inc(len(proposals))
        with self._lock:
            if self._to_see is None:  # a later copy says more
                self._proposals = proposals

    def _next(self) -> Sequence[Proposal]:
        """Take the next proposals out: some, or all that make room for one task."""
        with self._lock:
            for_task = self._proposals[0].for_task if self._proposals else None
            together = list(takewhile(lambda one: one.for_task == for_task, self._proposals))
            turn = together[:A_BATCH] if for_task is None else together
            self._proposals = self._proposals[len(turn) :]
        return turn
