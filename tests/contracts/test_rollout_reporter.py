"""What an edge's reporter does, over a plain store of records and over a region's real replica in its file."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from thalweg.client.replica_client import ReplicaClient
from thalweg.conf.settings import KafkaSettings
from thalweg.learning.rollout.records import (
    DesiredModel,
    ServedVersion,
    desired_key,
    read_reported,
    reported_key,
    value_of,
)
from thalweg.learning.rollout.reporter import Reporter
from thalweg.learning.rollout.waves import answers
from thalweg.sync.protocol.entries import RegionEntry

NOW = 1_700_000_000_000
MODEL, EDGE = "digits", "edge-1"
LAST, NEW = ServedVersion(version="7", sha256="7" * 64), ServedVersion(version="8", sha256="8" * 64)
BOTH = DesiredModel(number=3, serve=LAST, beside=NEW, share=0.5, slow_ms=10.0)


@dataclass(frozen=True)
class Records:
    """Where records are read and written, and how to come back to them after a restart."""

    read: Callable[[str], Mapping[str, Any] | None]
    write: Callable[[str, Mapping[str, Any]], object]

    def reporter(self) -> Reporter:
        return Reporter(MODEL, EDGE, read=self.read, write=self.write)

    def desire(self, wanted: DesiredModel) -> None:
        self.write(desired_key(MODEL, EDGE), value_of(wanted))


@pytest.fixture(params=["dict", "replica"])
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Records]:
    if request.param == "dict":
        held: dict[str, bytes] = {}
        yield Records(
            lambda key: msgspec.json.decode(held[key]) if key in held else None,
            lambda key, value: held.__setitem__(key, msgspec.json.encode(value)),
        )
        return
    client = ReplicaClient("eu", tmp_path / "eu.sqlite", KafkaSettings())
    epoch = client._replica.join(NOW).epoch
    client._replica.apply([RegionEntry(region="eu", epoch=epoch, contiguous=0, centre_ms=NOW)], 1, NOW)
    yield Records(client.read, client.put_value)
    client.close()


def test_before_anything_is_desired_it_says_that_the_edge_is_there(records: Records) -> None:
    reporter = records.reporter()
    assert reporter.desired() is None and reporter.arm("r") == "last"
    reporter.answered("last", latency_ms=1.0)
    said = reporter.reported(NOW)
    assert records.read(reported_key(MODEL, EDGE)) == value_of(said)
    assert (said.number, said.beside, said.last.requests) == (0, None, 0)


def test_it_splits_by_the_coin_counts_by_arm_and_goes_on_after_a_restart(records: Records) -> None:
    records.desire(BOTH)
    for life in range(2):
        reporter = records.reporter()
        assert reporter.desired() == BOTH
        for number in range(100):
            name = f"{life}-{number}"
            arm = reporter.arm(name)
            assert (arm == "new") == answers(3, EDGE, name, 0.5)
            if number == 0:
                reporter.failed(arm)
            else:
                reporter.answered(arm, latency_ms=11.0 if number < 10 else 9.0, odd=number < 5)
                reporter.judged(arm, wrong=number < 3)
        reporter.reported(NOW + life, version="7", sha256="7" * 64)
    value = records.read(reported_key(MODEL, EDGE))
    assert value is not None
    said = read_reported(value)
    assert (said.number, said.beside, said.version) == (3, "8" * 64, "7")
    totals = {name: getattr(said.new, name) + getattr(said.last, name) for name in said.new.__struct_fields__}
    assert totals == {
        "requests": 200, "failed": 2, "slow": 18, "odd": 8, "judged": 198, "wrong": 4, "latency_ms": 2 * (99 + 810),
    }  # fmt: skip
    assert 70 < said.new.requests < 130


def test_with_another_roll_out_counts_begin_at_nothing_and_without_one_nothing_is_counted(records: Records) -> None:
    records.desire(BOTH)
    reporter = records.reporter()
    reporter.desired()
    reporter.answered("new", latency_ms=1.0)
    records.desire(msgspec.structs.replace(BOTH, beside=None, share=0.0))
    reporter.desired()
    reporter.answered("last", latency_ms=1.0)
    assert reporter.arm("r") == "last"
    said = reporter.reported(NOW)
    assert (said.new.requests, said.last.requests) == (1, 0)
    records.desire(msgspec.structs.replace(BOTH, number=4))
    reporter.desired()
    assert reporter.reported(NOW).new.requests == 0


def test_what_cannot_be_obeyed_is_said_and_what_was_desired_before_goes_on(records: Records) -> None:
    records.desire(BOTH)
    reporter = records.reporter()
    reporter.desired()
    records.write(desired_key(MODEL, EDGE), value_of(BOTH) | {"share": 7})
    assert reporter.desired() == BOTH and reporter.trouble is not None and "share" in reporter.trouble
    records.desire(BOTH)
    assert reporter.desired() == BOTH and reporter.trouble is None
