"""Orders through the micro-batch: what they become in the ledger, what is told, and what a repeated batch says."""

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pyarrow as pa

from tests.place_driver import Driver
from thalweg.conf.settings import Settings, WarehouseSettings
from thalweg.jobs.accounting.order_audit import OrderAudit
from thalweg.jobs.microbatch.host import Host
from thalweg.jobs.placement.recovery import recover
from thalweg.jobs.runtime.job import Stop
from thalweg.scheduling.again.proposals import SaidSaving
from thalweg.scheduling.world.facts import NodeFacts, WorldFacts
from thalweg.scheduling.world.orders import Drain
from thalweg.streams.broker.publish import OutgoingRecord
from thalweg.streams.broker.range_reader import SCHEMA
from thalweg.streams.contract.messages import Answer, OrderAnswer
from thalweg.sync.ledger.ledger import Ledger

EAST = ("thalweg.status.east", {"type": "heartbeat", "region": "east"})
WEST = ("thalweg.status.west", {"type": "heartbeat", "region": "west"})
TASK = ("thalweg.requests", {"task_id": "t", "per_worker": {"gpus": 1}})


class Desk:
    """Keeps answers."""

    def __init__(self) -> None:
        self.kept: list[Answer | OrderAnswer] = []

    def put(self, answers: Sequence[Answer | OrderAnswer]) -> None:
        self.kept += answers


