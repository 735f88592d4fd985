"""`thalweg federate take-part`: be a participant of a run, as a task that the plane placed or by hand."""

import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import click

from thalweg.cli.reach.declared_preparation import NoDeclarationError, declared_in_record
from thalweg.cli.reach.finite import FiniteRange
from thalweg.cli.reach.reading import WrongCall
from thalweg.conf.settings import Settings, SettingsError, load_settings
from thalweg.federation.connection import models_reader, placed, publisher_for, store_of, warehouse_of
from thalweg.federation.local_samples import (
    LocalSamples,
    SamplesError,
    on_samples,
    on_samples_now,
    read_columns,
    read_samples,
)
from thalweg.federation.own_training import TrainingError, own_training
from thalweg.federation.participant import Participant
from thalweg.federation.prepared_samples import PreparedTrainingData
from thalweg.federation.take_part import AGAIN_AFTER_S, BROKER_AWAY, NobodyError, TaskReport, log, placed_as
from thalweg.federation.take_part import take_part as take_part_in
from thalweg.jobs.runtime.job import set_up_logs
from thalweg.learning.local.training import LocalTraining
from thalweg.learning.secrecy.fixed_point import OutOfRangeError
from thalweg.learning.secrecy.signatures import SigningKey
from thalweg.scheduling.counted import counted
from thalweg.stack.connection import NoBrokerError, bootstrap_option, with_bootstrap, with_broker
from thalweg.streams.broker.consume import KafkaReader
from thalweg.streams.broker.errors import StreamError
from thalweg.streams.broker.publish import KafkaPublisher
from thalweg.sync.clock import system_clock

KEY: Final = "THALWEG_PARTICIPANT_KEY"


