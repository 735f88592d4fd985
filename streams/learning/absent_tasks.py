"""Requests that end the tasks of participants who do not take part in a run that is over."""

from collections.abc import Sequence
from typing import Final

from thalweg.scheduling.ids import TaskId
from thalweg.streams.broker.publish import OutgoingRecord, outgoing
from thalweg.streams.contract import envelope
from thalweg.streams.contract.messages import TaskRequest
from thalweg.streams.contract.topics import REQUESTS

MOST_IDS: Final = 500
"""In one message, which may have 1 MiB: an id has at most 256 characters, of up to four bytes."""
WHO: Final = "federate"


def cancel_absent(model: str, absent: Sequence[str], prefix: str, now_ms: int) -> list[OutgoingRecord]:
    """Ask that tasks be cancelled; the same tasks have the same ids of records, so asking again is no news.

    Args:
        model: name of the run.
        absent: ids of the tasks.
        prefix: of the topics' names.
        now_ms: told as the event's time.
    """
    records = []
    for first in range(0, len(absent), MOST_IDS):
        ids = [TaskId(name) for name in absent[first : first + MOST_IDS]]
        event = envelope.Envelope(
            event_id=envelope.content_id("absent", model, *ids),
            source="/thalweg/federate",
            event_type="request.cancel",
            time_ms=now_ms,
        )
        request = TaskRequest(op="cancel", task_ids=ids, who=WHO)
        records.append(outgoing(REQUESTS, prefix, request, key=ids[0], event=event))
    return records