class Line:
    """A driver's lives over one warehouse, on a clock that is moved by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now_ms, self.batch = folder, 1_000, 0
        self.told: list[OutgoingRecord] = []
        self.desk = Desk()
        self.begin()

    def begin(self) -> None:
        node = {"gpu_model": "A100", "spot": False, "gpus": 2, "cpus": 96.0, "memory_gb": 512.0, "ready": True}
        facts = WorldFacts(
            nodes=[NodeFacts(region=region, node_id="n", **node) for region in ("east", "west")],  # type: ignore[arg-type]
            links={},
            prices={("east", "A100", False): 1.0, ("west", "A100", False): 2.0},
        )
        fresh = iter([facts])
        self.driver = Driver.of(
            settings=Settings(warehouse=WarehouseSettings(path=str(self.folder))),
            ledger=Ledger.claim(str(self.folder)),
            publisher=self,
            facts=lambda: next(fresh, WorldFacts()),
            clock=lambda: self.now_ms,
            stop=Stop(),
            host=Host(),
        )
        self.driver.placer.answers = self.desk  # type: ignore[assignment]

    def publish(self, records: Sequence[OutgoingRecord]) -> None:
        self.told += records

    def close(self) -> None:
        pass

    def take(self, *rows: tuple[str, object], batch: int | None = None, offset: int | None = None) -> pa.Table:
        self.batch += 1
        first = self.batch * 100 if offset is None else offset
        values = [value if isinstance(value, bytes | None) else json.dumps(value).encode() for _, value in rows]
        topics, now_ms = [topic for topic, _ in rows], self.now_ms
        records = pa.Table.from_pylist(
            [
                {"topic": topic, "partition": 0, "offset": first + at, "timestamp_ms": now_ms, "value": value}
                for at, (topic, value) in enumerate(zip(topics, values, strict=True))
            ],
            schema=SCHEMA,
        )  # fmt: skip
        self.driver.take(records, "q", self.batch if batch is None else batch)
        return records

    def order(self, **said: object) -> tuple[str, object]:
        return "thalweg.control", {"who": "ann", **said}

    def rows(self) -> list[dict[str, object]]:
        return self.driver.placer.ledger.batch("q", self.batch).to_pylist()

    def letters(self) -> list[str]:
        headers = [dict(one.headers) for one in self.told if one.topic.endswith("deadletter")]
        return [one["reason"].decode() for one in headers]

    def where(self) -> list[str]:
        return [str(copy.region) for copy in self.driver.placer.world.tasks["t"].copies.values()]


def test_a_drain_is_a_row_with_who_and_what_and_moves_what_runs(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.take(EAST, WEST, TASK)
    assert line.where() == ["east"]
    line.take(line.order(order="drain", region="east", order_id="o1"))
    ordered, revoked, assigned = line.rows()
    assert json.loads(str(ordered["ordered"])) == {
        "subject": "drain/east", "who": "ann", "after": {"type": "drain", "region": "east"}
    }  # fmt: skip
    assert [row["transition"] for row in (ordered, revoked, assigned)] == ["ordered", "revoked", "assigned"]
    assert [one.topic for one in line.told[-2:]] == ["thalweg.assignments.east", "thalweg.assignments.west"]
    answer = line.desk.kept[-1]
    assert isinstance(answer, OrderAnswer)
    assert (answer.answer, answer.subject, answer.order_id) == ("taken", "drain/east", "o1")


def test_what_was_ordered_is_known_after_a_kill_and_from_a_snapshot(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.take(EAST, WEST, line.order(order="drain", region="east", by=9_000))
    line.take(line.order(order="tenant", tenant="x", quota_gpus=1), line.order(order="tenant", tenant="x", weight=2))
    line.begin()
    world = line.driver.placer.world
    assert world.orders.get("drain/east") == Drain(region="east", by_ms=9_000)  # type: ignore[arg-type]
    assert (world.tenants["x"].quota_gpus, world.tenants["x"].weight) == (1.0, 2.0)
    line.take(EAST, WEST, TASK)
    assert line.where() == ["west"]
    again = recover(Ledger.claim(str(tmp_path)), str(tmp_path), {}, 0)
    assert list(again.orders) == list(world.orders)


def test_a_batch_that_comes_again_says_what_it_refused_and_does_nothing_twice(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.take(EAST, WEST, TASK)
    orders = [
        line.order(order="move", task_id="t", region="west"),
        line.order(order="drain", region="nowhere"),
        ("thalweg.control", b'{"order":"tenant","tenant":"x","weight":0}'),
        ("thalweg.control", b'{"order":"price","region":"east","gpu_model":"A100","usd_per_gpu_hour":NaN}'),
        ("thalweg.control", None),
    ]
    line.take(*orders)
    refused = line.letters()
    assert line.where() == ["west"] and len(refused) == 3
    assert "known are east, west" in refused[0] and "weight" in refused[1] and "malformed" in refused[2]
    line.told.clear()
    line.begin()
    line.take(*orders, batch=line.batch, offset=line.batch * 100)
    assert sorted(line.letters()) == sorted(refused)
    assert line.where() == ["west"]


def test_a_topic_that_is_read_once_more_moves_nobody_back(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.take(EAST, WEST, TASK)
    there, back = (line.order(order="move", task_id="t", region=region) for region in ("west", "east"))
    line.take(there, back, offset=10)
    assert line.where() == ["east"]
    line.begin()  # from a checkpoint that was put back
    line.take(there, back, offset=10, batch=77)
    assert line.where() == ["east"] and line.driver.placer.ledger.committed_batch("q") != 77


def test_an_old_move_is_refused(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.take(EAST, WEST, TASK)
    stale = pa.Table.from_pylist(
        [
            {"topic": "thalweg.control", "partition": 0, "offset": 900, "timestamp_ms": line.now_ms, "key": b"k",
             "value": msgspec.json.encode(line.order(order="move", task_id="t", region="west")[1])}
        ],
        schema=SCHEMA,
    )  # fmt: skip
    line.now_ms += 601_000
    line.driver.take(stale, "q", 50)
    assert line.where() == ["east"] and "601 s ago" in line.letters()[-1]


def test_a_notice_drains_its_nodes_by_its_moment_once(tmp_path: Path) -> None:
    line = Line(tmp_path)
    notice = ("thalweg.status.east", {"type": "notice", "region": "east", "nodes": ["n", "gone"], "by": 5_000})
    line.take(EAST, WEST, TASK)
    line.take(notice, notice)
    assert [row["transition"] for row in line.rows()] == ["ordered", "revoked", "assigned"]
    assert line.where() == ["west"]
    assert line.driver.placer.world.orders.get("drain/east/n") == Drain(region="east", node_id="n", by_ms=5_000)  # type: ignore[arg-type]
    line.take(("thalweg.status.east", {"type": "notice", "region": "east", "nodes": ["n"]}))
    assert "without by" in line.letters()[-1]


def test_what_is_taken_back_of_a_place_that_nobody_knows_was_misspelt(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.take(EAST, WEST, line.order(order="drain", region="east"))
    line.take(
        line.order(order="undrain", region="eats"),
        line.order(order="undrain", region="east", node_id="m"),
        line.order(order="price", region="eats", gpu_model="A100", reset=True),
    )
    assert line.letters() == [
        "region 'eats' is not known; known are east, west",
        "node 'm' of east is not known; known are n",
        "region 'eats' is not known; known are east, west",
    ]
    line.take(line.order(order="undrain", region="west"), line.order(order="undrain", region="east"))
    assert [row["reason"] for row in line.rows()] == ["nothing new: nothing stood", "east is drained no more"]


def test_the_job_s_own_sign_of_life_is_no_region_s(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.take(EAST, WEST, ("thalweg.status.control", {"type": "heartbeat", "region": "control"}))
    assert sorted(line.driver.placer.world.regions) == ["east", "west"]


HOUR_MS = 3_600_000


def of_region(region: str, kind: str, **more: object) -> tuple[str, object]:
    return f"thalweg.status.{region}", {"type": kind, "region": region, "task_id": "t", **more}


def test_when_a_price_falls_the_live_job_moves_what_runs_once_with_its_reason_and_saving(tmp_path: Path) -> None:
    line = Line(tmp_path)
    task = ("thalweg.requests", {"task_id": "t", "per_worker": {"gpus": 1}, "expected_s": 36_000})
    line.take(EAST, WEST, task)
    line.take(of_region("east", "accepted", epoch=1), of_region("east", "running", epoch=1))
    line.take(line.order(order="price", region="west", gpu_model="A100", usd_per_gpu_hour=0.1))
    line.now_ms += HOUR_MS
    line.take(EAST, of_region("east", "progress", epoch=1, checkpointed_at=line.now_ms - 60_000))
    line.driver.placer.again.look()
    line.now_ms += 1_000
    line.take(EAST)
    revoked, assigned = line.rows()
    assert [row["transition"] for row in (revoked, assigned)] == ["revoked", "assigned"]
    assert line.where() == ["west"] and [one.topic for one in line.told[-2:]] == [
        "thalweg.assignments.east", "thalweg.assignments.west"
    ]  # fmt: skip
    # By hand: 9 h are left, a minute and the start-up are done again; 9 USD to stay, 0.90 to go and 1 for the move.
    said = SaidSaving.read(str(assigned["reason"]))
    assert said is not None and abs(said.saving_usd - (9.0 - 9.0333 * 0.1 - 1.0)) < 0.001
    told = [one.value for one in line.told]
    line.begin()  # killed before Spark noted the end: what is committed is told again, and nothing is looked at
    line.take(EAST, batch=line.batch - 1)
    assert line.where() == ["west"] and [one.value for one in line.told[len(told) :]] == told[-2:]
    line.take(EAST)
    line.driver.placer.again.look()
    line.take(EAST)
    assert line.where() == ["west"] and line.rows() == []


def test_a_driver_that_ends_with_proposals_loses_them_and_the_next_one_looks_anew(tmp_path: Path) -> None:
    line = Line(tmp_path)
    task = ("thalweg.requests", {"task_id": "t", "per_worker": {"gpus": 1}, "expected_s": 36_000})
    line.take(EAST, WEST, task)
    line.take(of_region("east", "accepted", epoch=1), of_region("east", "running", epoch=1))
    line.take(line.order(order="price", region="west", gpu_model="A100", usd_per_gpu_hour=0.01))
    line.now_ms += HOUR_MS
    line.take(EAST)
    line.driver.placer.again.look()
    line.begin()
    line.take(EAST, WEST)
    assert line.where() == ["east"] and line.rows() == []
    line.now_ms += 60_000
    line.take(EAST)
    line.driver.placer.again.look()
    line.take(EAST)
    assert line.where() == ["west"]


def test_who_asked_something_of_a_task_is_written_down_beside_what_became_of_it(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.take(EAST, WEST, TASK)
    line.take(("thalweg.requests", {"op": "hold", "task_id": "t", "who": "ann"}))
    held, asked = line.rows()
    assert (held["transition"], asked["transition"], asked["task_id"]) == ("held", "ordered", "")
    audited: list[dict[str, object]] = []
    audit = OrderAudit(lambda rows, _: audited.extend(rows), lambda _: None)
    audit.note("ledger", line.driver.placer.ledger.batch("q", line.batch))
    assert [(one["actor"], one["action"], one["subject"], one["outcome"]) for one in audited] == [
        ("ann", "hold-task", "hold-task/t", "done")
    ]
    line.take(("thalweg.requests", {"op": "hold", "task_ids": ["t"], "who": "ann"}))
    assert line.rows() == [], "nothing new is no row"
    line.take(("thalweg.requests", {"op": "release", "task_ids": ["t"], "who": "ann"}))
    assert [row["transition"] for row in line.rows()] == ["released", "ordered"], "of many at once, each"
    line.begin()
    assert not line.driver.placer.world.orders.by_subject, "it stands for nothing after a restart"
    line.take(EAST, ("thalweg.requests", {"task_id": "u", "who": "ann"}))
    assert "who with op 'submit'" in line.letters()[-1]
