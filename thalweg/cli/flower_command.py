"""`thalweg flower …`: run Flower's client apps as participants, and end their runs."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

import click

from thalweg.cli.reach.reading import WrongCall
from thalweg.cli.reach.standard_output import note_done
from thalweg.conf.environment import state_folder
from thalweg.conf.settings import Settings, SettingsError, load_settings
from thalweg.federation.connection import placed, warehouse_of
from thalweg.federation.own_training import TrainingError, own_training
from thalweg.federation.take_part import AGAIN_AFTER_S, BROKER_AWAY, NobodyError, log, placed_as
from thalweg.jobs.runtime.job import set_up_logs
from thalweg.scheduling.counted import counted
from thalweg.stack.connection import NoBrokerError, bootstrap_option, with_bootstrap, with_broker

if TYPE_CHECKING:
    from thalweg.flower.participant import FlowerParticipant

NEEDED: Final = "pip install 'thalweg[flower]', in an environment without thalweg[plane] if its packages do not fit"


@click.group()
def flower() -> None:
    """Run Flower's client apps as participants of a server app whose grid is ours (docs/how-to/learning.md)."""


@flower.command("take-part", short_help="Let a client app answer what a run's server app asks.")
@click.argument("run")
@click.option("--app", "named", required=True, metavar="WHERE:APP", help="FILE.py:APP or MODULE:APP, a ClientApp.")
@click.option("--node-config", metavar="JSON", default="{}", help='Of the app\'s context: {"partition-id": 3}.')
@click.option("--run-config", metavar="JSON", default="{}", help="The same, of the run.")
@click.option(
    "--memory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of what outlives a participant: its last reply and its app's state.  [default: in the state folder]",
)
@click.option("--name", help="Who takes part.  [default: the task's id]")
@click.option("--region", help="Whose topic it sends by.  [default: the task's region]")
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="YAML settings file.")
@click.option("--set", "overrides", multiple=True, metavar="GROUP.FIELD=VALUE", help="One setting; repeatable.")
@bootstrap_option
def take_part(
    run: str,
    named: str,
    node_config: str,
    run_config: str,
    memory: Path | None,
    name: str | None,
    region: str | None,
    config: Path | None,
    overrides: tuple[str, ...],
    bootstrap: str | None,
) -> None:
    """Take part in RUN until its server app ends it.

    As a task it knows from its agent who it is and where the broker is. SIGTERM lets it leave. Killed and started
    anew, it answers what it has not answered.

    \b
    Examples:
      thalweg flower take-part digits --app client.py:app --name bern --region aws:eu-central-2
      thalweg flower take-part digits --app client.py:app --node-config '{"partition-id": 3}'
    """
    signal.signal(signal.SIGTERM, _leave)
    try:
        settings = with_broker(load_settings(config, with_bootstrap(overrides, bootstrap)))
        settings = placed(settings, warehouse_of(settings))
        who = placed_as(os.environ, name, region)
        app = own_training(named)
        configs = _config(node_config), _config(run_config)
    except (SettingsError, NoBrokerError, NobodyError, TrainingError) as error:
        raise WrongCall(str(error)) from error
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{error}; it needs {NEEDED}") from error
    set_up_logs(settings.logs)
    folder = memory if memory is not None else state_folder() / "flower"
    participant = _connected(settings, run, (who.name, who.region, who.life), app, configs, folder)
    try:
        participant.follow(time.sleep)
    finally:
        participant.close()
    click.echo(f"{run}: over; {who.name} answered {counted(participant.computed, 'time')}")


@flower.command(short_help="End a run whose server app did not: its participants go.")
@click.argument("run")
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="YAML settings file.")
@click.option("--set", "overrides", multiple=True, metavar="GROUP.FIELD=VALUE", help="One setting; repeatable.")
@bootstrap_option
def end(run: str, config: Path | None, overrides: tuple[str, ...], bootstrap: str | None) -> None:
    """End RUN: its participants go, and it cannot be gone on with.

    \b
    Examples:
      thalweg flower end digits
    """
    try:
        settings = with_broker(load_settings(config, with_bootstrap(overrides, bootstrap)))
    except (SettingsError, NoBrokerError) as error:
        raise WrongCall(str(error)) from error
    from thalweg.streams.broker.admin import ensure_topics
    from thalweg.streams.broker.errors import StreamError
    from thalweg.streams.broker.publish import KafkaPublisher
    from thalweg.streams.contract.messages import FlowerCall
    from thalweg.streams.contract.topics import CALLS
    from thalweg.streams.learning.calls import write_call
    from thalweg.sync.clock import system_clock

    try:
        ensure_topics(settings.kafka, (), (CALLS,))
        with KafkaPublisher(settings.kafka) as publisher:
            over = FlowerCall(kind="end", run=run)
            publisher.publish([write_call(over, settings.kafka.topic_prefix, system_clock())])
    except StreamError as error:
        raise click.ClickException(str(error)) from error
    note_done(f"{run}: over")
    click.echo(f"{run}: over")


def _connected(
    settings: Settings,
    run: str,
    who: tuple[str, str, int | None],
    app: object,
    configs: tuple[dict[str, Any], dict[str, Any]],
    memory: Path,
) -> "FlowerParticipant":
    """Connect as soon as the broker answers."""
    try:
        from flwr.clientapp import ClientApp

        from thalweg.flower.answer_memory import BrokenMemoryError
        from thalweg.flower.client_node import ClientNode
        from thalweg.flower.connection import flower_participant
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{error}; it needs {NEEDED}") from error
    if not isinstance(app, ClientApp):
        raise WrongCall(f"--app names {type(app).__name__}: allowed is a flwr.clientapp.ClientApp")
    name, region, life = who
    while True:
        try:
            return flower_participant(
                run,
                ClientNode(run, name, app, node_config=configs[0], run_config=configs[1]),
                settings.kafka,
                region=region,
                payloads=settings.federate.payloads,
                inline_bytes=settings.federate.inline_bytes,
                memory=memory,
                life=life,
            )
        except BROKER_AWAY as error:
            log.warning("waiting for the broker: %s", error)
            time.sleep(AGAIN_AFTER_S)
        except BrokenMemoryError as error:
            raise click.ClickException(str(error)) from error


def _config(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise WrongCall(f"{text!r}: {error}; allowed is a JSON object") from error
    if not isinstance(found, dict) or not all(isinstance(value, bool | int | float | str) for value in found.values()):
        raise WrongCall(f"{text!r}: allowed is a JSON object of numbers, texts, true and false")
    return cast("dict[str, Any]", found)


def _leave(signum: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + signum)
