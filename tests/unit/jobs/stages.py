"""The three jobs' real decisions and steps over real tables in a folder; Spark, Kafka and the clock are not there.

Each stage is one job with one batch to take. `begin` starts another life from what was committed, `take` gives it the
batch, `effects` tells everything that anybody outside can see.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from tests.place_driver import Driver
from tests.unit.jobs.replication.test_replicator import Stage as ReplicationStage
from tests.unit.jobs.replication.test_replicator import put
from thalweg.conf.settings import Settings, WarehouseSettings
from thalweg.jobs.microbatch.dead_letters import DeadLetters
from thalweg.jobs.microbatch.host import Host
from thalweg.jobs.microbatch.microbatch import Microbatch
from thalweg.jobs.placement import placer
from thalweg.jobs.replication import replicator
from thalweg.jobs.runtime.job import Stop
from thalweg.jobs.telemetry import observer
from thalweg.scheduling.world.world import NodeFacts, World
from thalweg.streams.broker.publish import OutgoingRecord
from thalweg.streams.broker.range_reader import SCHEMA
from thalweg.streams.telemetry import intake
from thalweg.streams.telemetry.parse import PARSED
from thalweg.streams.telemetry.record_rows import to_records
from thalweg.streams.telemetry.rules import load_rules
from thalweg.sync.centre import centre
from thalweg.sync.delta import contracts
from thalweg.sync.delta.appender import Appender
from thalweg.sync.delta.store import table_uri
from thalweg.sync.ledger.ledger import Ledger
from thalweg.sync.protocol.changes import Assign, Delete
from thalweg.sync.tables.latest_tables import LatestTables
from thalweg.sync.tables.recognise import Recogniser
from thalweg.sync.tables.world_tables import WorldFacts

NOW_MS: Final = 1_700_000_000_000
POISON: Final = "poison"
RULES: Final = load_rules(Path("conf/rules/telemetry.yaml"), PARSED.names, {"future_limit_ms": 60_000})


class Patience(Stop):
    """Waits without time passing; asked to stop after so many waits."""

    def __init__(self, waits: int = 100) -> None:
        super().__init__()
        self.waits = waits

    def wait(self, seconds: float) -> bool:
        self.waits -= 1
        return self.waits < 0


class Topics:
    """A broker as a list."""

    def __init__(self) -> None:
        self.records: list[OutgoingRecord] = []

    def publish(self, records: Sequence[OutgoingRecord]) -> None:
        self.records += records

    def close(self) -> None:
        pass

    def seen(self) -> set[tuple[str, bytes | None, bytes | None]]:
        """What consumers see: repetitions are known by their ids."""
        return {(record.topic, dict(record.headers)["ce_id"], record.value) for record in self.records}

    def letters(self) -> dict[bytes, str]:
        """Reasons of the dead letters, by the offset of what was refused."""
        letters = [dict(record.headers) for record in self.records if record.topic.endswith("deadletter")]
        return {letter["offset"]: letter["reason"].decode() for letter in letters}


class Frame:
    """What Spark would give to `foreachBatch`."""

    def __init__(self, records: Any) -> None:
        self.records = records
        self.sparkSession = self.sparkContext = self

    def getLocalProperty(self, _name: str) -> str:  # noqa: N802
        return "q"


class JobStage(Protocol):
    """One job with one batch."""

    order: Sequence[str]
    batches: Microbatch[Any]
    topics: Topics
    refused: set[bytes]
    """Offsets that are refused whatever happens; the poisonous record's is `poison_at`."""
    poison_at: bytes

    def begin(self, stop: Stop | None = None) -> None: ...

    def frame(self) -> Frame: ...

    def effects(self) -> Any: ...

    def spoil(self, patch: pytest.MonkeyPatch) -> None: ...


def rows(folder: Path, table: str, *without: str) -> list[str]:
    """A table's rows as sorted texts; columns that a repetition may change are left out."""
    try:
        found = DeltaTable(table_uri(str(folder), table)).to_pyarrow_table().to_pylist()
    except Exception:
        return []
    return sorted(str({name: value for name, value in row.items() if name not in without}) for row in found)


