"""The command line: one group whose commands are imported only when they are called."""

import contextlib
import gc
import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from typing import Any, Final

import click

COMMANDS: Final[Mapping[str, tuple[str, str, str]]] = {
    # name: (module, attribute, what --help lists). A module is imported when its command is called, so that --help
    # needs nothing but click; a test compares the words with the command's own.
    "account": (
        "thalweg.cli.account_command",
        "account",
        "Sum what tasks have cost: GPU-hours, dollars, egress, waiting.",
    ),
    "agent": (
        "thalweg.cli.agent_command",
        "agent",
        "Host one or several regions: run what is assigned to them, report, and send telemetry.",
    ),
    "backup": (
        "thalweg.cli.backup_commands",
        "backup",
        "Copy the local stack into the new folder DIR, consistently, while it runs or not.",
    ),
    "bench": ("thalweg.cli.bench_command", "bench", "Measure one thing on this machine."),
    "cancel": (
        "thalweg.cli.change_commands",
        "cancel",
        "Cancel tasks: they are not placed any more, and stopped where they run.",
    ),
    "chaos": (
        "thalweg.cli.chaos_command",
        "chaos",
        "Hurt a stack under load in every way we know, and audit what was lost or doubled.",
    ),
    "demo": (
        "thalweg.cli.demo_command",
        "demo",
        "Start a broker, the jobs and simulated regions, stream tasks through them, and count what happened.",
    ),
    "doctor": (
        "thalweg.checkup.doctor",
        "doctor",
        "Check Python, packages, Java, jars, ports, disk, memory, clock, tables, broker, checkpoints; print each fix.",
    ),
    "down": (
        "thalweg.cli.stack_commands",
        "down",
        "End the local stack in order; what does not end in time, and what a killed stack left, is killed.",
    ),
    "drain": (
        "thalweg.cli.order_commands",
        "drain",
        "Empty a region or a node: it takes nothing new, and what runs there moves elsewhere.",
    ),
    "edge": (
        "thalweg.cli.edge_command",
        "edge",
        "Prepare data before they leave a region, as it is declared for all (docs/how-to/learning.md).",
    ),
    "explain": (
        "thalweg.cli.explain_command",
        "explain",
        "Explain a task: its cost and the next best region, or why it waits.",
    ),
    "explain-model": (
        "thalweg.cli.explain_model_command",
        "explain_model",
        "Explain a model: what it rests on, an answer, what would change it.",
    ),
    "federate": (
        "thalweg.cli.federate_command",
        "federate",
        "Learn a model in rounds, from data that stay where they are.",
    ),
    "flower": (
        "thalweg.cli.flower_command",
        "flower",
        "Run Flower's client apps as participants of a server app whose grid is ours (docs/how-to/learning.md).",
    ),
    "forecast": (
        "thalweg.cli.forecast_command",
        "forecast",
        "Forecast how long tasks hold their places, and what will be asked for (docs/how-to/forecast.md).",
    ),
    "graph": ("thalweg.cli.contract_commands", "graph", "Print which job reads and writes what."),
    "hold": (
        "thalweg.cli.change_commands",
        "hold",
        "Hold tasks: they do not start until they are released; what runs goes on.",
    ),
    "logs": (
        "thalweg.cli.logs_command",
        "logs",
        "Print what a task has written; -f follows it to its end.",
    ),
    "hurt": (
        "thalweg.cli.hurt_command",
        "hurt_running",
        "Kill processes of the running stack (kill -9), one after the other, wait until each is back, check the books.",
    ),
    "hooks": ("thalweg.cli.hooks_command", "hooks", "Tell web addresses of every task that ends."),
    "model": (
        "thalweg.cli.model_command",
        "model",
        "Make a model small, publish versions of it, serve them near their callers, and ask (docs/how-to/serving.md).",
    ),
    "move": ("thalweg.cli.order_commands", "move", "Move a task that runs to another region."),
    "open": ("thalweg.cli.serve_command", "open_page", "Open the page of the running stack in a browser."),
    "opportunities": (
        "thalweg.cli.opportunities_command",
        "opportunities",
        "Show what would be cheaper elsewhere now, and the moves that were made.",
    ),
    "orders": (
        "thalweg.cli.order_commands",
        "orders",
        "Show the orders that stand, or all that were given.",
    ),
    "pack": (
        "thalweg.cli.pack_command",
        "pack",
        "Pack the pods of an openb trace onto its nodes in arrival order and print the allocation.",
    ),
    "plan": (
        "thalweg.cli.plan_command",
        "plan",
        "Place the tasks of a problem file; prints the plan, what it costs, and its gap to the best that may be.",
    ),
    "place-sim": ("thalweg.cli.place_sim_command", "place_sim", "Prove the placement line by simulation."),
    "plans": (
        "thalweg.cli.read_commands",
        "plans",
        "Show recent plans: what they placed and cost, what waits and what its delay costs.",
    ),
    "price": (
        "thalweg.cli.order_commands",
        "price",
        "Set what a GPU-hour of a pool costs, whatever its region says.",
    ),
    "ps": (
        "thalweg.cli.stack_commands",
        "ps",
        "Show the processes of the local stack; where none runs, those of a running demo.",
    ),
    "pyfiles": (
        "thalweg.cli.pyfiles_command",
        "pyfiles",
        "Write the package as a zip for spark-submit --py-files.",
    ),
    "quality": (
        "thalweg.cli.quality_command",
        "quality",
        "Judge the newest stored telemetry by the value rules.",
    ),
    "refused": ("thalweg.cli.refused_command", "refused", "List what the jobs refused, and why."),
    "regions": ("thalweg.cli.read_commands", "regions", "Show the regions: capacity, use, prices."),
    "release": (
        "thalweg.cli.change_commands",
        "release",
        "Release tasks that are held: they wait again as others do.",
    ),
    "replay": (
        "thalweg.cli.replay_command",
        "replay_trace",
        "Replay a trace or the ledger through policies and compare them: waiting, utilisation, balance, money, moves.",
    ),
    "rerun": ("thalweg.cli.change_commands", "rerun", "Run tasks that have ended again, under their own ids."),
    "restore": (
        "thalweg.cli.backup_commands",
        "restore",
        "Make a stack of the backup in DIR, in an empty state folder (THALWEG_STATE).",
    ),
    "results": (
        "thalweg.cli.results_command",
        "results",
        "Show how each run of a task ended, and what it gave.",
    ),
    "rollout": (
        "thalweg.cli.rollout_command",
        "rollout",
        "Bring a version of a model to the edges wave by wave, and take it back where it does harm.",
    ),
    "rollout-sim": (
        "thalweg.cli.rollout_sim_command",
        "rollout_sim",
        "Try roll-outs over simulated edges, harmless and harmful.",
    ),
    "serve": ("thalweg.cli.serve_command", "serve", "Serve the page and the HTTP door."),
    "sql": ("thalweg.cli.read_commands", "sql", "Run one SQL query over the tables."),
    "submit": (
        "thalweg.cli.submit_command",
        "submit",
        "Submit the tasks in FILE, or one task made from the options.",
    ),
    "sync": (
        "thalweg.cli.sync_command",
        "sync",
        "Show each region's replication: lag, gaps, conflicts, clock, digests.",
    ),
    "sync-sim": ("thalweg.cli.sync_command", "sync_sim", "Prove the sync plane by simulation."),
    "tables": ("thalweg.cli.contract_commands", "tables", "Print the Delta tables and their columns."),
    "tasks": ("thalweg.cli.tasks_command", "tasks", "List tasks and their states."),
    "tenant": (
        "thalweg.cli.order_commands",
        "tenant",
        "Change a tenant while the plane runs: hold it, or set its weight, quota and budget.",
    ),
    "topics": ("thalweg.cli.contract_commands", "topics", "Print the Kafka topics and their messages."),
    "undrain": (
        "thalweg.cli.order_commands",
        "undrain",
        "Let a drained region or node take tasks again.",
    ),
    "up": (
        "thalweg.cli.stack_commands",
        "up",
        "Start the local stack: a Kafka broker and the streaming jobs.",
    ),
    "wait": ("thalweg.cli.wait_command", "wait", "Wait until tasks have ended, and say how."),
}
_FAILED: Final = 1
_WRONG_CALL: Final = 2
_EXTRAS: Final = {"onnxruntime": "serving", "onnx": "shrinking", "skl2onnx": "shrinking", "skops": "shrinking"}
"""What brings a package that is not part of everything."""
_INTERRUPTED: Final = 130
"""As a shell tells of what SIGINT has ended."""


