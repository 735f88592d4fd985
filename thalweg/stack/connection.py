"""Which broker a command means: the one that is named, else that of the local stack or the demo that runs now.

Never whatever listens on Kafka's own port: that may be another installation, whose tasks and regions would mix with
ours.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from thalweg.conf.environment import state_folder
from thalweg.conf.settings import Settings
from thalweg.stack.stack import running_bootstrap
from thalweg.stack.state import running_in

SETTING: Final = "kafka.bootstrap_servers"


class NoBrokerError(Exception):
    """No broker was named, and no stack of the state folder has one that is ready."""

    def __init__(self, state: Path, *, runs: bool) -> None:
        super().__init__(
            f"the stack here (state folder {state}) runs, but its broker is not ready: thalweg ps shows its state; "
            "try again when it is ready"
            if runs
            else f"no stack runs here (state folder {state}); start one: thalweg up, or name a broker: "
            f"--bootstrap HOST:PORT (or the setting {SETTING})"
        )


def with_broker(settings: Settings) -> Settings:
    """Point settings that name no broker to the broker of what runs here.

    Raises:
        NoBrokerError: nothing runs here, or its broker is not ready.
    """
    if settings.kafka.is_named:
        return settings
    state = state_folder()
    folder = running_in(state)
    found = running_bootstrap(folder.path) if folder is not None else None
    if found is None:
        raise NoBrokerError(state, runs=folder is not None)
    kafka = settings.kafka.model_copy(update={"bootstrap_servers": found})
    return settings.model_copy(update={"kafka": kafka})


def bootstrap_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--bootstrap HOST:PORT`, a shorter way to say `--set kafka.bootstrap_servers=HOST:PORT`."""
    return click.option(
        "--bootstrap", metavar="HOST:PORT", help="The broker, where it is not that of the stack that runs here."
    )(command)


def with_bootstrap(overrides: tuple[str, ...], bootstrap: str | None) -> tuple[str, ...]:
    """Add what `--bootstrap` named to the `--set` items."""
    return overrides if bootstrap is None else (*overrides, f"{SETTING}={bootstrap}")
