"""The command line: one group whose commands are imported only when they are called."""

import importlib
from collections.abc import Mapping
from typing import Final

import click

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    # name: (module, attribute); a module is imported when its command is called, so that --help needs no Spark.
    "agent": ("thalweg.cli.agent_command", "agent"),
    "bench": ("thalweg.cli.bench_command", "bench"),
    "cancel": ("thalweg.cli.task_commands", "cancel"),
    "chaos": ("thalweg.cli.chaos_command", "chaos"),
    "demo": ("thalweg.cli.demo_command", "demo"),
    "doctor": ("thalweg.checkup.doctor", "doctor"),
    "down": ("thalweg.cli.stack_commands", "down"),
    "explain": ("thalweg.cli.explain_command", "explain"),
    "graph": ("thalweg.cli.contract_commands", "graph"),
    "pack": ("thalweg.cli.pack_command", "pack"),
    "plan": ("thalweg.cli.plan_command", "plan"),
    "plans": ("thalweg.cli.read_commands", "plans"),
    "ps": ("thalweg.cli.stack_commands", "ps"),
    "quality": ("thalweg.cli.quality_command", "quality"),
    "regions": ("thalweg.cli.read_commands", "regions"),
    "replay": ("thalweg.cli.replay_command", "replay_trace"),
    "sql": ("thalweg.cli.read_commands", "sql"),
    "submit": ("thalweg.cli.task_commands", "submit"),
    "sync": ("thalweg.cli.sync_command", "sync"),
    "sync-sim": ("thalweg.cli.sync_command", "sync_sim"),
    "tables": ("thalweg.cli.contract_commands", "tables"),
    "tasks": ("thalweg.cli.read_commands", "tasks"),
    "topics": ("thalweg.cli.contract_commands", "topics"),
    "up": ("thalweg.cli.stack_commands", "up"),
}


class LazyGroup(click.Group):
    """A group that imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="thalweg")
def cli() -> None:
    """Thalweg: a streaming placement plane for AI work spread over regions, clouds and edges.

    Exit codes: 0 done, 1 the work failed, 2 the call or the input is wrong.
    """


def main() -> None:
    """Run the command line."""
    cli(prog_name="thalweg")


if __name__ == "__main__":
    main()
