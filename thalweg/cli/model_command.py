"""`thalweg model …`: make a model small, publish a version of it, serve it, see who serves it, and ask it."""

import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from thalweg.cli.reach.reading import WrongCall
from thalweg.cli.reach.standard_output import note_done
from thalweg.cli.serve_model_command import serve_model_command
from thalweg.cli.shrink_command import shrink
from thalweg.cli.terminal import words
from thalweg.cli.terminal.render import Column, print_json, print_table
from thalweg.client.model_client import ModelAnswerError, ModelClient, NoServerError
from thalweg.client.replica_client import ReplicaClient, ReplicaLag
from thalweg.conf.environment import state_folder
from thalweg.conf.settings import Settings, SettingsError, load_settings
from thalweg.federation.connection import placed, store_of, warehouse_of
from thalweg.serving.announcements import Announced
from thalweg.serving.tensors import InferRequest
from thalweg.serving.version_record import ModelVersion, VersionRecordError, key_of
from thalweg.stack.connection import NoBrokerError, bootstrap_option, with_bootstrap, with_broker
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.broker.consume import KafkaReader
from thalweg.streams.broker.errors import StreamError
from thalweg.streams.contract.messages import ServerStatus
from thalweg.streams.contract.topics import REPLICA, SERVERS, STATE, topic_name
from thalweg.sync.clock import system_clock
from thalweg.sync.replica.errors import ReplicaError
from thalweg.sync.replica.replica import Replica
from thalweg.sync.replica.sqlite_store import SqliteStore

PUBLISHER: Final = "models"
"""The region as which versions are published; its replica lies in the state folder, for a region has one store."""
_JOIN_S: Final = 60.0
_LOOK_S: Final = 0.02


@click.group()
def model() -> None:
    """Make a model small, publish versions of it, serve them near their callers, and ask (docs/how-to/serving.md)."""


model.add_command(shrink)
model.add_command(serve_model_command)


def _settings(config: Path | None, overrides: tuple[str, ...], bootstrap: str | None) -> Settings:
    try:
        settings = with_broker(load_settings(config, with_bootstrap(overrides, bootstrap)))
    except (SettingsError, NoBrokerError) as error:
        raise WrongCall(str(error)) from error
    return placed(settings, warehouse_of(settings))


_config = click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="YAML settings file.")
_set = click.option("--set", "overrides", multiple=True, metavar="GROUP.FIELD=VALUE", help="One setting; repeatable.")
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@model.command(short_help="Publish a version: its bytes into the store, its record to every region.")
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--version", "number", type=click.IntRange(min=1), help="Its number.  [default: the next one]")
@click.option("--for-region", "region", help="Only this region is to serve it.")
@click.option("--other-inputs", is_flag=True, help="It may ask for other inputs than the version before.")
@click.option(
    "--for-rollout", is_flag=True, help="Only store the bytes, and print what `thalweg rollout start` is to be told."
)
@_json
@_config
@_set
@bootstrap_option
def publish(
    name: str,
    file: Path,
    number: int | None,
    region: str | None,
    other_inputs: bool,
    for_rollout: bool,
    as_json: bool,
    config: Path | None,
    overrides: tuple[str, ...],
    bootstrap: str | None,
) -> None:
    """Publish FILE (.onnx) as a version of model NAME.

    Servers in all regions, or in the one that is named, take it up by themselves. Which ways its bytes are kept in
    (plain, packed, as a difference to the version before) is chosen by what each saves.

    \b
    Examples:
      thalweg model publish digits digits.onnx
      thalweg model publish digits digits.onnx --for-region bern
      thalweg model publish digits digits.onnx --for-rollout
    """
    from thalweg.serving.publication import PublicationError, inputs_told, publish_version, store_version

    if for_rollout and region is not None:
        raise WrongCall("--for-rollout declares nothing of a region: allowed without --for-region")
    try:
        key_of(name, region)
        raw = file.read_bytes()
        inputs_told(raw)
    except (VersionRecordError, PublicationError) as error:
        raise WrongCall(str(error)) from error
    settings = _settings(config, overrides, bootstrap)
    place = state_folder() / f"{PUBLISHER}.sqlite"
    place.parent.mkdir(parents=True, exist_ok=True)
    how: Callable[..., Any] = partial(publish_version, region=region) if not for_rollout else store_version
    with _replica(place, settings) as replica:
        try:
            found = how(name, raw, replica, store_of(settings), number=number, other_inputs=other_inputs)
        except (PublicationError, VersionRecordError) as error:
            raise WrongCall(str(error)) from error
        except OSError as error:
            raise click.ClickException(f"the store of payloads does not take it: {error}") from error
        except ReplicaError as error:
            raise click.ClickException(str(error)) from error
        confirmed, told = replica.wait_confirmed(_JOIN_S), replica.lag()
    if not confirmed and told.fenced:
        raise click.ClickException(obsolete_words(place))
    if not confirmed:
        raise click.ClickException("the centre has not confirmed the record; publish it again")
    note_done(f"{name}: published")
    if for_rollout:
        _say_stored(name, found, as_json=as_json)
        return
    version = found.version
    ways = _sizes(version)
    if as_json:
        print_json({"model": name, "key": found.key, "version": version.version, "before": found.before,
                    "sha256": version.sha256, "size_bytes": version.size_bytes, "ways": ways})  # fmt: skip
        return
    kept = ", ".join(f"{codec} {size:,}" for codec, size in ways.items())
    click.echo(f"{name}: version {version.version} is declared in {found.key}; bytes in the store: {kept}")


