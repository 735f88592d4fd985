"""``thalweg up``, ``down`` and ``ps``."""

import contextlib
import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from thalweg.bootstrap.progress import say
from thalweg.bootstrap.runtime import ensure_runtime
from thalweg.checkup.machine import disk_finding
from thalweg.cli.reach.finite import FINITE
from thalweg.conf.environment import SetupIncompleteError, state_folder
from thalweg.conf.settings import SettingsError, load_settings
from thalweg.stack import process_table, stack
from thalweg.stack.rehearsal import ensure_archives
from thalweg.stack.state import StateFolder, StateFolderError, running_in
from thalweg.stack.trouble import STACK_TROUBLE


def _say(message: str) -> None:
    # Of a stack in the background this goes into a file: what a full disk does not take ends nothing.
    with contextlib.suppress(OSError):
        click.echo(message, err=True)


def _open_state(*, only_look: bool = False) -> StateFolder:
    try:
        return StateFolder(state_folder(), only_look=only_look)
    except StateFolderError as error:
        raise click.UsageError(str(error)) from error


def _what_runs() -> StateFolder:
    """Return the folder of the stack that runs, be it the demo's; the state folder itself if none does."""
    own = _open_state(only_look=True)
    return running_in(own.path) or own


@click.command()
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="YAML settings file.")
@click.option("--set", "overrides", multiple=True, metavar="GROUP.FIELD=VALUE", help="One setting; repeatable.")
@click.option("--detach", is_flag=True, help="Return when the stack is ready; end it with `thalweg down`.")
@click.option("--prepared", is_flag=True, hidden=True, help="Said by `--detach` to the process that it starts.")
def up(config: Path | None, overrides: tuple[str, ...], detach: bool, prepared: bool) -> None:
    """Start the local stack: a Kafka broker and the streaming jobs. Ctrl-C ends it in order."""
    if wrong := next((one for one in overrides if one.startswith("kafka.bootstrap_servers")), None):
        raise click.UsageError(
            f"--set {wrong}: `up` starts a broker of its own, on a port that is free, and says which. For jobs on "
            "a broker of yours: docs/how-to/operations.md"
        )
    folder = _open_state()
    try:
        settings = load_settings(config, overrides)
    except SettingsError as error:
        raise click.UsageError(str(error)) from error
    try:
        ensure_runtime()
    except SetupIncompleteError as error:
        raise click.ClickException(str(error)) from error
    if not prepared:  # it takes a while, or cannot be done; either is said once
        room = disk_finding("state folder", folder.path, settings.warehouse.min_free_gb)
        if room.fix:
            _say(f"{room.check}: {room.seen}. {room.fix}.")
        ensure_archives(say)
    if detach:
        _up_detached(folder, config, overrides)
        return
    try:
        stack.up(
            folder,
            lambda: stack.local_specs(folder, settings, overrides, config),
            say=_say,
            interruption=stack.Interruption.on_signals(),
        )
    except (stack.UnwellError, *STACK_TROUBLE) as error:
        raise click.ClickException(str(error)) from error


def _up_detached(folder: StateFolder, config: Path | None, overrides: tuple[str, ...]) -> None:
    command = [sys.executable, "-P", "-m", "thalweg.cli.main", "up", "--prepared"]
    command += ["--config", str(config.absolute())] if config else []
    for item in overrides:
        command += ["--set", item]
    trouble = stack.up_in_background(command, folder, timeout_seconds=stack.JOBS_READY_SECONDS + 60, say=_say)
    if trouble:
        raise click.ClickException(trouble)
    _say("Ready. See: thalweg ps. End: thalweg down.")


@click.command()
@click.option(
    "--timeout",
    "timeout_seconds",
    type=FINITE,
    default=90.0,
    show_default=True,
    help="Seconds to wait for an orderly end.",
)
def down(timeout_seconds: float) -> None:
    """End the local stack in order; what does not end in time, and what a killed stack left, is killed.

    Where no stack runs but a demo does, it ends the demo, as Ctrl-C would.
    """
    done = stack.down(_what_runs(), timeout_seconds=timeout_seconds, say=_say)
    for line in done or ["nothing runs"]:
        _say(line[0].upper() + line[1:] + ".")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def ps(as_json: bool) -> None:
    """Show the processes of the local stack; where none runs, those of a running demo.

    Exit code 1 says that one runs and does not do its work, is gone or was given up, or that their supervisor stands
    still or their disk is full.
    """
    folder = _what_runs()
    document = process_table.as_document(folder, rows := process_table.process_rows(folder))
    unwell = [row for row in rows if document["running"] and row.is_unwell]
    code = 1 if unwell or (document["running"] and document["trouble"]) else 0
    if as_json:
        click.echo(json.dumps(document))
        sys.exit(code)
    for trouble in document["trouble"]:
        click.echo("{what}: {seen}. To mend it: {remedy}.".format(**trouble))
    if not document["running"] and folder.is_held():
        click.echo(f"A stack begins in {folder.path}, and nothing is recorded of it yet: look again in a moment")
        return
    if not document["running"]:
        click.echo(f"No stack runs in {folder.path}. Start one: thalweg up")
        if not any(row.state == process_table.GONE for row in rows):
            return
    table = Table(box=None)
    for heading in ("process", "state", "pid", "up", "ports", "cpu %", "rss MB", "restarts"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(
            row.name,
            row.state,
            str(row.pid or ""),
            "" if row.uptime_seconds is None else f"{row.uptime_seconds:.0f} s",
            ", ".join(f"{name} {port}" for name, port in row.ports.items()),
            "" if row.cpu_percent is None else f"{row.cpu_percent:.0f}",
            "" if row.rss_mb is None else f"{row.rss_mb:.0f}",
            str(row.restarts),
        )
    Console(soft_wrap=True).print(table)
    click.echo(f"Logs: {folder.path / 'logs'}")
    for row in unwell:
        click.echo(f"{row.name} is {row.state}: {row.last_failure}")
    sys.exit(code)
