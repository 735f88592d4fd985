"""The command line: one group whose commands are imported only when they are called."""

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from typing import Final

import click

COMMANDS: Final[Mapping[str, tuple[str, str, str]]] = {
    # name: (module, attribute, what --help lists). A module is imported when its command is called, so that --help
    # needs nothing but click; a test compares the words with the command's own.
    "agent": (
        "thalweg.cli.agent_command",
        "agent",
        "Host one or several regions: run what is assigned to them, report, and send telemetry.",
    ),
    "bench": ("thalweg.cli.bench_command", "bench", "Measure one thing on this machine."),
    "cancel": (
        "thalweg.cli.task_commands",
        "cancel",
        "Cancel tasks: they are not placed any more, and stopped where they run.",
    ),
    "chaos": (
        "thalweg.cli.chaos_command",
        "chaos",
        "Kill processes of the running stack (kill -9), one after the other, wait until each is back, check the books.",
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
    "explain": (
        "thalweg.cli.explain_command",
        "explain",
        "Explain a task: its cost and the next best region, or why it waits.",
    ),
    "graph": ("thalweg.cli.contract_commands", "graph", "Print which job reads and writes what."),
    "pack": (
        "thalweg.cli.pack_command",
        "pack",
        "Pack the pods of an openb trace onto its nodes in arrival order and print the allocation.",
    ),
    "plan": (
        "thalweg.cli.plan_command",
        "plan",
        "Place the tasks of a problem file; prints the plan with its objective, lower bound and gap.",
    ),
    "place-sim": ("thalweg.cli.place_sim_command", "place_sim", "Prove the placement line by simulation."),
    "plans": ("thalweg.cli.read_commands", "plans", "Show recent plans: objective, bound, gap, timings."),
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
    "replay": (
        "thalweg.cli.replay_command",
        "replay_trace",
        "Replay a trace or the ledger through policies and compare them: waiting, utilisation, balance, money, moves.",
    ),
    "sql": ("thalweg.cli.read_commands", "sql", "Run one SQL query over the tables."),
    "submit": (
        "thalweg.cli.task_commands",
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
    "tasks": ("thalweg.cli.read_commands", "tasks", "List tasks and their states."),
    "topics": ("thalweg.cli.contract_commands", "topics", "Print the Kafka topics and their messages."),
    "up": (
        "thalweg.cli.stack_commands",
        "up",
        "Start the local stack: a Kafka broker and the streaming jobs.",
    ),
}
_WRONG_CALL: Final = 2


class LazyGroup(click.Group):
    """A group that imports a command when it is called."""

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

    Exit codes: 0 done, 1 the work failed, 2 the call or the input is wrong.
    """


def main() -> None:
    """Run the command line."""
    try:
        cli(prog_name="thalweg")
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "thalweg" or importlib.util.find_spec(package) is not None:
            raise
        click.echo(
            f"thalweg: this needs {package}, and only the client is installed; all of it: pip install 'thalweg[plane]'",
            err=True,
        )
        sys.exit(_WRONG_CALL)


if __name__ == "__main__":
    main()
