"""`thalweg cancel`, `hold`, `release` and `rerun`: one or many tasks, by their ids or by what they have in common."""

import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from thalweg.cli.reach.broker_calls import broker_options, call_broker
from thalweg.cli.reach.ending import FAILED, WRONG_CALL, end
from thalweg.cli.reach.reading import WrongCall, find_warehouse
from thalweg.cli.reach.standard_output import note_done
from thalweg.cli.tasks_command import FILTERS, filter_options, wanted_tasks
from thalweg.cli.terminal.outcomes import report
from thalweg.cli.terminal.render import on_one_line, print_json
from thalweg.client.client import Client
from thalweg.query.reports.task_list import Meant, meant_tasks
from thalweg.query.sql.query import TableReader, WarehouseUnreadableError
from thalweg.query.sql.sql_statement import QueryRefusedError
from thalweg.scheduling.counted import counted
from thalweg.scheduling.world.lifecycle import LIVE
from thalweg.scheduling.world.tasks import TERMINAL

_SHOWN: Final = 5
_STATES: Final = {"cancel": LIVE, "hold": LIVE, "release": LIVE, "rerun": TERMINAL}
"""By operation, the states of tasks that it can do something with: a filter that names none means those."""


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        broker_options,
        click.option("--dry-run", is_flag=True, help="Say which tasks are meant and send nothing."),
        click.option("--yes", is_flag=True, help="Do not ask before it is done to all that a filter means."),
        click.option("--warehouse", metavar="URI", help="Where a filter looks: folder or URI of the tables."),
        filter_options,
        click.argument("tasks", nargs=-1, metavar="[TASK]..."),
    ):
        command = option(command)
    return command


@click.command()
@_options
def cancel(**given: Any) -> None:
    """Cancel tasks: they are not placed any more, and stopped where they run.

    They are named by their ids, or by what they have in common: then their number is said, and it is asked before
    anything is sent. Exit code 1 says that one is not known.

    \b
    Examples:
      thalweg cancel train-1 train-2
      thalweg cancel --name 'sweep-*' --state waiting --dry-run
      thalweg cancel --tenant research --yes
    """
    _change("cancel", **given)


@click.command()
@_options
def hold(**given: Any) -> None:
    """Hold tasks: they do not start until they are released; what runs goes on.

    \b
    Examples:
      thalweg hold train-1
      thalweg hold --tenant research --state waiting
    """
    _change("hold", **given)


@click.command()
@_options
def release(**given: Any) -> None:
    """Release tasks that are held: they wait again as others do.

    \b
    Examples:
      thalweg release train-1
      thalweg release --tenant research --yes
    """
    _change("release", **given)


@click.command()
@_options
def rerun(**given: Any) -> None:
    """Run tasks that have ended again, under their own ids.

    \b
    Examples:
      thalweg rerun train-1
      thalweg rerun --state failed --since 2h
    """
    _change("rerun", **given)


def _change(
    op: str,
    *,
    tasks: tuple[str, ...],
    warehouse: str | None,
    yes: bool,
    dry_run: bool,
    config: Path | None,
    overrides: tuple[str, ...],
    bootstrap: str | None,
    answer_s: float | None,
    wait_s: float | None,
    as_json: bool,
    **filters: Any,
) -> None:
    given = [name for name in FILTERS if filters[name] not in (None, (), False)]
    if given and tasks:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        end(f"seen are ids and {options}: allowed is one of them, ids or options that say which are meant", WRONG_CALL)
    if not given and not tasks:
        end(f"wanted are ids of tasks, or options that say which are meant (thalweg {op} --help)", WRONG_CALL)
    meant = _meant(op, filters, warehouse, config) if given else Meant(task_ids=list(dict.fromkeys(tasks)))
    if dry_run or not meant.task_ids:
        _say(op, meant, as_json)
        return
    if given and not yes:
        _ask(op, meant)

    def run(client: Client) -> int:
        client.change(op, meant.task_ids)
        note_done(f"{op} sent", meant.task_ids)
        return report(client, meant.task_ids, op, answer_s=answer_s, wait_s=wait_s, as_json=as_json, config=config)

    call_broker(config, overrides, bootstrap, run)


def _meant(op: str, filters: Mapping[str, Any], warehouse: str | None, config: Path | None) -> Meant:
    states = filters["states"] or tuple(sorted(map(str, _STATES[op])))
    try:
        meant = {**filters, "states": states, "held": filters["held"] or op == "release"}
        wanted = wanted_tasks(meant, datetime.now(UTC), ended_too=op == "rerun")
        with TableReader(find_warehouse(warehouse, config)) as reader:
            return meant_tasks(reader, wanted)
    except (QueryRefusedError, WrongCall) as error:
        end(str(error), WRONG_CALL)
    except WarehouseUnreadableError as error:
        end(f"a filter looks into the tables: {error}", FAILED)


def _say(op: str, meant: Meant, as_json: bool) -> None:
    if as_json:
        print_json({"op": op, "matching": len(meant.task_ids), "by_state": meant.by_state, "task_ids": meant.task_ids})
        return
    click.echo(on_one_line(_in_words(op, meant)))


def _in_words(op: str, meant: Meant) -> str:
    if not meant.task_ids:
        return f"No task is meant by this that {op} could do something with. See them: thalweg tasks"
    states = ", ".join(f"{count:,} {state}" for state, count in meant.by_state.items())
    first = ", ".join(meant.task_ids[:_SHOWN]) + (", …" if len(meant.task_ids) > _SHOWN else "")
    return f"{op} {counted(len(meant.task_ids), 'task')}" + (f" ({states})" if states else "") + f": {first}"


def _ask(op: str, meant: Meant) -> None:
    """Let a person say yes; who is none has to have said it before."""
    if not _is_a_person_there():
        end(f"{_in_words(op, meant)}\nNothing was sent: --yes does it, --dry-run lists them", WRONG_CALL)
    if not click.confirm(f"{on_one_line(_in_words(op, meant))}\nDo it?", err=True):
        end("Nothing was sent", FAILED)


def _is_a_person_there() -> bool:
    return sys.stdin.isatty()
