"""Telemetry records into rows: one record with many samples becomes one row per sample, or one refusal with its reason.

The same pure function runs in the driver (on rows collected as Arrow) and in the executors (inside `mapInArrow`), so
both ways of writing give the same rows. Types are judged here and strictly, by the message's own types; whether a
value is believable is a question for the rules (`streams.telemetry.rules`), which refuse one sample and not its whole
record.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, NewType, Union, get_args, get_origin

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from thalweg.streams.contract import moments, topics
from thalweg.streams.contract.decode import words_of
from thalweg.streams.contract.messages import MessageStamp, Sample, TelemetryRecord
from thalweg.streams.telemetry.record_rows import TIMESTAMP

_POSITION: Final = ("topic", "topic_partition", "topic_offset")

# A sample's own fields, with the column type they are parsed into: wide enough for any value the decoder lets through,
# because a value out of range must reach the rules and be quarantined.
_WIDE: Final[Mapping[type, pa.DataType]] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
}


def _base_types(annotation: Any) -> set[type]:
    """Types behind an annotation, without constraints: `Annotated[int, …] | None` gives {int, NoneType}."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _base_types(get_args(annotation)[0])
    if isinstance(annotation, NewType):
        return _base_types(annotation.__supertype__)
    if origin is Literal:
        return {type(value) for value in get_args(annotation)}
    if origin in (Union, UnionType):
        return set().union(*(_base_types(part) for part in get_args(annotation)))
    return {annotation}


# Arrow's and Delta's widest integer; a number beyond it is no count of anything.
_INT64: Final = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


def _without_bounds(name: str, message: type[msgspec.Struct], **replaced: Any) -> type[msgspec.Struct]:
    """Derive a message type that checks types and not bounds; unlike the original it is invisible to the collector."""
    fields: list[tuple[str, Any, Any]] = []
    for field in msgspec.structs.fields(message):
        bases = _base_types(field.type)
        kind: Any = replaced.get(field.name)
        if kind is None:
            (base,) = bases - {NoneType}
            kind = _INT64 if base is int else base
            kind = kind | None if NoneType in bases else kind
        default = msgspec.field() if field.required else msgspec.field(default=field.default)
        fields.append((field.name, kind, default))
    # 25,000 of these live for the length of one batch. Tracked, they would set off full garbage collections of 20 ms.
    return msgspec.defstruct(name, fields, kw_only=True, frozen=True, gc=False)


_Stamp = _without_bounds("Stamp", MessageStamp)
_Sample = _without_bounds("Sample", Sample)
_Record = _without_bounds(
    "TelemetryRecord",
    TelemetryRecord,
    samples=Annotated[list[_Sample], msgspec.Meta(max_length=10_000)],  # type: ignore[valid-type]
    stamp=_Stamp | None,
)
_DECODER: Final = msgspec.json.Decoder(_Record)
_UNREADABLE: Final = (ValueError, RecursionError, TypeError, OverflowError)
_REGION: Final = attrgetter("region")
_SAMPLES: Final = attrgetter("samples")

_SAMPLE_COLUMNS: Final = {
    field.name: _WIDE[(_base_types(field.type) - {NoneType}).pop()] for field in msgspec.structs.fields(Sample)
}


