"""`thalweg wait TASK…`: until tasks have ended, whoever submitted them, and whenever."""

import shlex
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click

from thalweg.cli.reach.finite import FiniteRange
from thalweg.cli.reach.reading import find_warehouse, reading_errors
from thalweg.cli.terminal import words
from thalweg.cli.terminal.render import on_one_line, print_json
from thalweg.query.reports.array_size import array_beside
from thalweg.query.reports.newest_rows import newest_rows
from thalweg.query.sql.query import TableReader, quote
from thalweg.scheduling.world.tasks import TERMINAL, TaskState

_LOOK_EVERY_S: Final = 1.0
"""The tables are brought up to date about as often."""
_UNKNOWN_FOR: Final = 3
"""Looks before a task that the ledger has not is taken for none: a request is there within a second."""
_REFUSED: Final = "refused"
_REFUSED_WITHIN: Final = timedelta(days=1)
"""As far back as `thalweg refused` looks by itself."""
_FAILED: Final = 1
_WRONG_CALL: Final = 2


@click.command()
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
@click.option("--timeout", "timeout_s", type=FiniteRange(min=0), metavar="SECONDS", help="Give up after so long.")
@click.option("--warehouse", metavar="URI", help="Folder or URI of the tables; by default those of the stack here.")
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="YAML settings file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document when all have ended.")
def wait(
    tasks: tuple[str, ...], timeout_s: float | None, warehouse: str | None, config: Path | None, as_json: bool
) -> None:
    """Wait until tasks have ended, and say how.

    It looks into the tables, and into the ledger as far as it goes: tasks that anybody submitted, also ones that ended
    long ago, and the new run of one that `thalweg rerun` said begins again; and whether the request of one that is not
    there was refused within a day. Exit code 0: all succeeded; 1: one failed, was cancelled or refused,
    or did not end in time; 2: there is no such task.

    \b
    Examples:
      thalweg wait train-1 train-2 --timeout 3600
      thalweg wait sweep-7 && thalweg results sweep-7
    """
    wanted = list(dict.fromkeys(tasks))
    with reading_errors():
        place = find_warehouse(warehouse, config)
        found = _until_ended(place, wanted, timeout_s, quiet=as_json)
    # The broker here may be another installation's than a warehouse that is named.
    missing = warehouse is None and any(task_id not in found for task_id in wanted)
    refused = _refused(config, datetime.now(UTC)) if missing else {}
    with reading_errors():
        unknown = {
            name: f"no such task{array_beside(name, place)}"
            for name in wanted
            if name not in found and name not in refused
        }
    rows = [
        {"task_id": task_id, **_outcome(found.get(task_id), refused.get(task_id), unknown.get(task_id))}
        for task_id in wanted
    ]
    if as_json:
        print_json({"tasks": rows})
    else:
        for row in rows:
            if row["state"] not in TERMINAL:
                click.echo(on_one_line(_in_words(row)))
    sys.exit(_exit_code(rows))


def _until_ended(
    warehouse: str, wanted: list[str], timeout_s: float | None, quiet: bool
) -> dict[str, Mapping[str, Any]]:
    """Look again and again; return each task's row as last seen, and tell each end when it is seen."""
    found: dict[str, Mapping[str, Any]] = {}
    looks_left = None if timeout_s is None else int(timeout_s / _LOOK_EVERY_S)
    looks = 0
    while True:
        open_ids = [task_id for task_id in wanted if not _has_ended(found.get(task_id))]
        for row in _rows(warehouse, open_ids):
            found[row["task_id"]] = row
            if _has_ended(row) and not quiet:
                click.echo(on_one_line(_in_words({"task_id": row["task_id"], **_outcome(row)})))
        left = [task_id for task_id in open_ids if not _has_ended(found.get(task_id))]
        if not left or (looks_left is not None and looks >= looks_left):
            return found
        if looks >= _UNKNOWN_FOR and all(task_id not in found for task_id in left):
            return found
        looks += 1
        time.sleep(_LOOK_EVERY_S)


def _rows(warehouse: str, task_ids: list[str]) -> list[dict[str, Any]]:
    """Read tasks as far as the ledger goes: of one that was told to begin again, never the end before."""
    ids = ", ".join(map(quote, task_ids))
    with TableReader(warehouse) as reader:
        return list(newest_rows(reader, warehouse, f"task_id IN ({ids})").values())


def _has_ended(row: Mapping[str, Any] | None) -> bool:
    return row is not None and row["state"] in TERMINAL


def _refused(config: Path | None, now: datetime) -> dict[str, str]:
    """Give the reasons of refusals, by task; none where nobody can be asked."""
    # Late: few wait for what is not there, and a broker is asked by much that the tables need not.
    from thalweg.cli.refused_command import read_refused_submissions
    from thalweg.conf.settings import SettingsError
    from thalweg.stack.connection import NoBrokerError
    from thalweg.streams.broker.errors import StreamError

    try:
        return read_refused_submissions(config, now - _REFUSED_WITHIN)
    except (SettingsError, NoBrokerError, StreamError):
        return {}


def _outcome(row: Mapping[str, Any] | None, refused: str | None = None, unknown: str | None = None) -> dict[str, Any]:
    if row is None and refused is not None:
        return {"state": _REFUSED, "regions": [], "reason": refused, "changed_at": None}
    if row is None:
        return {"state": "unknown", "regions": [], "reason": unknown, "changed_at": None}
    return {name: row[name] for name in ("state", "regions", "reason", "changed_at")}


def _in_words(row: Mapping[str, Any]) -> str:
    if row["state"] == "unknown":
        asked = f"thalweg refused --task {shlex.quote(row['task_id'])}"
        return f"{row['task_id']}: {row['reason']}. If its request was refused: {asked}"
    if row["state"] == _REFUSED:
        return f"{row['task_id']} was refused: {row['reason']}"
    where = f" in {words.listed(row['regions'])}" if row["regions"] else ""
    age = f" {words.ago(datetime.now(UTC))(row['changed_at'])}" if row["changed_at"] else ""
    still = "" if row["state"] in TERMINAL else "not ended in time: "
    reason = f": {row['reason']}" if row["reason"] and row["state"] != TaskState.SUCCEEDED else ""
    return f"{row['task_id']} {still}{row['state']}{where}{age}{reason}"


def _exit_code(rows: list[dict[str, Any]]) -> int:
    states = {row["state"] for row in rows}
    if "unknown" in states:
        return _WRONG_CALL
    return 0 if states <= {TaskState.SUCCEEDED} else _FAILED
