"""Whether a task that failed is tried again: what its request says, else what the installation allows."""

from collections.abc import Callable
from typing import Final

from thalweg.scheduling.world.task_book import EXIT
from thalweg.scheduling.world.tasks import RunReport, Task

TIME_LIMIT: Final = "time_limit"
"""Kind of failure that is tried again only where that is asked for: the same work takes the same time again."""
NOT_FOUND: Final = 127
"""Exit code of a command that was not found, as a shell ends with and an agent reports. It is tried again only where
there is a region in which it was not tried, or where that is asked for: the same region still has none."""


def why_not_again(task: Task, run: RunReport, max_attempts: int, untried: Callable[[], bool]) -> str | None:
    """Say why a task that failed just now is given up (" because …"; "" for the usual limit); None to try again.

    Args:
        task: as it was before this failure.
        run: what failed.
        max_attempts: placements in all that a task has which does not say.
        untried: tells whether the task may run in a region in which it has not failed.
    """
    retries, cause = task.spec.terms.retries, run.cause or EXIT
    if run.exit_code is not None and run.exit_code in retries.not_on:
        return f" because exit code {run.exit_code} is not tried again"
    most = retries.most_after(cause)
    if most is None and cause == TIME_LIMIT:
        most = 0
    if most is None and run.exit_code == NOT_FOUND and not untried():
        return " because a command that was not found is not tried again where it was tried"
    if most is not None and task.causes.count(cause) >= most:
        return f" because {cause} is {_times(most)}"
    at_most = max_attempts - 1 if retries.at_most is None else retries.at_most
    return "" if task.attempt >= at_most else None


def _times(most: int) -> str:
    match most:
        case 0:
            return "not tried again"
        case 1:
            return "tried again once"
        case _:
            return f"tried again {most} times"