@contextmanager
def _replica(place: Path, settings: Settings) -> Iterator[ReplicaClient]:
    """Open the publisher's replica and wait until it may write, and has read what was written before."""
    try:
        ensure_topics(settings.kafka, [PUBLISHER], [STATE, REPLICA])  # a broker that is away is told in seconds
        with ExitStack() as opened:
            replica = opened.enter_context(ReplicaClient(PUBLISHER, place, settings.kafka))
            told = _told_when_read(replica)
            if told.fenced and not told.joined:
                # A new store, and an earlier one of the region's is known.
                opened.close()
                begin_life(place, system_clock())
                replica = opened.enter_context(ReplicaClient(PUBLISHER, place, settings.kafka))
                told = _told_when_read(replica)
            if told.joined and told.fenced:
                raise click.ClickException(obsolete_words(place))
            if not told.joined or told.behind != 0:
                why = told.trouble or "does the job `replicate` run?"
                raise click.ClickException(f"the centre of the sync plane does not answer: {why}")
            yield replica
    except (StreamError, ReplicaError) as error:
        raise click.ClickException(str(error)) from error


def _told_when_read(replica: ReplicaClient) -> ReplicaLag:
    """Wait until a replica has read all that there is, and may write or is obsolete; return what it says then.

    A store that is not new has joined long ago, and knows nothing of what others wrote since: which number comes next
    follows from that.
    """
    end = time.monotonic() + _JOIN_S
    while True:
        told = replica.lag()
        if (told.behind == 0 and (told.joined or told.fenced)) or time.monotonic() >= end:
            return told
        time.sleep(_LOOK_S)


def begin_life(place: Path, now_ms: int) -> None:
    """Let a new store of the region, which has read of an earlier one, begin a life above that (`Replica.join`).

    The earlier store is obsolete once the centre has taken it.

    Args:
        place: the store's file, which nobody has open.
        now_ms: wall clock.
    """
    store = SqliteStore(place)
    try:
        Replica(PUBLISHER, store).join(now_ms)
    finally:
        store.close()


def obsolete_words(place: Path) -> str:
    """Say that another store has taken the region over, and what is to be done."""
    return (
        f"another store holds the region {PUBLISHER!r} by now, and {place} is obsolete: publish from there, or move "
        "this file away: a new store takes the region over (docs/explanation/sync.md, One store per region)"
    )


def _sizes(version: ModelVersion) -> dict[str, int]:
    return {way.codec: way.size_bytes for way in version.ways}


def _say_stored(name: str, version: ModelVersion, *, as_json: bool) -> None:
    if as_json:
        print_json({"model": name, "version": version.version, "sha256": version.sha256,
                    "size_bytes": version.size_bytes, "ways": _sizes(version)})  # fmt: skip
        return
    click.echo(f"{name}: version {version.version} is in the store, and nobody serves it; next:")
    click.echo(f"thalweg rollout start {name} --version {version.version} --digest {version.sha256}")


