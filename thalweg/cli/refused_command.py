"""`thalweg refused`: what the jobs could not take, and why, from the dead-letter topic."""

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from thalweg.cli.reading import WrongCall
from thalweg.cli.render import print_json, print_table
from thalweg.conf.settings import KafkaSettings, SettingsError, load_settings
from thalweg.query.as_of import Version, parse_as_of
from thalweg.query.sql_statement import QueryRefusedError
from thalweg.stack.connection import NoBrokerError, bootstrap_option, with_bootstrap, with_broker
from thalweg.streams.broker.consume import KafkaReader
from thalweg.streams.broker.deadletter import RefusedRecord, read_letter
from thalweg.streams.broker.errors import StreamError
from thalweg.streams.contract.decode import UndecodableError, decoded
from thalweg.streams.contract.topics import DEADLETTER, topic_name

_SILENT_S: Final = 10.0
"""A broker that says nothing for so long, with records still to come, is taken to be away."""
_LAST_MS: Final = 253_402_300_799_000  # the end of the year 9999: a record's time may be anything
_COLUMNS: Final = ("at", "flow", "what", "topic", "partition", "offset", "reason")


class _Named(msgspec.Struct):
    """What most messages of ours say of themselves."""

    task_id: str | None = None
    region: str | None = None


_NAMED: Final = msgspec.json.Decoder(_Named)


@click.command(short_help="List what the jobs refused, and why.")
@click.option("--since", default="1d ago", show_default=True, metavar="TIME", help="2026-11-21T12:00:00Z or '5m ago'.")
@click.option("--task", "task_id", help="Only requests and reports of this task.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Newest first.")
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="YAML settings file.")
@click.option("--set", "overrides", multiple=True, metavar="GROUP.FIELD=VALUE", help="One setting; repeatable.")
@bootstrap_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, with the refused records whole.")
def refused(
    since: str,
    task_id: str | None,
    limit: int,
    config: Path | None,
    overrides: tuple[str, ...],
    bootstrap: str | None,
    as_json: bool,
) -> None:
    """List refused requests, reports, telemetry records and state changes, the newest first.

    What a value rule sent to quarantine is in the table `quarantine`. Exit code 0 also where something was refused.

    \b
    Examples:
      thalweg refused
      thalweg refused --task train-1 --since '2h ago'
      thalweg refused --json
    """
    try:
        settings = with_broker(load_settings(config, with_bootstrap(overrides, bootstrap)))
        moment = parse_as_of(since, datetime.now(UTC), "--since")
        if isinstance(moment, Version):
            raise WrongCall(f"--since {since!r}: wanted is a time")
        found = [_row(letter) for letter in _letters(settings.kafka, int(moment.timestamp() * 1_000))]
    except (SettingsError, NoBrokerError, QueryRefusedError) as error:
        raise WrongCall(str(error)) from error
    except StreamError as error:
        raise click.ClickException(str(error)) from error
    rows = [row for row in found if task_id is None or row["what"] == task_id][::-1]
    if as_json:
        print_json({"refused": rows[:limit], "in_all": len(rows)})
        return
    print_table(_COLUMNS, rows[:limit])
    click.echo(f"\n{min(limit, len(rows))} of {len(rows)} refused since {since}")


def _row(letter: RefusedRecord) -> dict[str, Any]:
    try:
        named = decoded(_NAMED, letter.value)
    except UndecodableError:
        named = _Named()
    return {
        "at": datetime.fromtimestamp(min(max(letter.received_ms, 0), _LAST_MS) / 1_000, UTC),
        "flow": letter.flow,
        "what": named.task_id or (letter.key or b"").decode(errors="replace") or named.region or "",
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "rule": letter.rule,
        "reason": letter.reason,
        "value": (letter.value or b"").decode(errors="replace"),
    }


def _letters(kafka: KafkaSettings, since_ms: int) -> Iterator[RefusedRecord]:
    """Read the topic from a moment to its end of now, in its order."""
    topic = topic_name(DEADLETTER, kafka.topic_prefix)
    with KafkaReader(kafka, topics=[topic], since_ms=since_ms, client_id="thalweg-refused") as reader:
        ends = reader.end_offsets()
        heard = time.monotonic()
        while any(reader.position(*place) < end for place, end in ends.items()):
            records = reader.poll(500)
            if records:
                heard = time.monotonic()
            elif time.monotonic() - heard > _SILENT_S:
                click.echo(f"the broker went silent: what follows ends early ({topic})", err=True)
                sys.stderr.flush()
                return
            yield from map(read_letter, records)
