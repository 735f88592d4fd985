"""Who takes in a batch: the driver, or Spark tasks where it is large or a person says so."""

from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest

from thalweg.conf.settings import Settings, load_settings
from thalweg.jobs.telemetry import observer
from thalweg.jobs.telemetry.observer import ForExecutors, Observer, ends_of
from thalweg.sync.delta import contracts
from thalweg.sync.delta.appender import Appender
from thalweg.sync.tables.latest_tables import LatestTables
from thalweg.sync.tables.recognise import Recogniser

PLACE = ("t.telemetry.a", 0)


def observing(folder: Path, settings: Settings, recogniser: Recogniser) -> Observer:
    return Observer(
        settings=settings,
        rules=(),
        history=Appender(contracts.TELEMETRY, str(folder)),
        quarantine=Appender(contracts.QUARANTINE, str(folder)),
        latest=LatestTables(str(folder)),
        checkpoint=str(folder / "no checkpoint"),
        reading=lambda frame, _: cast(Any, f"{frame} by the driver"),
        clock=lambda: 0,
        recogniser=recogniser,
    )


@pytest.mark.parametrize(
    ("writer", "records", "record_bytes", "by_executors"),
    [
        ("driver", 10**9, 10_000, False),
        ("executors", 1, 10, True),
        ("executors", None, 10, True),
        ("auto", None, 10, True),  # how many there are is not known: it may be an outage's backlog
        ("auto", 0, 10_000, False),
        ("auto", 6_400, 10_000, False),  # 64 MB, and no more
        ("auto", 6_401, 10_000, True),
        ("auto", 6_401, 1_000, False),
        ("auto", 64_001, 1_000, True),
    ],
)
def test_a_batch_goes_to_the_executors_where_it_is_large_or_it_is_said(
    writer: str,
    records: int | None,
    record_bytes: float,
    by_executors: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(observer, "records_in_batch", lambda *_: records)
    settings = load_settings(None, (f"observe.writer={writer}", "observe.executors_from_mb=64"))
    one = observing(tmp_path, settings, Recogniser({}))
    one.record_bytes = record_bytes
    taken = one.read(cast(Any, "a batch"), 7)
    assert taken == (ForExecutors(cast(Any, "a batch")) if by_executors else "a batch by the driver")


def test_until_it_is_past_what_an_earlier_query_wrote_the_driver_takes_everything_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observer, "records_in_batch", lambda *_: None)
    recogniser = Recogniser({PLACE: 5})
    one = observing(tmp_path, load_settings(None, ("observe.writer=executors",)), recogniser)
    for end, is_past in ((4, False), (5, True)):
        recogniser.passed({PLACE: end})
        assert isinstance(one.read(cast(Any, "a batch"), 7), ForExecutors) == is_past


def test_a_batch_ends_after_the_last_record_of_each_partition() -> None:
    records = pa.table({"topic": ["a", "a", "b", "a"], "topic_partition": [0, 1, 0, 0], "topic_offset": [3, 9, 0, 4]})
    assert ends_of(records) == {("a", 0): 5, ("a", 1): 10, ("b", 0): 1}
