"""`thalweg hurt`: kill what runs and check that nothing is lost and nothing doubled."""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import click

from thalweg.audit.hurt import HurtError, hurt, names_of, settle_and_balance
from thalweg.cli.reach.ending import FAILED, WRONG_CALL, end
from thalweg.cli.reach.finite import FiniteRange
from thalweg.conf.environment import state_folder
from thalweg.conf.settings import SettingsError, load_settings
from thalweg.query.sql.query import WarehouseUnreadableError
from thalweg.stack.state import StateFolder, StateFolderError, running_in
from thalweg.streams.broker.errors import StreamError


@click.command(name="hurt")
@click.argument("names", nargs=-1, metavar="[PROCESS...]")
@click.option("--freeze", "freeze_s", type=FiniteRange(min=0.1), metavar="SECONDS", help="Freeze, do not kill.")
@click.option("--rounds", type=click.IntRange(min=1), default=1, show_default=True, help="How often to go through all.")
@click.option("--pause", "pause_s", type=FiniteRange(min=0), default=5.0, show_default=True, help="In between.")
@click.option("--state", type=click.Path(file_okay=False, path_type=Path), help="State folder of the stack.")
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="YAML settings file.")
@click.option("--set", "overrides", multiple=True, metavar="GROUP.FIELD=VALUE", help="One setting; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def hurt_running(
    names: tuple[str, ...],
    freeze_s: float | None,
    rounds: int,
    pause_s: float,
    state: Path | None,
    config: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Kill processes of the running stack (kill -9), one after the other, wait until each is back, check the books.

    PROCESS is a name of `thalweg ps`: broker, jobs, agents-1 …; without one all are hurt in turn. --freeze suspends
    them instead: a region frozen longer than place.heartbeat_timeout_ms is lost, and its tasks are placed elsewhere.
    The running stack is that of the state folder, else that of the demo in it.
    """
    try:
        prefix = load_settings(config, overrides).kafka.topic_prefix
        folder = _running(state)
        running = names_of(folder)
        if unknown := sorted(set(names) - set(running)):
            raise HurtError(f"{unknown[0]!r} does not run; running are {', '.join(running)}")
    except (SettingsError, HurtError, StateFolderError) as error:
        end(str(error), WRONG_CALL)
    done = []
    try:
        for _ in range(rounds):
            for name in names or running:
                one = hurt(folder, name, freeze_s)
                done.append(one)
                _say(f"{name} ({one.pid}) was {one.how}, back after {one.back_after_s:g} s")
                time.sleep(pause_s)
        books = settle_and_balance(folder, prefix, _say)
    except (HurtError, StreamError, WarehouseUnreadableError) as error:
        end(str(error), FAILED)
    document = {
        "hurt": [asdict(one) for one in done],
        "tasks": dict(books.by_state),
        "tasks_replaced": books.replaced,
        "assignments_refused_by_agents": books.refused_by_agents,
        "violations": list(books.violations),
        "ok": not books.violations,
    }
    if as_json:
        click.echo(json.dumps(document))
    else:
        for name, value in document.items():
            click.echo(f"{name.replace('_', ' '):30} {value}")
    sys.exit(0 if document["ok"] else 1)


def _running(state: Path | None) -> StateFolder:
    place = state or state_folder()
    folder = running_in(place)
    if folder is None:
        raise HurtError(f"no stack runs in {place}: start one with `thalweg up` or `thalweg demo`")
    return folder


def _say(message: str) -> None:
    click.echo(message, err=True)
