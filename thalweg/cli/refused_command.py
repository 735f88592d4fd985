"""`thalweg refused`: what the jobs could not take, and why, from the dead-letter topic."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from thalweg.cli.reach.reading import WrongCall
from thalweg.cli.reach.said import SAID
from thalweg.cli.reach.topic_reading import to_the_end
from thalweg.cli.terminal import words
from thalweg.cli.terminal.render import Column, Fit, print_json, print_table
from thalweg.conf.settings import KafkaSettings, SettingsError, load_settings
from thalweg.query.sql.as_of import Version, parse_as_of
from thalweg.query.sql.sql_statement import QueryRefusedError
from thalweg.stack.connection import NoBrokerError, bootstrap_option, with_bootstrap, with_broker
from thalweg.streams.broker.consume import KafkaReader
from thalweg.streams.broker.deadletter import RefusedRecord, read_letter
from thalweg.streams.broker.errors import StreamError
from thalweg.streams.contract.decode import UndecodableError, decoded
from thalweg.streams.contract.topics import DEADLETTER, topic_name

_LONGEST_NAMED: Final = 64
"""Characters that people are shown of an id; --json has all."""
_LAST_MS: Final = 253_402_300_799_000  # the end of the year 9999: a record's time may be anything


class _Named(msgspec.Struct):
    """What most messages of ours say of themselves."""

    task_id: str | None = None
    region: str | None = None


class _Asked(msgspec.Struct):
    """What a refused request asked for."""

    task_id: str
    op: str = "submit"


_ASKED: Final = msgspec.json.Decoder(_Asked)
_NAMED: Final = msgspec.json.Decoder(_Named)


@click.command(short_help="List what the jobs refused, and why.")
@click.option("--since", default="1d ago", show_default=True, metavar="TIME", help="2026-11-21T12:00:00Z or '5m ago'.")
@click.option("--task", "task_id", type=SAID, help="Only requests and reports of this task.")
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
        found = list(map(_row, said_once(_letters(settings.kafka, int(moment.timestamp() * 1_000)))))
    except (SettingsError, NoBrokerError, QueryRefusedError) as error:
        raise WrongCall(str(error)) from error
    except StreamError as error:
        raise click.ClickException(str(error)) from error
    rows = [row for row in found if task_id is None or row["what"] == task_id][::-1]
    if as_json:
        print_json({"refused": rows[:limit], "in_all": len(rows)})
        return
    if not rows:
        click.echo(f"Nothing was refused since {since}")
        return
    print_table(_columns(datetime.now(UTC)), rows[:limit])
    click.echo(f"\n{min(limit, len(rows)):,} of {len(rows):,} refused since {since}")


def _columns(now: datetime) -> list[Column]:
    return [
        Column(name="at", title="when", say=words.ago(now), fit=Fit.KEEP, right=True),
        Column(name="what", say=_shortened, fit=Fit.KEEP),
        Column(name="flow", fit=Fit.GO),
        Column(name="topic", fit=Fit.GO),
        Column(name="partition", fit=Fit.GO),
        Column(name="offset", fit=Fit.GO),
        Column(name="reason", fit=Fit.WRAP),
    ]


def _shortened(what: str) -> str:
    """Shorten what somebody else has named: one of any length would make every row as wide."""
    return what if len(what) <= _LONGEST_NAMED else f"{what[: _LONGEST_NAMED - 1]}…"


def said_once(letters: Iterable[RefusedRecord]) -> list[RefusedRecord]:
    """Keep the first of the letters about one record: a job that starts without its checkpoint refuses it again.

    A letter's id says the flow and the position. The value tells apart what lay there in a topic that was made anew.
    """
    once: dict[object, RefusedRecord] = {}
    for order, letter in enumerate(letters):
        ours = (letter.flow, letter.topic, letter.partition, letter.offset, letter.value)
        once.setdefault(ours if letter.offset >= 0 else order, letter)
    return list(once.values())


def refused_submissions(letters: Iterable[RefusedRecord]) -> dict[str, str]:
    """Give the reasons why tasks were refused when they were submitted, by task; of several the newest."""
    found: dict[str, str] = {}
    for letter in letters:
        with suppress(UndecodableError):
            asked = decoded(_ASKED, letter.value)
            if letter.rule == "request" and asked.op == "submit":
                found[asked.task_id] = letter.reason
    return found


def read_refused_submissions(config: Path | None, since: datetime) -> dict[str, str]:
    """Read the reasons from the topic of the broker that the settings name; see `refused_submissions`.

    Raises:
        SettingsError, NoBrokerError, StreamError: they cannot be read.
    """
    settings = with_broker(load_settings(config))
    return refused_submissions(_letters(settings.kafka, int(since.timestamp() * 1_000)))


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
        yield from map(read_letter, to_the_end(reader, topic))