class LazyGroup(click.Group):
    """A group that imports a command when it is called."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Note what is asked for, whichever command is called."""
        ctx.obj = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what ends it is also the document, where one was asked for.

        One that is ended by Ctrl-C while it waits or looks on says nothing more.
        """
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            if sys.stderr.isatty():
                click.echo(err=True)  # below the ^C
            ctx.exit(_INTERRUPTED)
        except click.ClickException as error:
            from thalweg.cli.reach.ending import print_error, wants_json  # late: --help needs nothing but click
            from thalweg.cli.reach.standard_output import OutputLostError

            if wants_json(ctx.obj):
                with contextlib.suppress(OutputLostError):  # its words go to standard error all the same
                    print_error(error)
            from thalweg.cli.terminal.render import seen

            # Ids and reasons may stand in it that others have written.
            error.message = "\n".join(map(seen, error.message.split("\n")))  # type: ignore[misc]  # click shows no other
            raise

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][2]) for name in self.list_commands(ctx)])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="thalweg")
def cli() -> None:
    """Thalweg: a streaming placement plane for AI work spread over regions, clouds and edges.

    Exit codes: 0 done, 1 the work failed, 2 the call or the input is wrong, 130 it was interrupted (Ctrl-C).
    """


def _leave(code: int) -> None:
    """End a process that has only read at once.

    Taking all of its modules apart would take a tenth of an answer's time; and where the engine still works for
    somebody who was interrupted, it would go on with what is taken apart.
    """
    try:
        sys.stderr.flush()
    except OSError:
        return  # nobody listens; that ends as it always does
    os._exit(code)


def _engine_works_on() -> bool:
    from thalweg.query.sql.engine_thread import works_on  # late: --help needs nothing but click

    return works_on()


def main() -> None:
    """Run the command line."""
    answers_once = sys.argv[1:2] == ["explain"]
    if answers_once:
        gc.disable()  # a tenth of its time would go into looking for garbage in what is needed until the end
        # It multiplies no large matrices, and making a thread for each core takes longer than half of such an answer.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    code = _run()
    if answers_once or _engine_works_on():
        _leave(code)
    sys.exit(code)


def _run() -> int:
    """Run a command to its end, and return its exit code."""
    from thalweg.cli.reach.standard_output import (  # late: whoever imports the group needs nothing but click
        OutputLostError,
        flush_standard_output,
        lost_words,
        watch_standard_output,
    )

    watch_standard_output()
    code = 0
    try:
        try:
            cli(prog_name="thalweg")
        except SystemExit as end:
            code = _code_of(end)
        if not flush_standard_output():
            return code or _FAILED
    except OutputLostError as error:
        click.echo(lost_words(error), err=True)
        return code or _FAILED
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "thalweg" or importlib.util.find_spec(package) is not None:
            raise
        extra = _EXTRAS.get(package)
        why = (
            "and only the client is installed; all of it: pip install 'thalweg[plane]'"
            if extra is None
            else f"which comes with pip install 'thalweg[{extra}]'"
        )
        click.echo(f"thalweg: this needs {package}, {why}", err=True)
        return _WRONG_CALL
    return code


def _code_of(end: SystemExit) -> int:
    if isinstance(end.code, str):
        click.echo(end.code, err=True)
        return _FAILED
    return end.code or 0


if __name__ == "__main__":
    main()