@model.command(short_help="Show who serves models, which version, and how they do.")
@click.argument("name", required=False)
@_json
@_config
@_set
@bootstrap_option
def servers(
    name: str | None, as_json: bool, config: Path | None, overrides: tuple[str, ...], bootstrap: str | None
) -> None:
    """Show the servers of model NAME, or of all models, as they said of themselves last.

    \b
    Examples:
      thalweg model servers
      thalweg model servers digits --json
    """
    settings = _settings(config, overrides, bootstrap)
    now = system_clock()
    rows = [
        _row(status, now - at)
        for at, status in _announced(settings).all().values()
        if name is None or status.model == name
    ]
    if as_json:
        print_json({"servers": rows})
        return
    columns = [
        *(Column(name=one) for one in ("model", "region", "server", "url", "version")),
        *(Column(name=one, say=words.amount, right=True) for one in ("requests", "p50_ms", "p99_ms")),
        Column(name="heard_s", title="heard before", say=words.seconds, right=True),
        Column(name="trouble"),
    ]
    print_table(columns, rows)


def _row(status: ServerStatus, ago_ms: int) -> dict[str, Any]:
    return {
        "model": status.model,
        "region": status.region,
        "server": status.server,
        "url": status.url,
        "version": status.version or None,
        "wanted_version": status.wanted_version or None,
        **status.figures,
        "heard_s": max(0, ago_ms) / 1_000,
        "trouble": status.trouble,
    } | {"version": status.version or None, "wanted_version": status.wanted_version or None}


def _announced(settings: Settings) -> Announced:
    """Read what servers have said until now."""
    kafka = settings.kafka
    try:
        ensure_topics(kafka, [], [SERVERS])
        reader = KafkaReader(kafka, topics=(topic_name(SERVERS, kafka.topic_prefix),), client_id="thalweg-callers")
        found = Announced(reader)
        try:
            ends = reader.end_offsets()
            while any(reader.position(*place) < end for place, end in ends.items()):
                found.refresh(100)
        finally:
            reader.close()
    except StreamError as error:
        raise click.ClickException(str(error)) from error
    return found


@model.command(short_help="Ask a model, through whichever of its servers answers best.")
@click.argument("name")
@click.argument("request", type=click.File("rb"))
@click.option(
    "--server", "addresses", multiple=True, metavar="URL", help="A server; repeatable.  [default: the topic's]"
)
@click.option("--key-file", type=click.Path(dir_okay=False, path_type=Path), help="The key that the servers ask for.")
@click.option(
    "--ca-file", type=click.Path(dir_okay=False, path_type=Path), help="PEM file of their authority, for https."
)
@click.option("--times", type=click.IntRange(min=1), default=1, show_default=True, help="Ask so many times.")
@click.option("--json", "as_json", is_flag=True, help="Print an error as JSON as well.")
@_config
@_set
@bootstrap_option
def ask(
    name: str,
    request: Any,
    addresses: tuple[str, ...],
    key_file: Path | None,
    ca_file: Path | None,
    times: int,
    as_json: bool,
    config: Path | None,
    overrides: tuple[str, ...],
    bootstrap: str | None,
) -> None:
    """Ask model NAME with REQUEST, a file with `inputs` as the Open Inference Protocol has them; - reads it from here.

    Prints the last answer, as JSON.

    \b
    Examples:
      thalweg model ask digits request.json
      thalweg model ask digits - --server http://127.0.0.1:8000 < request.json
      thalweg model ask digits request.json --key-file edge.key --ca-file authority.pem
    """
    del as_json  # the answer always is; what ends a command looks for the option
    try:
        key_of(name)
        asked = json.load(request)
        wanted = msgspec.convert(asked, InferRequest)
    except VersionRecordError as error:
        raise WrongCall(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise WrongCall(f"the request: {error}; wanted is JSON with `inputs`") from error
    key, tls = _key_in(key_file), _authority_in(ca_file)
    known = list(addresses)
    if not known:
        now = system_clock()
        known = [status.url for status in _announced(_settings(config, overrides, bootstrap)).of(name, now)]
    outputs = [output.name for output in wanted.outputs]
    with ModelClient(name, known, key=key, tls=tls, clock=time.monotonic) as client:
        try:
            for _ in range(times):
                answer = client.infer(asked["inputs"], outputs, wanted.id)
        except ModelAnswerError as error:
            raise WrongCall(str(error)) from error
        except NoServerError as error:
            raise click.ClickException(str(error)) from error
    print_json(answer)


def _key_in(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise WrongCall(f"--key-file {file}: {error}") from error
    if not (key and key.isascii() and key.isprintable()):
        raise WrongCall(f"--key-file {file}: allowed is one line of signs of ASCII")
    return key


def _authority_in(file: Path | None) -> ssl.SSLContext | None:
    try:
        return None if file is None else ssl.create_default_context(cafile=file)
    except OSError as error:  # ssl's errors are among them
        raise WrongCall(f"--ca-file {file}: {error.strerror or error}; wanted is a PEM file") from error
