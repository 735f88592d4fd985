"""`thalweg chaos`: hurt a stack under load in every way we know, and let an audit say what was lost or doubled."""

import json
import sys
from pathlib import Path

import click

from thalweg.agent.figures import load_figures
from thalweg.bootstrap.runtime import ensure_runtime
from thalweg.chaos.run import ChaosFailedError, ChaosPlan, ChaosReport, run_chaos
from thalweg.cli.reach.ending import FAILED, WRONG_CALL, end
from thalweg.cli.reach.finite import FiniteRange
from thalweg.cli.reach.standard_output import note_done
from thalweg.cli.terminal.render import print_json
from thalweg.conf.environment import CHAOS, state_folder
from thalweg.conf.settings import Settings
from thalweg.query.sql.query import WarehouseUnreadableError
from thalweg.stack.machine import describe
from thalweg.stack.stack import Interruption
from thalweg.stack.state import StateFolder, StateFolderError
from thalweg.stack.trouble import STACK_TROUBLE
from thalweg.streams.broker.errors import StreamError
from thalweg.sync.clock import system_clock


@click.command(short_help="Hurt a stack under load in every way we know, and audit what was lost or doubled.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same programme.")
@click.option("--kills", type=click.IntRange(min=0), default=8, show_default=True, help="Processes killed (kill -9).")
@click.option("--minutes", type=FiniteRange(min=0.5), default=3.0, show_default=True, help="In what time.")
@click.option("--rate", type=FiniteRange(0.1, 100), default=4.0, show_default=True, help="Mean tasks a second.")
@click.option(
    "--graph-rate",
    type=FiniteRange(0, 100),
    default=12.0,
    show_default=True,
    help="Mean tasks a second in graphs.",
)
@click.option("--list", "only_list", is_flag=True, help="Print the programme, and do nothing.")
@click.option("--record", type=click.Path(dir_okay=False, path_type=Path), help="Keep what happened in this file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output at the end.")
def chaos(
    seed: int,
    kills: int,
    minutes: float,
    rate: float,
    graph_rate: float,
    only_list: bool,
    record: Path | None,
    as_json: bool,
) -> None:
    """Hurt a stack under load in every way we know, and audit what was lost or doubled.

    A stack of its own is started in the state folder (chaos/): broker, driver and standby, the other jobs, upkeep, and
    two agents with four simulated regions, all of which reach the broker through links that can be bad. Tasks stream
    in, and graphs of tasks, of which some fail, are cancelled or held, or come before their parents. Processes are
    killed at points of their micro-batches; disks, networks, clocks, files and topics fail; a second driver and a
    second agent appear. Then what can heal heals, and the books must balance: what the broker has acknowledged, tables,
    topics, agents' files, and what the machines saw. No task may have started before its parents had come to the end it
    waits for, and none may be forgotten. No stack of yours is touched.

    Ctrl-C ends it in order with an audit of what happened so far; a second one at once. The exit code is 0 only where
    nothing was lost, nothing in effect twice, and nothing over-committed.

    \b
    Examples:
      thalweg chaos --kills 8 --minutes 3
      thalweg chaos --seed 7 --kills 60 --minutes 12 --json --record chaos.json
      thalweg chaos --seed 7 --kills 60 --minutes 12 --list
    """
    plan = ChaosPlan(seed=seed, kills=kills, minutes=minutes, rate=rate, graph_rate=graph_rate)
    if only_list:
        for act in plan.acts():
            click.echo(f"{act.at_s:7.1f} s  {act.in_words()}")
        return
    try:
        folder = StateFolder(StateFolder(state_folder()).path / CHAOS)
    except StateFolderError as error:
        end(str(error), WRONG_CALL)
    report = _report(plan, folder)
    if record is not None:
        kept = report.document | report.details | {"machine": describe()}
        record.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
        note_done(f"{record} written")
    if as_json:
        print_json(report.document)
    else:
        for name, value in report.document.items():
            click.echo(f"{name.replace('_', ' '):18} {value}")
        click.echo(f"\nThe evidence: {folder.path}")
    sys.exit(0 if report.document["ok"] else 1)


def _report(plan: ChaosPlan, folder: StateFolder) -> ChaosReport:
    interruption = Interruption.on_signals()
    try:
        ensure_runtime()
        return run_chaos(
            plan,
            folder=folder,
            settings=Settings(),
            figures=load_figures(),
            say=lambda message: click.echo(message, err=True),
            interrupted=interruption.asked,
            clock=system_clock,
        )
    except (ChaosFailedError, StreamError, WarehouseUnreadableError, *STACK_TROUBLE) as error:
        end(str(error), FAILED)