PARSED: Final = pa.schema(
    [
        ("region", pa.string()),
        ("observed_ms", pa.int64()),
        ("stamp_ms", pa.int64()),
        ("stamp_counter", pa.int64()),
        ("stamp_region", pa.string()),
        *((name, kind) for name, kind in _SAMPLE_COLUMNS.items() if name != "observed_at"),
        ("topic", pa.string()),
        ("topic_partition", pa.int32()),
        ("topic_offset", pa.int64()),
        ("sample_index", pa.int32()),
        ("received_at", TIMESTAMP),
        ("ahead_ms", pa.int64()),
        ("record_row", pa.int32()),
    ]
)
"""Rows of `parse`: a sample, its completed stamp, its position, how far its stamp runs ahead of its arrival, and the
row of the record it came from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableRecord:
    """A record that could not be read at all."""

    record_row: int
    rule: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """What became of a batch of records."""

    samples: pa.Table
    """By the schema PARSED, in the order of the records and of the samples within them."""
    refusals: tuple[UnreadableRecord, ...]


def parse(records: pa.Table, topic_prefix: str) -> Parsed:
    """Read records.

    Args:
        records: by the schema RECORDS.
        topic_prefix: first part of the topics' names, needed to tell a topic's region.
    """
    regions = {
        topic: topics.region_of_topic(topic, topics.TELEMETRY, topic_prefix)
        for topic in pc.unique(records["topic"]).to_pylist()
    }
    values = records["value"].to_pylist()
    expected = list(map(regions.__getitem__, records["topic"].to_pylist()))
    try:
        # Most batches hold no bad record, and then no loop of Python's is needed to find that out.
        heads = list(map(_DECODER.decode, values))
        if list(map(_REGION, heads)) == expected:
            samples = _columns(records, range(len(heads)), heads)
            if not _some_in_seconds(samples):
                return Parsed(samples=samples, refusals=())
    except _UNREADABLE:
        pass
    return _parse_one_by_one(records, values, expected)


def _parse_one_by_one(records: pa.Table, values: Sequence[bytes | None], expected: Sequence[str]) -> Parsed:
    """Read records of which some are bad."""
    accepted: list[int] = []
    heads: list[Any] = []
    refusals: list[UnreadableRecord] = []
    for row, (value, region) in enumerate(zip(values, expected, strict=True)):
        try:
            record: Any = _DECODER.decode(value)  # type: ignore[arg-type]
        except _UNREADABLE as error:
            refusals.append(_refusal(row, value, error))
            continue
        if record.region != region:
            refusals.append(
                UnreadableRecord(
                    record_row=row,
                    rule="region_matches_topic",
                    reason=f"region is {record.region[:200]!r}; the topic belongs to {region!r}",
                )
            )
            continue
        if (wrong := _in_seconds(record)) is not None:
            refusals.append(UnreadableRecord(record_row=row, rule="moments_are_milliseconds", reason=wrong))
            continue
        accepted.append(row)
        heads.append(record)
    return Parsed(samples=_columns(records, accepted, heads), refusals=tuple(refusals))


def _some_in_seconds(samples: pa.Table) -> bool:
    """Tell whether some moment was probably meant in seconds: a look at whole columns, for every batch."""
    return any(
        pc.any(pc.and_(pc.greater_equal(ms, moments.FIRST_MS), pc.less(ms, moments.LAST_MS))).as_py()
        for ms in (samples["observed_ms"], samples["stamp_ms"])
    )


def _in_seconds(record: Any) -> str | None:
    """Say of a record which of its moments was probably meant in seconds; None where none was."""
    told = {"observed_at": record.observed_at, "stamp.ms": record.stamp and record.stamp.ms}
    told |= {f"samples[{number}].observed_at": sample.observed_at for number, sample in enumerate(record.samples)}
    return next((wrong for name, ms in told.items() if (wrong := moments.objection(name, ms))), None)


def _refusal(row: int, value: bytes | None, error: Exception) -> UnreadableRecord:
    if value is None:
        return UnreadableRecord(record_row=row, rule="record_has_a_value", reason="the record has no value")
    if isinstance(error, msgspec.ValidationError):
        return UnreadableRecord(record_row=row, rule="types_are_right", reason=str(error))
    return UnreadableRecord(record_row=row, rule="json_is_well_formed", reason=words_of(error, value))


def _columns(records: pa.Table, accepted: Sequence[int], heads: Sequence[Any]) -> pa.Table:
    """Put the accepted records' samples side by side; `accepted` are the rows of `heads`."""
    lists = list(map(_SAMPLES, heads))
    samples = list(chain.from_iterable(lists))
    lengths = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
    head_of_sample = pa.array(np.repeat(np.arange(len(heads)), lengths))
    row_of_sample = pa.array(np.repeat(np.asarray(accepted, dtype=np.int64), lengths))
    first_of_head = np.cumsum(lengths) - lengths
    position = {name: records[name].take(row_of_sample) for name in (*_POSITION, "received_at")}

    def of_head(values: Any, kind: pa.DataType) -> pa.Array:
        return pa.array(values, kind).take(head_of_sample)

    stamps = [head.stamp for head in heads]
    stamped_ms = of_head([stamp and stamp.ms for stamp in stamps], pa.int64())
    stamped_counter = of_head([stamp and stamp.counter for stamp in stamps], pa.int64())
    stamped_region = of_head([stamp and stamp.region for stamp in stamps], pa.string())
    stamped_version = of_head([stamp and stamp.version for stamp in stamps], pa.int64())
    region = of_head(list(map(_REGION, heads)), pa.string())

    columns: dict[str, Any] = {
        name: pa.array(list(map(attrgetter(name), samples)), kind) for name, kind in _SAMPLE_COLUMNS.items()
    }
    received_ms = pc.divide(position["received_at"].cast(pa.int64()), 1000)
    observed_ms = pc.coalesce(
        columns["observed_at"],
        of_head([head.observed_at for head in heads], pa.int64()),
        stamped_ms,
        received_ms,
    )
    # The edge completes the stamp of a plain producer: its own time, and its version to tell two of one millisecond.
    stamp_ms = pc.coalesce(stamped_ms, observed_ms)
    columns |= position | {
        "region": region,
        "observed_ms": observed_ms,
        "stamp_ms": stamp_ms,
        "stamp_counter": pc.coalesce(stamped_counter, columns["version"]),
        "stamp_region": pc.coalesce(stamped_region, region),
        # The newer of the two; a version without meaning stays as it is, for the rules to find.
        "version": pc.if_else(
            pc.fill_null(pc.less(columns["version"], 0), False),
            columns["version"],
            pc.max_element_wise(columns["version"], stamped_version),
        ),
        "sample_index": pa.array(
            (np.arange(len(samples)) - np.repeat(first_of_head, lengths)).astype(np.int32), pa.int32()
        ),
        # Unchecked: a stamp near the end of int64 wraps below zero here and is caught as no moment at all.
        "ahead_ms": pc.subtract(stamp_ms, received_ms),
        "record_row": row_of_sample.cast(pa.int32()),
    }
    return pa.table([columns[name] for name in PARSED.names], schema=PARSED)