def kafka_rows(topic_and_values: Sequence[tuple[str, bytes]]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {"topic": topic, "partition": 0, "offset": offset, "timestamp_ms": NOW_MS, "key": b"k", "value": value}
            for offset, (topic, value) in enumerate(topic_and_values)
        ],
        schema=SCHEMA,
    )


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


class PlaceStage:
    """Two requests for a node of eight GPUs, one that is no JSON and one that is too large; and the poisonous one.

    An earlier life has committed a batch and told nobody.
    """

    order = placer.ORDER
    refused = frozenset({b"3", b"4"})
    poison_at = b"5"
    HEARTBEAT: Final = ("thalweg.status.east", as_json({"type": "heartbeat", "region": "east"}))

    def __init__(self, folder: Path) -> None:
        self.folder, self.host, self.topics = folder, Host(), Topics()
        self.begin()
        asked = ("thalweg.requests", as_json({"task_id": "earlier", "per_worker": {"gpus": 1}}))
        self.batches(Frame(kafka_rows([self.HEARTBEAT, asked])), 6)
        self.topics = Topics()  # nobody has heard of it
        self.begin()

    def begin(self, stop: Stop | None = None) -> None:
        node = NodeFacts(
            region="east", node_id="n", gpu_model="A100", spot=False, gpus=8, cpus=96.0, memory_gb=512.0, ready=True
        )
        facts = iter([WorldFacts(nodes=[node], links={}, prices={("east", "A100", False): 2.0})])
        self.driver = Driver.of(
            settings=Settings(warehouse=WarehouseSettings(path=str(self.folder))),
            ledger=Ledger.claim(str(self.folder)),
            publisher=self.topics,
            facts=lambda: next(facts, WorldFacts()),
            clock=lambda: NOW_MS,
            stop=stop or Patience(),
            host=self.host,
        )
        self.batches = self.driver.batches

    def frame(self) -> Frame:
        gpu = {"per_worker": {"gpus": 1}}
        asked = "thalweg.requests"
        return Frame(
            kafka_rows(
                [
                    self.HEARTBEAT,
                    (asked, as_json({"task_id": "t", **gpu})),
                    (asked, as_json({"task_id": "u", **gpu})),
                    (asked, b"no JSON"),
                    (asked, as_json({"task_id": "big", "per_worker": {"gpus": 8}, "workers": 100_000})),
                    (asked, as_json({"task_id": POISON, **gpu})),
                ]
            )
        )

    def effects(self) -> Any:
        return rows(self.folder, "decisions", "driver_epoch"), self.topics.seen()

    def spoil(self, patch: pytest.MonkeyPatch) -> None:
        follow = World.follow

        def fails(world: World, row: Any) -> Any:
            if row.task_id == POISON:
                raise ZeroDivisionError("not thought of")
            return follow(world, row)

        patch.setattr(World, "follow", fails)


