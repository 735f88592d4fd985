"""Read a topic from somewhere to its end of now."""

import sys
import time
from collections.abc import Iterator
from typing import Final

import click

from thalweg.streams.broker.consume import IncomingRecord, KafkaReader

_SILENT_S: Final = 10.0
"""A broker that says nothing for so long, with records still to come, is taken to be away."""


def to_the_end(reader: KafkaReader, topic: str) -> Iterator[IncomingRecord]:
    """Yield what lies between the reader's place and the end of now, in the topic's order."""
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
        yield from records