@click.command("take-part", short_help="Take part in a run: train on what is here, send what was learned.")
@click.argument("model")
@click.option(
    "--samples",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A .npz file with x and y; with --label a .parquet, .csv or .csv.gz file, too.",
)
@click.option("--label", metavar="COLUMN", help="Of --samples: the column of classes, whole numbers from 0.")
@click.option("--inputs", metavar="COLUMN,…", help="Of --samples, with --label: the columns of numbers, in this order.")
@click.option(
    "--prepare-by",
    metavar="KEY",
    help="Train on what this record of the sync plane leaves of --samples, prepared anew when the file has changed.",
)
@click.option(
    "--prepared",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where that is written.  [default: prepared-NAME here]",
)
@click.option(
    "--train", "named", metavar="WHERE:FUNCTION", help="A training of your own: FILE.py:FUNCTION or MODULE:F."
)
@click.option("--hidden", type=click.IntRange(min=0), default=0, show_default=True, help="Width of a hidden layer.")
@click.option("--epochs", type=click.IntRange(min=1), default=5, show_default=True, help="Of each round.")
@click.option("--batch", type=click.IntRange(min=1), default=16, show_default=True, help="Samples of a step.")
@click.option("--rate", type=FiniteRange(min=0, min_open=True), default=0.1, show_default=True)
@click.option("--proximal", type=FiniteRange(min=0), default=0.0, help="FedProx: pull to the round's version.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the order of the samples.")
@click.option("--name", help="Who takes part.  [default: the task's id]")
@click.option("--region", help="Whose topic it sends by.  [default: the task's region]")
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="YAML settings file.")
@click.option("--set", "overrides", multiple=True, metavar="GROUP.FIELD=VALUE", help="One setting; repeatable.")
@bootstrap_option
def take_part(
    model: str,
    samples: Path | None,
    label: str | None,
    inputs: str | None,
    prepare_by: str | None,
    prepared: Path | None,
    named: str | None,
    hidden: int,
    epochs: int,
    batch: int,
    rate: float,
    proximal: float,
    seed: int,
    name: str | None,
    region: str | None,
    config: Path | None,
    overrides: tuple[str, ...],
    bootstrap: str | None,
) -> None:
    """Take part in MODEL's run until it ends.

    As a task of the kind `federated` it knows from its agent who it is and where the rounds go on. --samples trains
    the network whose parameters the run has, and --prepare-by on what is left of them by `thalweg edge prepare`, which
    it carries out by itself; with THALWEG_PARTICIPANT_KEY (64 hexadecimal digits, best one of the
    task's secrets) it signs what it says. SIGTERM lets it leave.

    \b
    Examples:
      thalweg federate take-part digits --samples /srv/digits.npz
      thalweg federate take-part wear --samples /srv/readings.parquet --label worn --inputs load,wait \\
        --prepare-by edge/training
      thalweg federate take-part digits --train train.py:train --name hospital-7 --region aws:eu-west-1
    """
    signal.signal(signal.SIGTERM, _leave)
    how = LocalTraining(epochs=epochs, batch=batch, rate=rate, proximal=proximal)
    try:
        settings = with_broker(load_settings(config, with_bootstrap(overrides, bootstrap)))
        settings = placed(settings, warehouse_of(settings))
        who = placed_as(os.environ, name, region)
        if (samples is None) == (named is None):
            raise TrainingError("what is trained? Allowed is one of --samples FILE and --train WHERE:FUNCTION")
        if samples is None and (label or inputs or prepare_by or prepared):
            raise TrainingError("--label, --inputs, --prepare-by and --prepared are of --samples FILE")
        if (label is None) != (inputs is None):
            raise TrainingError("which columns? Allowed are --label and --inputs, both or neither")
        if prepared is not None and prepare_by is None:
            raise TrainingError("--prepared is where --prepare-by KEY writes, which is not given")
        if samples is None:
            train = own_training(named or "")
        else:

            def read(file: Path) -> LocalSamples:
                return read_columns(file, (inputs or "").split(","), label) if label else read_samples(file)

            if prepare_by is None:
                train = on_samples(read(samples), how, hidden, who.name, seed)
            else:
                record, declaration = declared_in_record(prepare_by, who.region, settings.kafka)
                target = prepared or Path(f"prepared-{samples.name}")
                now = PreparedTrainingData(samples, target, record, declaration, read).now
                train = on_samples_now(now, how, hidden, who.name, seed)
        key = _key()
    except (SettingsError, NoBrokerError, NobodyError, TrainingError, SamplesError, ValueError) as error:
        raise WrongCall(str(error)) from error
    except (StreamError, NoDeclarationError) as error:
        raise click.ClickException(str(error)) from error
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{error}; a key needs pip install 'thalweg[learning]'") from error
    set_up_logs(settings.logs)
    report = TaskReport(environ=os.environ)
    reader, publisher = _connected(settings, who.region)
    try:
        state = take_part_in(
            Participant(
                model=model,
                name=who.name,
                region=who.region,
                train=report.told(train),
                reader=reader,
                publisher=publisher,
                topic_prefix=settings.kafka.topic_prefix,
                clock=system_clock,
                store=store_of(settings),
                inline_bytes=settings.federate.inline_bytes,
                key=key,
                life=who.life,
            ),
            time.sleep,
        )
    except (SamplesError, OutOfRangeError) as error:
        raise click.ClickException(str(error)) from error
    finally:
        reader.close()
        publisher.close()
    report.over(state)
    click.echo(
        f"{model}: {state.ended} at version {state.version}; {who.name} answered {counted(report.answered, 'time')}"
    )


def _leave(signum: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + signum)


def _key() -> SigningKey | None:
    digits = os.environ.get(KEY, "").strip()
    try:
        return SigningKey(bytes.fromhex(digits)) if digits else None
    except ValueError:
        raise ValueError(f"{KEY} is no key: allowed are 64 hexadecimal digits") from None


def _connected(settings: Settings, region: str) -> tuple[KafkaReader, KafkaPublisher]:
    """Connect as soon as the broker answers."""
    while True:
        try:
            publisher = publisher_for(settings.kafka, region)
            return models_reader(settings.kafka), publisher
        except BROKER_AWAY as error:
            log.warning("waiting for the broker: %s", error)
            time.sleep(AGAIN_AFTER_S)
