"""Take in a batch of telemetry records: what goes into the history, what into quarantine, what to the dead letters.

Pure: the same records give the same three outputs, in the driver, in an executor and in a replay. Every record is
accounted for: each of its samples is in the history or in quarantine, or the record as a whole is refused, and then it
is in quarantine and among the dead letters.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from thalweg.streams.broker.deadletter import RefusedRecord
from thalweg.streams.telemetry.history_rows import history_rows
from thalweg.streams.telemetry.parse import Parsed, UnreadableRecord, parse
from thalweg.streams.telemetry.rules import FieldRule, judge
from thalweg.sync.delta.contracts import QUARANTINE, TELEMETRY
from thalweg.sync.delta.wide_text import wide_text

if TYPE_CHECKING:
    from thalweg.streams.broker.range_reader import Ranges  # its consumer is nothing for the executors

FLOW_NAME = "observe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """What became of a batch of records."""

    history: pa.Table
    """Accepted samples, as rows of `telemetry`."""
    quarantine: pa.Table
    """Refused samples and records, as rows of `quarantine`."""
    refused: tuple[RefusedRecord, ...]
    """Records refused as a whole, for the dead-letter topic."""

    def within(self, ranges: "Ranges") -> "Intake":
        """Leave out what came from other positions."""
        return Intake(
            history=rows_within(self.history, ranges),
            quarantine=rows_within(self.quarantine, ranges),
            refused=tuple(
                record
                for record in self.refused
                if (place := (record.topic, record.partition)) in ranges
                and ranges[place][0] <= record.offset < ranges[place][1]
            ),
        )


def joined(intakes: Iterable[Intake]) -> Intake:
    """Put together what became of the parts of a batch."""
    parts = tuple(intakes)
    return Intake(
        history=pa.concat_tables([TELEMETRY.schema.empty_table(), *(part.history for part in parts)]),
        quarantine=pa.concat_tables([QUARANTINE.schema.empty_table(), *(part.quarantine for part in parts)]),
        refused=tuple(record for part in parts for record in part.refused),
    )


def rows_within(rows: pa.Table, ranges: "Ranges") -> pa.Table:
    """Keep the rows whose position (topic, topic_partition, topic_offset) lies in the ranges."""
    inside = pa.array(np.zeros(rows.num_rows, dtype=bool))
    for (topic, partition), (start, end) in ranges.items():
        here = pc.and_(pc.equal(rows["topic"], topic), pc.equal(rows["topic_partition"], partition))
        offsets = rows["topic_offset"]
        here = pc.and_(here, pc.and_(pc.greater_equal(offsets, start), pc.less(offsets, end)))
        inside = pc.or_(inside, here)
    return rows.filter(inside)


def take_in(records: pa.Table, rules: Sequence[FieldRule], topic_prefix: str) -> Intake:
    """Parse and judge records; one that makes this fail is found by halving, and refused.

    Args:
        records: by the schema `streams.telemetry.record_rows.RECORDS`.
        rules: value rules, in the order in which a broken one is reported.
        topic_prefix: first part of the topics' names.
    """
    try:
        return _take_in(records, parse(records, topic_prefix), rules)
    except MemoryError:
        raise  # says nothing about the records
    except Exception as error:
        if records.num_rows == 0:
            raise
        if records.num_rows == 1:
            reason = f"it cannot be processed ({type(error).__name__}: {str(error)[:500]})"
            refusal = UnreadableRecord(record_row=0, rule="record_can_be_processed", reason=reason)
            nothing = parse(records.slice(0, 0), topic_prefix).samples
            return _take_in(records, Parsed(samples=nothing, refusals=(refusal,)), rules)
        half = records.num_rows // 2
        return joined(take_in(part, rules, topic_prefix) for part in (records.slice(0, half), records.slice(half)))


def _take_in(records: pa.Table, parsed: Parsed, rules: Sequence[FieldRule]) -> Intake:
    verdict = judge(rules, parsed.samples)
    refused = _refused_records(records, parsed)
    rows = [
        _record_row(record, records, refusal.record_row)
        for record, refusal in zip(refused, parsed.refusals, strict=True)
    ]
    rows += _sample_rows(records, verdict.quarantined)
    return Intake(
        history=history_rows(verdict.valid),
        quarantine=pa.Table.from_pylist(rows, schema=QUARANTINE.schema),
        refused=refused,
    )


def _refused_records(records: pa.Table, parsed: Parsed) -> tuple[RefusedRecord, ...]:
    if not parsed.refusals:
        return ()
    wanted = (
        wide_text(records).take(pa.array([refusal.record_row for refusal in parsed.refusals], pa.int64())).to_pylist()
    )
    return tuple(
        RefusedRecord(
            flow=FLOW_NAME,
            rule=refusal.rule,
            reason=refusal.reason,
            topic=record["topic"],
            partition=record["topic_partition"],
            offset=record["topic_offset"],
            key=record["key"],
            value=record["value"],
            received_ms=int(record["received_at"].timestamp() * 1000),
        )
        for refusal, record in zip(parsed.refusals, wanted, strict=True)
    )


def _record_row(refused: RefusedRecord, records: pa.Table, row: int) -> dict[str, Any]:
    return {
        "quarantined_at": _received_us(records, row),
        "flow": refused.flow,
        "rule": refused.rule,
        "reason": refused.reason,
        "topic": refused.topic,
        "topic_partition": refused.partition,
        "topic_offset": refused.offset,
        "sample_index": None,
        "raw": refused.value,
    }


def _sample_rows(records: pa.Table, quarantined: pa.Table) -> list[dict[str, Any]]:
    if quarantined.num_rows == 0:
        return []
    texts: dict[int, list[msgspec.Raw]] = {}
    for row in pc.unique(quarantined["record_row"]).to_pylist():
        texts[row] = _SAMPLE_TEXTS.decode(records["value"][row].as_py()).samples
    columns = ("rule", "reason", "topic", "topic_partition", "topic_offset", "sample_index", "record_row")
    rows = []
    for sample in quarantined.select(columns).to_pylist():
        row = sample.pop("record_row")
        sample["quarantined_at"] = _received_us(records, row)
        sample["flow"] = FLOW_NAME
        sample["raw"] = bytes(texts[row][sample["sample_index"]])
        rows.append(sample)
    return rows


def _received_us(records: pa.Table, row: int) -> int:
    return int(records["received_at"][row].value)


class _SampleTexts(msgspec.Struct):
    samples: list[msgspec.Raw]


_SAMPLE_TEXTS = msgspec.json.Decoder(_SampleTexts)
