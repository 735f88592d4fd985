"""What the commands that speak to the broker share: their options, their client, and how errors end them."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import click

from thalweg.cli.reach.ending import FAILED, WRONG_CALL, end
from thalweg.cli.reach.finite import FINITE, FiniteRange
from thalweg.client.client import Client, ClientError, InvalidRequestError
from thalweg.conf.settings import SettingsError, load_settings
from thalweg.stack.connection import NoBrokerError, bootstrap_option, with_bootstrap, with_broker
from thalweg.streams.broker.errors import StreamError


def broker_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --config, --set, --bootstrap, --answer, --wait and --json."""
    for option in (
        click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="YAML settings file."),
        click.option("--set", "overrides", multiple=True, metavar="GROUP.FIELD=VALUE", help="One setting; repeatable."),
        bootstrap_option,
        click.option(
            "--answer",
            "answer_s",
            type=FiniteRange(min=0),
            metavar="SECONDS",
            help="Wait so long to hear what became of it; 0 does not.  [default: 5, more for many]",
        ),
        click.option("--wait", "wait_s", type=FINITE, metavar="SECONDS", help="Wait so long for the task to end."),
        click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output."),
    ):
        command = option(command)
    return command


def call_broker(
    config: Path | None, overrides: tuple[str, ...], bootstrap: str | None, run: Callable[[Client], int]
) -> NoReturn:
    """Run something with a client, and end the command with the exit code that it returns."""
    try:
        settings = with_broker(load_settings(config, with_bootstrap(overrides, bootstrap)))
        with Client(kafka=settings.kafka) as client:
            code = run(client)
    except (SettingsError, InvalidRequestError, NoBrokerError) as error:
        end(str(error), WRONG_CALL)
    except (StreamError, ClientError) as error:
        end(str(error), FAILED)
    sys.exit(code)
