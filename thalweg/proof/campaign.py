"""Many histories over several processes; each failing one is made small and told with the command that replays it.

History n of a campaign with seed S is the history of seed S + n. Acts are left out one by one while the same kind of
violation remains (delta debugging; Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", IEEE TSE
2002).
"""

import gc
import logging
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from thalweg.proof.books import violations
from thalweg.proof.histories import Act, FaultHistory, history
from thalweg.proof.stage import played

CHUNK: Final = 10
"""Histories between two signs of progress: some ten seconds."""
MOST_SHOWN: Final = 5
"""Failures that are made small and told; all are counted."""
MOST_TRIES: Final = 60
"""Histories played to make one small: about a minute."""


class FailedHistory(msgspec.Struct, frozen=True, kw_only=True):
    """A history whose books do not balance."""

    seed: int
    violations: list[str]
    acts: list[str]
    """What has to happen for it."""
    replay: str


class LineCampaign(msgspec.Struct, frozen=True, kw_only=True):
    """What a campaign came to."""

    histories: int
    seed: int
    failed: int
    deaths: int
    """Processes killed at a point of their own work."""
    died_at: dict[str, int]
    """How often at which point."""
    happened: dict[str, int]
    """How often each act."""
    tasks: dict[str, int]
    """How tasks stood at the end."""
    seconds: float
    processes: int
    failures: list[FailedHistory] = []


class Tally(msgspec.Struct, kw_only=True):
    """Counts of some histories."""

    histories: int = 0
    failed: list[int] = []
    died_at: Counter[str] = msgspec.field(default_factory=Counter)
    happened: Counter[str] = msgspec.field(default_factory=Counter)
    tasks: Counter[str] = msgspec.field(default_factory=Counter)

    def add(self, other: "Tally") -> None:
        """Count another's too."""
        self.histories += other.histories
        self.failed = sorted([*self.failed, *other.failed])
        self.died_at += other.died_at
        self.happened += other.happened
        self.tasks += other.tasks


def run_campaign(
    histories: int,
    seed: int,
    *,
    processes: int | None = None,
    progress: Callable[[Tally], None] = lambda _: None,
) -> LineCampaign:
    """Play the histories of the seeds `seed` to `seed + histories - 1`.

    Args:
        histories: how many.
        seed: the first.
        processes: None for one per core.
        progress: called with what was counted so far.
    """
    began, count = time.monotonic(), processes or os.cpu_count() or 1
    chunks = [range(first, min(first + CHUNK, seed + histories)) for first in range(seed, seed + histories, CHUNK)]
    total = Tally()
    for tally in _tallies(chunks, count):
        total.add(tally)
        progress(total)
    return LineCampaign(
        histories=total.histories,
        seed=seed,
        failed=len(total.failed),
        deaths=total.died_at.total(),
        died_at=dict(total.died_at.most_common()),
        happened=dict(total.happened.most_common()),
        tasks=dict(total.tasks.most_common()),
        seconds=round(time.monotonic() - began, 1),
        processes=count,
        failures=[found(bad) for bad in total.failed[:MOST_SHOWN]],
    )


def _tallies(chunks: Sequence[range], processes: int) -> Iterator[Tally]:
    if processes == 1 or len(chunks) == 1:
        yield from map(_tally, chunks)
        return
    with ProcessPoolExecutor(processes) as pool:
        for future in as_completed([pool.submit(_tally, chunk) for chunk in chunks]):
            yield future.result()


def _tally(seeds: Sequence[int]) -> Tally:
    tally = Tally()
    gc.freeze()  # what there was before is no part of a history, and is not looked through after each
    try:
        for seed in seeds:
            wrong, of_one = judged(history(seed))
            tally.add(of_one)
            if wrong:
                tally.failed.append(seed)
            gc.collect()  # lives that ended are cycles: of little memory of Python's, and much that hangs on it
    finally:
        gc.unfreeze()
    return tally


def judged(plan: FaultHistory) -> tuple[list[str], Tally]:
    """Play a history in a folder of its own and compare the books."""
    with (
        _quiet(),
        tempfile.TemporaryDirectory(prefix="thalweg-line-", dir=_fastest_folder()) as folder,
        played(plan, Path(folder)) as stage,
    ):
        wrong = violations(stage)
    died = [name for wire in (stage.driver_wire, *(r.wire for r in stage.regions)) for name in wire.points.killed_at]
    tally = Tally(histories=1, died_at=Counter(died), happened=Counter(act.what for act in plan.acts))
    if stage.driver is not None:
        counts = stage.driver.placer.world.count_by_state
        tally.tasks = Counter({str(state): count for state, count in counts.items() if count})
    return wrong, tally


def found(seed: int) -> FailedHistory:
    """Play a failing seed again and make it small."""
    plan = history(seed)
    wrong, _ = judged(plan)
    if wrong:
        plan = minimised(plan, _kind(wrong[0]))
        wrong, _ = judged(plan)
    return FailedHistory(
        seed=seed,
        violations=wrong or ["it does not fail when it is played again: something in it is not determined by its seed"],
        acts=[_words(act) for act in plan.acts],
        replay=f"thalweg place-sim --histories 1 --seed {seed}",
    )


def minimised(plan: FaultHistory, kind: str) -> FaultHistory:
    """Leave out acts while a violation of this kind remains."""
    size, left = max(1, len(plan.acts) // 2), MOST_TRIES
    while left > 0:
        smaller = None
        for first in range(0, len(plan.acts), size):
            candidate = replace(plan, acts=plan.acts[:first] + plan.acts[first + size :])
            left -= 1
            if any(_kind(wrong) == kind for wrong in judged(candidate)[0]):
                smaller = candidate
                break
            if left <= 0:
                break
        if smaller is not None:
            plan = smaller
        elif size == 1:
            break
        else:
            size //= 2
    return plan


def _kind(violation: str) -> str:
    return " ".join(violation.split()[:1])


def _words(act: Act) -> str:
    details = act.request if act.request is not None else f"{act.which} {act.amount}"
    return f"round {act.at}: {act.what} {details}"


def _fastest_folder() -> str | None:
    """Memory, where there is some: what is proved here is order, not durability."""
    memory = Path("/dev/shm")
    return str(memory) if os.access(memory, os.W_OK) else None


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what the line says of the trouble it is in."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
