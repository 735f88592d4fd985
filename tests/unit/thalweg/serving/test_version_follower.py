"""Beside the requests: the declared version is followed through a broker and a store that come and go."""

import json
from pathlib import Path
from typing import Any

import msgspec

from tests.unit.thalweg.serving.models import identity, model, version
from thalweg.serving.announcements import GONE_AFTER_MS, Announced
from thalweg.serving.kept_model import KeptModel
from thalweg.serving.model_server import ModelServer
from thalweg.serving.version_follower import MOST_AGAIN_MS, TELL_EVERY_MS, VersionFollower
from thalweg.serving.version_record import FIELD, ModelVersion, TensorSpec, key_of, written
from thalweg.serving.wanted_version import WantedVersion
from thalweg.streams.broker.errors import BrokerUnavailableError
from thalweg.streams.broker.memory import MemoryBroker, MemoryReader
from thalweg.streams.broker.publish import OutgoingRecord
from thalweg.streams.contract.topics import REPLICA, SERVERS, topic_name
from thalweg.streams.learning.payloads import PayloadStore
from thalweg.streams.replication.replica_log import write_entry
from thalweg.sync.protocol.entries import RecordEntry
from thalweg.sync.protocol.records import Record, Register
from thalweg.sync.protocol.stamps import Hlc

PREFIX = "t"
REPLICA_TOPIC, SERVERS_TOPIC = topic_name(REPLICA, PREFIX), topic_name(SERVERS, PREFIX)
ONE, TWO, THREE = model(1), model(2), model(3)


class Stage:
    """A follower beside a broker and a store of payloads, on a clock that the test turns."""

    def __init__(self, folder: Path, region: str = "bern") -> None:
        self.now = 1_000_000
        self.broker = MemoryBroker(clock=lambda: self.now)
        self.broker.create([REPLICA_TOPIC, SERVERS_TOPIC])
        self.away = False
        self.store = PayloadStore(str(folder / "payloads"))
        self.store.put([ONE, TWO, THREE])
        self.fetches = 0
        self.store_away = False
        self.metrics = folder / "metrics.json"
        self.server = ModelServer("m", KeptModel(folder / "kept"), timer=iter(range(10**9)).__next__)
        self.follower = VersionFollower(
            server=self.server, name="s1", region=region, url="http://h:1", prefix=PREFIX, connect=self.connect,
            get=self.get, clock=lambda: self.now, steady=lambda: self.now, metrics=self.metrics,
        )  # fmt: skip
        self.region = region

    def connect(self) -> tuple[WantedVersion, Any]:
        if self.away:
            raise BrokerUnavailableError("h:9092", OSError("nobody"))
        return WantedVersion(NotWaiting(self), "m", self.region), self.broker

    def get(self, name: str) -> bytes:
        self.fetches += 1
        if self.store_away:
            raise OSError("the store is away")
        return self.store.get(name)

    def declare(self, key: str, wanted: ModelVersion | dict[str, Any] | None) -> None:
        at = Hlc(self.now, 0, "x")
        value = written(wanted) if isinstance(wanted, ModelVersion) else wanted
        record = (
            Record(key=key, deleted=at)
            if wanted is None
            else Record(key=key, written=at, last={FIELD: Register(value, at)})
        )
        entry = write_entry(RecordEntry(record))
        self.broker.publish([OutgoingRecord(topic=REPLICA_TOPIC, key=entry.key, value=entry.value)])

    def steps(self, count: int = 3, each_ms: int = 100) -> None:
        for _ in range(count):
            self.follower.step()
            self.now += each_ms

    @property
    def serves(self) -> int:
        serving = self.server.serving
        return 0 if serving is None else serving.version.version

    def announced(self) -> Announced:
        found = Announced(MemoryReader(self.broker, topics=[SERVERS_TOPIC]))
        found.refresh()
        return found


