"""Rows in the order of their times, however many there are: sorted in runs that lie on the disk, then merged.

What is in memory is one run, and later a piece of each. Rows of equal times stay in the order of their numbers, so what
comes out does not depend on how long a run is.
"""

import heapq
import pickle
from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Final

from thalweg.edge.preparation import Row

RUN_ROWS: Final = 20_000
"""Sorted at once: of some kilobyte each as Python has them, 20 MB."""
_PIECE_ROWS: Final = 100
"""Of a run, read at once: of the most runs that are merged together they are a third of a run."""
_MOST_RUNS: Final = 64

TimedRow = tuple[int, int, Row]
"""Milliseconds, number, row."""


def rows_in_order(rows: Iterable[TimedRow], scratch: Path, run_rows: int = RUN_ROWS) -> Iterator[TimedRow]:
    """Yield rows by time and number, both ascending.

    Args:
        rows: in any order; their numbers differ.
        scratch: a folder of the caller's, who deletes it afterwards. Where one run holds all, nothing is written.
        run_rows: rows that are sorted in memory.

    Raises:
        OSError: the disk does not take them.
    """
    left = iter(rows)
    first = _sorted(islice(left, run_rows))
    second = _sorted(islice(left, run_rows))
    if not second:
        yield from first
        return
    numbers = count()
    runs = [_kept(run, scratch / f"run-{next(numbers)}") for run in (first, second)]
    del first, second
    while run := _sorted(islice(left, run_rows)):
        runs.append(_kept(run, scratch / f"run-{next(numbers)}"))
        del run
    while len(runs) > _MOST_RUNS:
        merged, runs = runs[:_MOST_RUNS], runs[_MOST_RUNS:]
        runs.append(_kept(_merged(merged), scratch / f"run-{next(numbers)}"))
        for done in merged:
            done.unlink()
    yield from _merged(runs)


def _place(row: TimedRow) -> tuple[int, int]:
    return row[:2]


def _sorted(rows: Iterable[TimedRow]) -> list[TimedRow]:
    return sorted(rows, key=_place)


def _merged(runs: Sequence[Path]) -> Iterator[TimedRow]:
    return heapq.merge(*map(_read, runs), key=_place)


def _kept(rows: Iterable[TimedRow], file: Path) -> Path:
    left = iter(rows)
    with file.open("wb") as target:
        while piece := list(islice(left, _PIECE_ROWS)):
            pickle.dump(piece, target, pickle.HIGHEST_PROTOCOL)
    return file


def _read(file: Path) -> Iterator[TimedRow]:
    """Read a run; what is unpickled is what this process has written, into a folder that nobody else may write to."""
    with file.open("rb") as source:
        while True:
            try:
                yield from pickle.load(source)
            except EOFError:
                return
