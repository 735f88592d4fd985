"""Job lists that a forecast can be learnt from: what lies outside of all reason is refused by its line."""

from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final

from thalweg.replay.traces import PhillyJob, TraceError, read_philly_jobs, read_rows

LONGEST_S: Final = 1e9
"""Some 32 years. A moment that is so much later than any allowed submission can still be written as a date."""
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)
"""Submissions are before it: no history reaches further, and a wrong year makes millions of hours."""


def read_job_list(path: Path) -> list[PhillyJob]:
    """Read a job list in the Philly trace's format, in file order.

    Raises:
        TraceError: it is none, or a job is longer or was submitted at another time than is allowed.
    """
    jobs = read_philly_jobs(path)
    for at, job in enumerate(jobs):
        if job.duration_s > LONGEST_S:
            raise TraceError(_refused(path, at, "duration", f"0 to {LONGEST_S:,.0f} seconds"))
        if not EARLIEST <= job.submitted_at < LATEST:
            raise TraceError(_refused(path, at, "timestamp", f"the years {EARLIEST.year} to {LATEST.year - 1}, UTC"))
    return jobs


def _refused(path: Path, at: int, column: str, allowed: str) -> str:
    """Say it by the line, and as the file has it: a job does not know where it stood."""
    line, row = next(islice(read_rows(path, (column,)), at, None))
    return f"{path.name} line {line}: {column} is {row[column]!r}; allowed are {allowed}"
