"""Parents that live and yet have met a task's condition: they had ended when it began, or since, and run again."""

from collections.abc import Collection

from thalweg.query.sql.query import quote
from thalweg.query.sql.reading_ahead import ReadingAhead


def met_parents(child: str, living: Collection[str], ahead: ReadingAhead) -> frozenset[str]:
    """Name those of a task's living parents that it does not wait for any more.

    One that was submitted anew behind the task's beginning had ended before that, and has met the condition for good.

    Args:
        child: the task; of an element, its array.
        living: its parents that live.
        ahead: reads the ledger.
    """
    if not living:
        return frozenset()
    listed = ", ".join(map(quote, sorted({child, *living})))
    rows = ahead.ask(
        f"SELECT task_id, transition FROM decisions WHERE task_id IN ({listed})"
        " AND transition IN ('submitted', 'updated') ORDER BY driver_epoch, batch_id, row"
    ).dicts()
    began = max((place for place, row in enumerate(rows) if row["task_id"] == child), default=len(rows))
    lives: dict[str, list[int]] = {name: [] for name in living}
    for place, row in enumerate(rows):
        if row["transition"] == "submitted" and row["task_id"] in lives:
            lives[row["task_id"]].append(place)
    return frozenset(name for name, starts in lives.items() if len(starts) > 1 and starts[-1] > began)
