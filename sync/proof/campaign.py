"""Many histories: run a range of seeds over several processes and report every failure with its seed.

History n of a campaign with seed S is the history of seed S + n, so a failure's seed replays it alone.
"""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import nullcontext
from typing import Any

import msgspec

from thalweg.sync.proof.histories import history
from thalweg.sync.proof.minimise import minimised, trace
from thalweg.sync.proof.mutants import MUTANTS, broken
from thalweg.sync.proof.simulator import HistoryTally, simulate

CHUNK = 500  # about a second of work: small enough for progress, large enough to start processes for
MAX_SHOWN = 5  # failures that are minimised and printed; all are counted


class FoundFailure(msgspec.Struct, frozen=True, kw_only=True):
    """A history that went wrong."""

    seed: int
    check: str
    detail: str
    trace: list[str]  # minimised
    replay: str  # the command that runs it alone


class Campaign(msgspec.Struct, kw_only=True):
    """What a campaign found."""

    histories: int
    seed: int
    failed: int
    seconds: float
    histories_per_second: float
    processes: int
    happened: dict[str, int]  # what the histories contained, in all
    failures: list[FoundFailure]


def run_campaign(
    histories: int,
    seed: int,
    *,
    processes: int | None = None,
    mutant: str | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Campaign:
    """Run the histories of the seeds `seed` to `seed + histories - 1`.

    Args:
        histories: How many.
        seed: The first.
        processes: None for one per core.
        mutant: Name of a deliberate mistake to put in.
        progress: Called with the number of finished histories.
    """
    started = time.monotonic()
    count = processes or os.cpu_count() or 1
    chunks = [range(start, min(start + CHUNK, seed + histories)) for start in range(seed, seed + histories, CHUNK)]
    total, done = HistoryTally(), 0
    failed: list[int] = []
    if count == 1 or len(chunks) == 1:
        results: Any = (_run_chunk(chunk, mutant) for chunk in chunks)
        for tally, seeds in results:
            total, failed, done = total + tally, failed + seeds, done + tally.histories
            progress(done)
    else:
        with ProcessPoolExecutor(count) as pool:
            for future in as_completed([pool.submit(_run_chunk, chunk, mutant) for chunk in chunks]):
                tally, seeds = future.result()
                total, failed, done = total + tally, failed + seeds, done + tally.histories
                progress(done)
    seconds = time.monotonic() - started
    return Campaign(
        histories=histories,
        seed=seed,
        failed=len(failed),
        seconds=round(seconds, 3),
        histories_per_second=round(histories / seconds, 1) if seconds else 0.0,
        processes=count,
        happened=total.counts(),
        failures=[explained(bad, mutant) for bad in sorted(failed)[:MAX_SHOWN]],
    )


def explained(seed: int, mutant: str | None = None) -> FoundFailure:
    """Replay a failing seed and make it small.

    Raises:
        ValueError: The seed does not fail.
    """
    with _perhaps_broken(mutant):
        plan = history(seed)
        failure, _ = simulate(plan)
        if failure is None:
            raise ValueError(f"seed {seed} does not fail; check the version of the code that found it")
        small = minimised(plan, failure.check)
        shown, _ = simulate(small)
    option = f" --mutant {mutant}" if mutant else ""
    return FoundFailure(
        seed=seed,
        check=failure.check,
        detail=(shown or failure).detail,
        trace=trace(small),
        replay=f"thalweg sync-sim --histories 1 --seed {seed}{option}",
    )


def _run_chunk(seeds: Sequence[int], mutant: str | None) -> tuple[HistoryTally, list[int]]:
    total, failed = HistoryTally(), []
    with _perhaps_broken(mutant):
        for seed in seeds:
            failure, tally = simulate(history(seed))
            total += tally
            if failure is not None:
                failed.append(seed)
    return total, failed


def _perhaps_broken(mutant: str | None) -> Any:
    if mutant is None:
        return nullcontext()
    found = {m.name: m for m in MUTANTS}.get(mutant)
    if found is None:
        raise ValueError(f"mutant {mutant!r} is unknown; allowed are {', '.join(m.name for m in MUTANTS)}")
    return broken(found)
