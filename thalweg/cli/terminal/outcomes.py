"""What became of each task that was asked about, as rows and in words."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from thalweg.cli.terminal import words
from thalweg.cli.terminal.render import on_one_line
from thalweg.client.client import Client, ClientError, Outcome, OutcomeState

DONE: Final = {
    "submit": "submitted",
    "cancel": "cancelled",
    "hold": "held",
    "release": "released",
    "rerun": "begun again",
}
"""By operation, what a task is when it was done."""
_EACH: Final = 20
"""Up to so many tasks are told one by one; of more, those with which something is the matter."""
_ANSWER_S: Final = 5.0
_ANSWERED_A_SECOND: Final = 500
"""A busy place job judges more."""


def report(
    client: Client,
    task_ids: Sequence[str],
    op: str,
    *,
    answer_s: float | None,
    wait_s: float | None,
    as_json: bool,
    config: Path | None,
    beside: Mapping[str, Any] | None = None,
) -> int:
    """Say what became of each task, and how it ended where that is waited for; return the exit code.

    Args:
        client: by which it was asked.
        task_ids: in the order in which they are told.
        op: what was asked.
        answer_s: how long to wait for the answers; None takes what usually does.
        wait_s: how long to wait for a task's end; None does not.
        as_json: print one JSON document.
        config: settings file, for the tables that know when something happened.
        beside: what else the document tells.
    """
    patience_s = _ANSWER_S + len(task_ids) / _ANSWERED_A_SECOND if answer_s is None else answer_s
    answers = client.answered(task_ids, op, timeout_s=patience_s) if patience_s else {}
    rows: list[dict[str, Any]] = []
    for task_id in task_ids:
        answer = answers.get(task_id)
        row: dict[str, Any] = {"task_id": task_id, "state": DONE[op], "answer": answer.answer if answer else None}
        if answer is not None and answer.answer == "refused":
            row |= {"state": "refused", "error": f"{task_id} was refused: {answer.reason}"}
        elif wait_s is not None:
            row |= _waited(client, task_id, wait_s)
        elif answer is not None and answer.answer == "known":
            row |= {"state": answer.state, "detail": answer.reason}
        elif answer is None and op != "submit":
            row["state"] = "asked"  # the broker has it; what came of it, nobody has said
        rows.append(row)
    if as_json:
        click.echo(json.dumps({"tasks": rows, **(beside or {})}))
    else:
        _tell(rows, op, config)
    if patience_s and (silent := len(task_ids) - len(answers)) and wait_s is None:
        click.echo(
            f"{silent:,} of {len(task_ids):,} not answered within {patience_s:g} s: the broker has them, and the place "
            "job takes them when it runs (thalweg ps)",
            err=True,
        )
    return int(any("error" in row or (wait_s is not None and row["state"] == "failed") for row in rows))


def _waited(client: Client, task_id: str, wait_s: float) -> dict[str, Any]:
    try:
        return _ended(client.wait(task_id, wait_s))
    except ClientError as error:
        return {"state": "unknown", "error": str(error)}


def _ended(outcome: Outcome) -> dict[str, Any]:
    return {
        "state": outcome.state.value,
        "region": outcome.region,
        "epoch": outcome.epoch,
        "exit_code": outcome.exit_code,
        "detail": outcome.detail,
    }


def _tell(rows: Sequence[Mapping[str, Any]], op: str, config: Path | None) -> None:
    ages = _ages([row["task_id"] for row in rows if row["answer"] == "known"], config)
    smooth = [row for row in rows if "error" not in row and row["answer"] != "known"]
    told = rows if len(rows) <= _EACH else [row for row in rows if row not in smooth][:_EACH]
    for row in told:
        click.echo(on_one_line(_in_words(row, op, ages.get(row["task_id"], ""))))
    if len(rows) > _EACH:
        counts = Counter(_kind(row) for row in rows)
        click.echo(", ".join(f"{count:,} {kind}" for kind, count in counts.most_common()))


def _kind(row: Mapping[str, Any]) -> str:
    known = "already " if row["answer"] == "known" and row["state"] in set(OutcomeState) else ""
    return f"{known}{row['state']}"


def _in_words(row: Mapping[str, Any], op: str, age: str) -> str:
    if "error" in row:
        return str(row["error"])
    if row["state"] == "asked":
        return f"{row['task_id']}: {op} sent, not answered"
    known = ""
    if row["answer"] == "known":
        known = "already known: " if op == "submit" else "already "
    where = f" in {row['region']}" if row.get("region") else ""
    detail = f": {row['detail']}" if known and row.get("detail") else f" {row.get('detail', '')}"
    again = " (--new runs it again)" if known and op == "submit" and row["state"] in set(OutcomeState) else ""
    return f"{row['task_id']} {known}{row['state']}{where}{age}{detail}".rstrip() + again


def _ages(task_ids: Sequence[str], config: Path | None) -> dict[str, str]:
    """Say how long ago tasks came to their states, where the tables can be read from here."""
    if not task_ids:
        return {}
    from thalweg.cli.reach.reading import WrongCall, find_warehouse
    from thalweg.query.sql.query import TableReader, WarehouseUnreadableError, quote

    ago = words.ago(datetime.now(UTC))
    ids = ", ".join(map(quote, task_ids))
    try:
        with TableReader(find_warehouse(None, config)) as reader:
            rows = [
                row
                for table in ("tasks_archive", "tasks")
                for row in reader.dicts(f"SELECT task_id, changed_at FROM {table} WHERE task_id IN ({ids})")
            ]
    except (WarehouseUnreadableError, WrongCall):
        return {}
    return {row["task_id"]: f" {ago(row['changed_at'])}" for row in rows if row["changed_at"] is not None}
