"""`thalweg logs TASK`: what a task has written, wherever it runs."""

import re
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from thalweg.agent.artefacts import ArtefactError, read_artefact
from thalweg.agent.bounded_log import unseen
from thalweg.agent.run_folder import log_name
from thalweg.cli.reach.newest_report import newest_report
from thalweg.cli.reach.reading import WrongCall, find_warehouse
from thalweg.cli.terminal.render import on_one_line
from thalweg.cli.terminal.terminal_text import TerminalText
from thalweg.conf.settings import SettingsError, load_settings
from thalweg.query.reports.array_size import array_beside
from thalweg.query.reports.task_runs import PlacedRun, TaskRuns, task_runs
from thalweg.query.sql.query import WarehouseUnreadableError
from thalweg.stack.connection import NoBrokerError, bootstrap_option, with_bootstrap, with_broker
from thalweg.streams.broker.errors import StreamError

LOOK_EVERY_S: Final = 1.0
_LOG: Final = re.compile(r"output\.log(?=$|\?)")

LiveLog = Callable[[PlacedRun], str | None]
"""Finds the URI of a log of a run that is not over."""


@click.command(short_help="Print what a task has written; -f follows it to its end.")
@click.argument("task")
@click.option("-f", "--follow", is_flag=True, help="Go on until the task has ended.")
@click.option("--worker", type=click.IntRange(min=0), default=0, show_default=True, help="Rank of the worker.")
@click.option("--copy", type=click.IntRange(min=0), help="Only this copy, of a task with replicas.")
@click.option("--raw", is_flag=True, help="Every byte as it was written, also where a terminal obeys it.")
@click.option("--warehouse", metavar="URI", help="Folder or object-store URI of the tables.")
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="YAML settings file.")
@click.option("--set", "overrides", multiple=True, metavar="GROUP.FIELD=VALUE", help="One setting; repeatable.")
@bootstrap_option
def logs(
    task: str,
    follow: bool,
    worker: int,
    copy: int | None,
    raw: bool,
    warehouse: str | None,
    config: Path | None,
    overrides: tuple[str, ...],
    bootstrap: str | None,
) -> None:
    """Print the log of a task's newest run.

    Where logs are copied (setting agent.artefacts), that is seconds old while the task runs, and can be read from
    everywhere; else it can be read on the agent's own host. Of a log that was too long, a line says what was cut.

    A terminal is shown the text of a log and obeys nothing in it: colours are left out, other control characters are
    shown as pictures of themselves. A pipe or a file gets every byte, and so does a terminal with --raw.

    Exit codes: 0 the task succeeded, or has not ended; 1 it failed, was cancelled, or has no log that can be read here;
    2 there is no such task.

    \b
    Examples:
      thalweg logs train-1
      thalweg logs train-1 -f
      thalweg logs train-1 --worker 3
    """

    def live_log(run: PlacedRun) -> str | None:
        settings = with_broker(load_settings(config, with_bootstrap(overrides, bootstrap)))
        report = newest_report(settings.kafka, task, run, datetime.now(UTC))
        return None if report is None else report.log

    place = find_warehouse(warehouse, config)
    written = TerminalText() if _is_terminal() and not raw else None
    printer = LogPrinter(worker=worker, copy=copy, live_log=live_log, shown=written)
    try:
        sys.exit(_print(printer, lambda: _runs(task, place), follow=follow))
    except (SettingsError, NoBrokerError) as error:
        raise WrongCall(str(error)) from error
    except (StreamError, WarehouseUnreadableError, UnreadableLogError) as error:
        raise click.ClickException(on_one_line(str(error))) from error


class UnreadableLogError(Exception):
    """There is no log to show; the message says why."""


class NoLogYetError(UnreadableLogError):
    """There may be one later, if the task has not ended."""