class ObserveStage:
    """Good samples, one that breaks a rule, a record that is no JSON; and the poisonous one."""

    order = observer.ORDER
    refused = frozenset({b"2"})
    poison_at = b"3"

    def __init__(self, folder: Path) -> None:
        self.folder, self.topics = folder, Topics()
        self.begin()

    def begin(self, stop: Stop | None = None) -> None:
        self.latest = LatestTables(str(self.folder))
        made = observer.Observer(
            settings=Settings(warehouse=WarehouseSettings(path=str(self.folder))),
            rules=RULES,
            history=Appender(contracts.TELEMETRY, str(self.folder)),
            quarantine=Appender(contracts.QUARANTINE, str(self.folder)),
            latest=self.latest,
            checkpoint=str(self.folder / "no checkpoint"),
            reading=lambda frame, _: taken_in(frame.records),
            clock=lambda: NOW_MS,
            recogniser=Recogniser({}),
        )
        self.batches = Microbatch(
            job="observe",
            order=observer.ORDER,
            read=lambda frame, _: taken_in(frame.records),
            decide=made.decide,
            dead_letters=DeadLetters("thalweg", lambda: self.topics),
            stop=stop or Patience(),
        )

    def frame(self) -> Frame:
        def sample(node_id: str, gpus: int) -> dict[str, object]:
            return {"kind": "node", "node_id": node_id, "gpu_model": "A100", "gpus": gpus, "state": "ready"}

        def record(*samples: dict[str, object]) -> bytes:
            return as_json({"region": "east", "stamp": {"ms": NOW_MS}, "samples": samples})

        topic = "thalweg.telemetry.east"
        values = [
            record(sample("a", 8), sample("b", -1)),
            record(sample("c", 4)),
            b"no JSON",
            record(sample(POISON, 1)),
        ]
        return Frame(kafka_rows([(topic, value) for value in values]))

    def effects(self) -> Any:
        self.latest.write()
        tables = ("telemetry", "quarantine", "nodes")
        return [rows(self.folder, table) for table in tables], self.topics.seen()

    def spoil(self, patch: pytest.MonkeyPatch) -> None:
        judge = intake.judge

        def fails(rules: Any, samples: pa.Table) -> Any:
            if POISON in samples["node_id"].to_pylist():
                raise ZeroDivisionError("not thought of")
            return judge(rules, samples)

        patch.setattr(intake, "judge", fails)


def taken_in(received: pa.Table) -> observer.TakenIn:
    records = to_records(received)
    return intake.take_in(records, RULES, "thalweg"), records


class ReplicateStage:
    """Two regions that write one key without knowing of each other, what cannot be read, and the poisonous one."""

    order = replicator.ORDER
    poison_at = b""

    def __init__(self, folder: Path) -> None:
        self.stage = stage = ReplicationStage(folder)
        self.folder, self.topics = folder, Topics()
        stage.letters = self.topics
        eu, us = stage.join("eu"), stage.join("us")
        put(eu, "k", Assign("f", 1))
        put(us, "k", Assign("f", 2))
        put(us, "gone", Delete())
        said = stage.said(eu, us)
        plain = as_json({"key": "n", "value": {"n": 1}, "policies": {"n": "counter"}, "observed_at": stage.now})
        ahead = as_json({"key": "early", "value": 1, "observed_at": stage.now + 300_000})
        years_ahead = as_json({"key": "k", "value": 1, "observed_at": stage.now + 10**11})
        poison = as_json({"key": POISON, "value": {"f": 1}, "observed_at": stage.now})
        more = stage.inputs("ap", [plain, b"no JSON", years_ahead, ahead, poison])
        self.records = [*said, *more]
        self.refused = frozenset(str(record.offset).encode() for record in more[1:3])
        self.poison_at = str(more[-1].offset).encode()
        self.batches = stage.batches

    def begin(self, stop: Stop | None = None) -> None:
        self.stage.restart(stop or Patience())
        self.batches = self.stage.batches

    def frame(self) -> Frame:
        return Frame(self.records)

    def effects(self) -> Any:
        tables = [
            rows(self.folder, "records", "updated_at"),
            rows(self.folder, "conflicts", "found_at"),
            rows(self.folder, "sync_gaps", "asked_at"),
            rows(self.folder, "sync_refused", "at"),
            # The count of conflicts misses those of a batch that was killed behind them; the table has them.
            rows(self.folder, "sync_regions", "position", "lag", "image", "conflicts"),
        ]
        # Readers of the replica topic keep the newest record of each key.
        compacted = {record.key: record.value for record in self.stage.log.records if record.key[:1] != b"\0"}
        return tables, compacted, self.topics.seen()

    def spoil(self, patch: pytest.MonkeyPatch) -> None:
        merge_key = centre.merge_key

        def fails(known: Any, recent: Any, items: Sequence[Any], *rest: Any) -> Any:
            if items[0].key == POISON:
                raise ZeroDivisionError("not thought of")
            return merge_key(known, recent, items, *rest)

        patch.setattr(centre, "merge_key", fails)


STAGES: Final = {"place": PlaceStage, "observe": ObserveStage, "replicate": ReplicateStage}
