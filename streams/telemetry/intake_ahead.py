"""Take in the records of the next micro-batch while they arrive, so that little is left when the batch is decided.

Parsing and judging half a second of samples was most of a batch's work. What becomes of a record depends on the record
alone (`streams.telemetry.intake`), so it need not wait for its batch: pieces of what has arrived are taken in as they
come, and a batch is put together of the pieces, cut at its offsets, and of the few records that came last.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from thalweg.streams.broker.range_reader import RangeReader, Ranges
from thalweg.streams.telemetry.intake import Intake, joined, rows_within
from thalweg.streams.telemetry.record_rows import to_records

PIECE_EVERY_S: Final = 0.08
"""Between two pieces. The records of half of it, on average, are left for the batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    spans: Ranges
    intake: Intake
    still_wanted: set[tuple[str, int]] = field(default_factory=set)


class IntakeAhead:
    """Keeps the pieces; `step` and `take` may be called from two threads."""

    def __init__(self, reader: RangeReader, take_in: Callable[[pa.Table], Intake]) -> None:
        """Hold both.

        Args:
            reader: of the topics; closed with this.
            take_in: what to do with records by the schema `streams.telemetry.record_rows.RECORDS`.
        """
        self._reader = reader
        self._take_in = take_in
        self._lock = threading.Lock()
        self._pieces: list[_Piece] = []
        self._done: dict[tuple[str, int], int] = {}

    def step(self) -> None:
        """Take in what has arrived since the step before."""
        with self._lock:
            arrived = to_records(self._reader.arrived(self._done))
            if arrived.num_rows == 0:
                return
            spans = _spans(arrived)
            self._pieces.append(_Piece(spans=spans, intake=self._take_in(arrived), still_wanted=set(spans)))
            self._done.update((place, end) for place, (_, end) in spans.items())

    def read(self, ranges: Ranges, timeout_s: float) -> tuple[Intake, pa.Table] | None:
        """Take in exactly these offsets; None when they are not all here in time.

        Returns:
            What became of them, and the records themselves, by the schema `streams.telemetry.record_rows.RECORDS`.
        """
        received = self._reader.read(ranges, timeout_s)
        with self._lock:
            if received is None:
                self._forget(ranges)
                return None
            records = to_records(received)
            parts: list[Intake] = []
            reached = {place: start for place, (start, _) in ranges.items()}
            for piece in self._pieces:
                inside = _meeting(piece.spans, ranges, reached)
                if inside:
                    parts.append(piece.intake if inside == piece.spans else piece.intake.within(inside))
                    reached.update((place, end) for place, (_, end) in inside.items())
            rest = {place: (reached[place], end) for place, (_, end) in ranges.items() if reached[place] < end}
            if rest:
                parts.append(self._take_in(rows_within(records, rest)))
            self._forget(ranges)
            return joined(parts), records

    def close(self) -> None:
        """Stop reading."""
        self._reader.close()

    def _forget(self, ranges: Ranges) -> None:
        """Give up the pieces that lie before the ends of a batch: only a repeated batch asks for them again."""
        for place, (_, end) in ranges.items():
            self._done[place] = max(self._done.get(place, 0), end)
        for piece in self._pieces:
            piece.still_wanted.difference_update(
                place for place, (_, end) in piece.spans.items() if place in ranges and end <= ranges[place][1]
            )
        self._pieces = [piece for piece in self._pieces if piece.still_wanted]


def _spans(records: pa.Table) -> Ranges:
    # On this thread: the shared pool may be busy with somebody's file.
    places = records.group_by(["topic", "topic_partition"], use_threads=False)
    ends = places.aggregate([("topic_offset", "min"), ("topic_offset", "max")])
    return {
        (row["topic"], row["topic_partition"]): (row["topic_offset_min"], row["topic_offset_max"] + 1)
        for row in ends.to_pylist()
    }


def _meeting(spans: Ranges, ranges: Ranges, reached: dict[tuple[str, int], int]) -> Ranges:
    """What a piece adds to a batch of which so much is reached: without holes and without taking anything twice."""
    inside = {}
    for place, (start, end) in spans.items():
        if place in ranges and start <= reached[place] < min(end, ranges[place][1]):
            inside[place] = (reached[place], min(end, ranges[place][1]))
    return inside
