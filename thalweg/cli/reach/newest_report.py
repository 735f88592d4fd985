"""What a region last reported of a run that is not over yet: the tables do not have it."""

from datetime import datetime, timedelta
from typing import Final

import msgspec

from thalweg.cli.reach.topic_reading import to_the_end
from thalweg.conf.settings import KafkaSettings
from thalweg.query.reports.task_runs import PlacedRun
from thalweg.scheduling.ids import RegionId
from thalweg.streams.broker.consume import KafkaReader
from thalweg.streams.contract.decode import UndecodableError, decoded
from thalweg.streams.contract.messages import StatusEvent
from thalweg.streams.contract.topics import STATUS, topic_name

_STATUS: Final = msgspec.json.Decoder(StatusEvent)
_LATELY: Final = timedelta(seconds=30)
"""Three reports of progress, at the interval that agents have unless they are told another."""
_ABOUT: Final = timedelta(minutes=1)
"""Between a report and the moment it was noted in the ledger, at most, where nothing was down."""


def newest_report(kafka: KafkaSettings, task_id: str, run: PlacedRun, now: datetime) -> StatusEvent | None:
    """Read the newest report of a run that names its log: lately, or when it began.

    Raises:
        StreamError: the broker does not answer, or has no such topic.
    """
    return _within(kafka, task_id, run, now - _LATELY, now) or _within(
        kafka, task_id, run, run.changed_at - _ABOUT, run.changed_at + _ABOUT
    )


def _within(kafka: KafkaSettings, task_id: str, run: PlacedRun, since: datetime, until: datetime) -> StatusEvent | None:
    topic = topic_name(STATUS, kafka.topic_prefix, RegionId(run.region))
    key, newest = task_id.encode(), None
    with KafkaReader(
        kafka, topics=[topic], since_ms=int(since.timestamp() * 1_000), client_id="thalweg-logs"
    ) as reader:
        for record in to_the_end(reader, topic):
            if record.timestamp_ms > until.timestamp() * 1_000:
                break
            if record.key == key:
                newest = _report_of(record.value, run.epoch) or newest
    return newest


def _report_of(value: bytes | None, epoch: int) -> StatusEvent | None:
    try:
        report = decoded(_STATUS, value)
    except UndecodableError:
        return None  # somebody else's record; the place job puts it into the dead-letter topic
    return report if report.epoch == epoch and report.log is not None else None