class NotWaiting:
    """A reader that is away when its stage says so, and never waits."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.reader = MemoryReader(stage.broker, topics=[REPLICA_TOPIC])

    def poll(self, timeout_ms: int) -> Any:
        if self.stage.away:
            raise BrokerUnavailableError("h:9092", OSError("nobody"))
        return self.reader.poll(0)

    def close(self) -> None:
        self.reader.close()


def test_a_region_serves_its_own_record_before_that_of_all(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.declare(key_of("other"), version(9, THREE))
    stage.steps()
    assert stage.serves == 0
    stage.declare(key_of("m"), version(1, ONE))
    stage.steps()
    assert stage.serves == 1
    stage.declare(key_of("m", "bern"), version(2, TWO))
    stage.declare(key_of("m", "oslo"), version(3, THREE))
    stage.steps()
    assert stage.serves == 2
    stage.declare(key_of("m", "bern"), None)
    stage.steps()
    assert stage.serves == 1, "without its own, a region serves what all do"
    stage.declare(key_of("m"), None)
    stage.steps()
    assert stage.serves == 1, "what is declared no more goes on"


def test_a_record_that_declares_nothing_changes_nothing_and_is_told(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.declare(key_of("m"), version(1, ONE))
    stage.steps()
    stage.declare(key_of("m"), written(version(2, TWO)) | {"version": 0})
    stage.steps(30)
    assert stage.serves == 1
    assert "declares no version that can be served" in stage.follower.status().trouble
    stage.declare(key_of("m"), version(3, THREE))
    stage.steps(30)
    assert (stage.serves, stage.follower.status().trouble) == (3, "")


def test_while_the_broker_is_away_what_serves_goes_on_and_then_it_catches_up(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.declare(key_of("m"), version(1, ONE))
    stage.steps()
    stage.away = True
    stage.declare(key_of("m"), version(2, TWO))
    stage.steps(50)
    assert stage.serves == 1
    stage.away = False
    stage.steps(2, MOST_AGAIN_MS)
    assert stage.serves == 2


def test_a_server_that_starts_while_everything_is_away_serves_what_served_last(tmp_path: Path) -> None:
    before = Stage(tmp_path)
    before.declare(key_of("m"), version(2, TWO))
    before.steps()
    after = Stage(tmp_path)
    after.away = after.store_away = True
    after.server.take_up()
    after.steps(20)
    assert after.serves == 2
    assert json.loads(after.metrics.read_text())["version"] == 2


def test_a_store_that_is_away_is_asked_again_less_and_less_often(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.declare(key_of("m"), version(1, ONE))
    stage.steps()
    stage.store_away, before = True, stage.fetches
    stage.declare(key_of("m"), version(2, TWO))
    stage.steps(600)  # a minute
    tries = stage.fetches - before
    assert 3 <= tries <= 7, tries
    assert "the store is away" in stage.follower.status().trouble
    stage.declare(key_of("m"), version(3, THREE))
    stage.store_away = False
    stage.steps(2)
    assert stage.serves == 3, "another version is tried at once"


def test_a_refused_version_is_told_and_fetched_once(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.declare(key_of("m"), version(1, ONE))
    stage.steps()
    stage.store.put([b"no model"])
    stage.declare(key_of("m"), version(2, b"no model"))
    before = stage.fetches
    stage.steps(300)
    status = stage.follower.status()
    assert (stage.fetches - before, status.version, status.wanted_version) == (1, 1, 2)
    assert "no ONNX model" in status.trouble


def test_a_version_that_asks_for_more_than_memory_has_is_refused_and_the_next_one_serves(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.declare(key_of("m"), version(1, ONE))
    stage.steps()
    huge = identity([1, 2**50])
    stage.store.put([huge])
    asked = (TensorSpec(name="x", datatype="FP32", shape=(1, 2**50)),)
    stage.declare(key_of("m"), version(2, huge, inputs=asked))
    stage.steps(30)
    assert stage.serves == 1
    assert "1,125,899,906,842,624 values at least" in stage.follower.status().trouble
    stage.declare(key_of("m"), version(3, THREE))
    stage.steps()
    assert (stage.serves, stage.follower.status().trouble) == (3, "")


def test_what_nobody_expects_is_told_and_the_follower_goes_on(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.declare(key_of("m"), version(1, ONE))
    right = stage.follower.get

    def wrong(name: str) -> bytes:
        raise RuntimeError(f"nobody thought of {name[:2]}")

    stage.follower.get = wrong
    stage.steps(2 * TELL_EVERY_MS // 100)
    assert stage.follower.status().trouble.startswith("store: RuntimeError: nobody thought of")
    (said,) = stage.announced().all().values()
    assert said[1].trouble.startswith("store: RuntimeError")
    stage.follower.get = right
    stage.steps(2, MOST_AGAIN_MS)
    assert (stage.serves, stage.follower.status().trouble) == (1, "")


def test_servers_are_known_by_what_they_say_until_they_go_or_fall_silent(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.steps(1)
    assert stage.announced().of("m", stage.now) == [], "a server without a version answers nobody"
    stage.declare(key_of("m"), version(1, ONE))
    stage.steps(2 * TELL_EVERY_MS // 100)
    (told,) = stage.announced().of("m", stage.now)
    assert (told.server, told.region, told.url, told.version) == ("s1", "bern", "http://h:1", 1)
    assert told.figures["version"] == 1
    assert stage.announced().of("n", stage.now) == []
    stage.broker.publish([OutgoingRecord(topic=SERVERS_TOPIC, key=b"m/s2", value=b"nonsense")])
    other = told.__class__(**{**msgspec.structs.asdict(told), "server": "s2"})
    stage.now += GONE_AFTER_MS
    stage.broker.publish([OutgoingRecord(topic=SERVERS_TOPIC, key=b"m/s2", value=msgspec.json.encode(other))])
    stage.now += 1
    assert [one.server for one in stage.announced().of("m", stage.now)] == ["s2"], "who is silent is not asked"
    stage.now += 10 * GONE_AFTER_MS
    assert len(stage.announced().of("m", stage.now)) == 2, "where all are, it is the broker that was away"
    stage.follower.say_gone()
    assert [one.server for one in stage.announced().of("m", stage.now)] == ["s2"]


def test_a_server_that_leaves_tells_no_version(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "zürich")
    stage.declare(key_of("m"), version(1, ONE))
    stage.steps()
    stage.server.leaving = True
    assert stage.follower.status().version == 0