@dataclass(slots=True, kw_only=True)
class LogPrinter:
    """Prints what is new in the log of a task's newest run, each time it is asked."""

    worker: int
    copy: int | None
    live_log: LiveLog
    shown: TerminalText | None = None
    """Makes text of it for a terminal; None passes every byte on."""
    _uris: dict[tuple[int, int], str] = field(default_factory=dict)
    """Of runs that are not over, by copy and epoch."""
    _uri: str = ""
    _seen: int = 0

    def print_new(self, runs: TaskRuns) -> None:
        """Print what was not printed before.

        Raises:
            UnreadableLogError: there is nothing to print, or it cannot be read.
        """
        region, uri = self._newest_log(runs)
        uri = _LOG.sub(log_name(self.worker), uri)
        try:
            content = read_artefact(uri)
        except ArtefactError as error:
            raise UnreadableLogError(f"the log of {runs.task_id}, of region {region}, is {error}") from error
        if uri != self._uri:
            self._begin(runs, region, uri)
        if content is None:
            raise NoLogYetError(self._words_for_nothing(runs, uri))
        new, self._seen = unseen(content, self._seen)
        self._write(new)

    def end(self) -> None:
        """Print what was kept because more of it might have come."""
        if self.shown is not None:
            click.echo(self.shown.end(), nl=False)

    def _write(self, new: bytes) -> None:
        if self.shown is not None:
            click.echo(self.shown.add(new), nl=False)
            return
        sys.stdout.buffer.write(new)
        sys.stdout.buffer.flush()

    def _begin(self, runs: TaskRuns, region: str, uri: str) -> None:
        """Turn to another run: it was placed anew."""
        if self._uri:
            self.end()
            _say(f"{runs.task_id} runs again, in region {region}")
        self._uri, self._seen = uri, 0

    def _words_for_nothing(self, runs: TaskRuns, uri: str) -> str:
        if self.worker:
            return f"{runs.task_id} has no log of a worker {self.worker}, or it is kept no longer: {uri}"
        return f"the log of {runs.task_id} is not there (any more): {uri}"

    def _newest_log(self, runs: TaskRuns) -> tuple[str, str]:
        """Name region and URI of the newest run's log."""
        for placed in runs.placed:
            if self.copy in (None, placed.copy) and placed.state == "running":
                uri = self._uris.get((placed.copy, placed.epoch)) or self.live_log(placed)
                if uri is None:
                    raise NoLogYetError(f"{runs.task_id} runs in region {placed.region}, which names no log of it")
                self._uris[placed.copy, placed.epoch] = uri
                return placed.region, uri
        for ended in reversed(runs.ended):
            if self.copy in (None, ended.copy) and ended.log is not None:
                return ended.region or "", ended.log
        raise NoLogYetError(_no_run(runs))


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def _say(words: str) -> None:
    click.echo(f"[thalweg: {on_one_line(words)}]", err=True)


def _no_run(runs: TaskRuns) -> str:
    if runs.is_array:
        first = shlex.quote(f"{runs.task_id}[0]")
        return f"{runs.task_id} is an array and writes no log; its elements do: thalweg logs {first}"
    if runs.has_ended:
        return f"{runs.task_id} has left no log: {runs.state}" + (f" ({runs.reason})" if runs.reason else "")
    return f"{runs.task_id} has not begun: {runs.state}" + (f" ({runs.reason})" if runs.reason else "")


def _runs(task: str, warehouse: str) -> TaskRuns:
    runs = task_runs(task, warehouse)
    if runs is None:
        raise WrongCall(f"no such task: {task}{array_beside(task, warehouse)}")
    return runs


def _print(printer: LogPrinter, read: Callable[[], TaskRuns], *, follow: bool) -> int:
    """Print until the end, and return the exit code."""
    told = ""
    while True:
        runs = read()
        try:
            printer.print_new(runs)
        except NoLogYetError as error:
            if not follow or runs.has_ended:
                raise
            if str(error) != told:
                told = str(error)
                _say(told)
        if not follow or runs.has_ended:
            printer.end()
            return int(runs.has_ended and runs.state != "succeeded")
        time.sleep(LOOK_EVERY_S)
