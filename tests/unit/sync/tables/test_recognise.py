"""Reading a topic anew adds nothing that a table has already, and leaves out nothing that it has not."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.sync.delta.appender import Appender
from thalweg.sync.delta.contracts import QUARANTINE, TELEMETRY
from thalweg.sync.delta.store import table_uri
from thalweg.sync.tables.recognise import Recogniser, known_until

TOPIC = "thalweg.telemetry.eu"
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


def rows(*records: tuple[int, int], topic: str = TOPIC, samples: int = 2) -> pa.Table:
    """Samples of records, each an offset and the second at which it was received."""
    return pa.Table.from_pylist(
        [
            {
                "day": NOON.date(),
                "region": "eu",
                "topic": topic,
                "topic_partition": 0,
                "topic_offset": offset,
                "sample_index": index,
                "received_at": NOON + timedelta(seconds=second),
            }
            for offset, second in records
            for index in range(samples)
        ],
        schema=TELEMETRY.schema,
    )


def filled(warehouse: Path, table: pa.Table) -> Appender:
    history = Appender(TELEMETRY, str(warehouse))
    history.commit(history.write(table, 0))
    return history


def offsets(table: pa.Table) -> list[int]:
    found: list[int] = table["topic_offset"].to_pylist()
    return found


def test_positions_that_the_table_has_are_left_out_and_the_order_stays(tmp_path: Path) -> None:
    history = filled(tmp_path, rows((0, 0), (1, 1), (2, 2), (4, 4)))
    until = known_until(str(tmp_path))
    assert until == {(TOPIC, 0): 5}
    again = Recogniser(until).fresh(history.uri, TELEMETRY, rows((1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6)))
    assert offsets(again) == [3, 3, 5, 5, 6, 6]


def test_a_topic_made_anew_is_told_from_the_one_before_by_its_records_times(tmp_path: Path) -> None:
    history = filled(tmp_path, rows((0, 0), (1, 1)))
    anew = rows((0, 3_600), (1, 3_601))
    assert Recogniser(known_until(str(tmp_path))).fresh(history.uri, TELEMETRY, anew).num_rows == anew.num_rows
    close = rows((0, 2), (1, 0))  # its times lie among the old ones
    assert Recogniser(known_until(str(tmp_path))).fresh(history.uri, TELEMETRY, close).num_rows == close.num_rows


def test_another_topic_with_the_same_offsets_is_another(tmp_path: Path) -> None:
    history = filled(tmp_path, rows((0, 0), (1, 1)))
    other = rows((0, 0), (1, 1), topic="thalweg.telemetry.us")
    assert Recogniser(known_until(str(tmp_path))).fresh(history.uri, TELEMETRY, other).num_rows == 4


def test_past_the_known_nothing_is_asked_any_more() -> None:
    recogniser = Recogniser({(TOPIC, 0): 5, (TOPIC, 1): 2})
    recogniser.passed({(TOPIC, 0): 4, (TOPIC, 7): 9})
    assert not recogniser.is_done
    recogniser.passed({(TOPIC, 0): 5, (TOPIC, 1): 30})
    assert recogniser.is_done
    assert Recogniser({}).is_done
    new = rows((0, 0))
    assert recogniser.fresh("nowhere", TELEMETRY, new) is new


def test_a_warehouse_without_tables_knows_nothing(tmp_path: Path) -> None:
    assert known_until(str(tmp_path)) == {}


def test_quarantine_is_recognised_too(tmp_path: Path) -> None:
    refused = pa.Table.from_pylist(
        [
            {
                "topic": TOPIC,
                "topic_partition": 0,
                "topic_offset": offset,
                "quarantined_at": NOON,
                "flow": "observe",
                "rule": "json",
                "reason": "no JSON",
            }
            for offset in (3, 4)
        ],
        schema=QUARANTINE.schema,
    )
    quarantine = Appender(QUARANTINE, str(tmp_path))
    quarantine.commit(quarantine.write(refused.slice(0, 1), 0))
    recogniser = Recogniser(known_until(str(tmp_path)) | {(TOPIC, 0): 9})
    assert offsets(recogniser.fresh(table_uri(str(tmp_path), "quarantine"), QUARANTINE, refused)) == [4]


@settings(max_examples=15, deadline=None)
@given(had=st.sets(st.integers(0, 30)), begin=st.integers(0, 30), length=st.integers(0, 20))
def test_whatever_was_there_a_reading_anew_gives_each_record_once(
    tmp_path_factory: object, had: set[int], begin: int, length: int
) -> None:
    warehouse = tmp_path_factory.mktemp("w")  # type: ignore[attr-defined]
    history = filled(warehouse, rows(*((offset, offset) for offset in sorted(had))))
    batch = rows(*((offset, offset) for offset in range(begin, begin + length)))
    fresh = Recogniser(known_until(str(warehouse))).fresh(history.uri, TELEMETRY, batch)
    assert sorted(set(offsets(fresh))) == [offset for offset in range(begin, begin + length) if offset not in had]
