"""What arrives never stops `place`: it is taken, or refused with a reason, and the records beside it are taken."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.jobs.test_place_batch import BEAT, Outbox, placer, received, shifted
from thalweg.scheduling.decisions import decide
from thalweg.scheduling.world.tasks import Transition
from thalweg.scheduling.world.world import World
from thalweg.streams.broker.publish import check_sizes
from thalweg.sync.delta.store import AnotherWriterError
from thalweg.sync.ledger.folds import fold_ledger
from thalweg.sync.ledger.ledger import OFFSETS

REQUESTS, STATUS = "thalweg.requests", "thalweg.status.east"
GPU = {"per_worker": {"gpus": 1}}


def request(task_id: str, **fields: Any) -> tuple[str, object]:
    return REQUESTS, {"task_id": task_id, **GPU, **fields}


def refused(outbox: Outbox) -> dict[bytes, str]:
    letters = [record for record in outbox.records if record.topic == "thalweg.deadletter"]
    return {dict(letter.headers)["offset"]: dict(letter.headers)["reason"].decode() for letter in letters}


HOSTILE = [
    b'{"task_id":"x","loss":1e400}',
    b'{"task_id":"x","deep":' + b"[" * 1_100 + b"]" * 1_100 + b"}",
    b'{"task_id":"x","text":"\xff"}',
    b'{"task_id":"x","big":' + b"9" * 5_000 + b"}",
    b'{"task_id":"x","text":"\\ud800"}',
    b"\xff\xfe{}",
    b"",
]


def test_each_hostile_record_is_one_dead_letter_and_the_rest_is_placed(tmp_path: Path) -> None:
    job, outbox = placer(tmp_path)
    statuses = [(STATUS, value) for value in HOSTILE]
    batch = received(BEAT, request("before"), *((REQUESTS, value) for value in HOSTILE), *statuses, request("after"))
    job.take(batch, "q", 0)
    assert len(refused(outbox)) == 2 * len(HOSTILE)
    assert all(refused(outbox).values())
    assert {row["task_id"] for row in job.placer.ledger.batch("q", 0).to_pylist()} == {"before", "after"}
    assert sum("assignments" in record.topic for record in outbox.records) == 2


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
WORKER = st.fixed_dictionaries(
    {}, optional={name: VALUES | st.integers(0, 9) for name in ("gpus", "gpu_milli", "cpus")}
)
MESSAGE = st.fixed_dictionaries(
    {"task_id": st.sampled_from(["t", "u", "\0", "é"]) | VALUES},
    optional={
        "op": st.sampled_from(["submit", "update", "cancel"]) | VALUES,
        "per_worker": WORKER | VALUES,
        "workers": st.integers(0, 5) | VALUES,
        "replicas": st.integers(0, 3) | VALUES,
        "priority": st.integers(0, 1_000) | VALUES,
        "max_usd_per_hour": VALUES,
        "deadline": VALUES,
        "data": VALUES | st.just([{"region": "nowhere", "size_gb": 1e9}]),
        "subtasks": VALUES | st.lists(st.fixed_dictionaries({"subtask_id": st.text(max_size=2), "per_worker": WORKER})),
        "unknown": VALUES,
    },
)
REPORT = st.fixed_dictionaries(
    {"type": st.sampled_from(["running", "failed", "succeeded", "evicted", "inventory"]), "region": st.just("east")},
    optional={
        "task_id": st.sampled_from(["t", "u"]) | VALUES,
        "epoch": st.integers(0, 4) | VALUES,
        "tasks": VALUES | st.lists(st.tuples(st.sampled_from(["t", "u", "z"]), st.integers(0, 2**53))),
        "detail": VALUES,
    },
)


def as_json(value: object) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


RECORD = st.one_of(
    st.tuples(st.just(REQUESTS), st.binary(max_size=30) | MESSAGE.map(as_json)),
    st.tuples(st.just(STATUS), st.binary(max_size=30) | REPORT.map(as_json)),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=st.lists(RECORD, max_size=6))
def test_whatever_arrives_the_batch_ends_the_next_one_is_planned_and_a_restart_works(
    records: list[tuple[str, object]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    job, _ = placer(folder)
    job.take(received(BEAT, *records), "q", 0)
    job.take(shifted(received(BEAT, *records, request("good")), 100), "q", 1)
    again, outbox = placer(folder)
    assert {name: task.state for name, task in again.placer.world.tasks.items()} == {
        name: task.state for name, task in job.placer.world.tasks.items()
    }
    fold_ledger(pa.concat_tables(list(again.placer.ledger.all_rows())))
    again.take(shifted(received(BEAT, request("later", per_worker={"gpus": 0})), 200), "q", 2)
    assert {"good", "later"} <= again.placer.world.tasks.keys()
    assert sum("assignments" in record.topic for record in outbox.records) >= 1


# What no decoder can foresee: code of ours that fails on a record


def failing(call: Callable[..., Any], task_id: str) -> Callable[..., Any]:
    def instead(world: World, *rest: Any) -> Any:
        if task_id in rest or getattr(rest[0], "task_id", None) == task_id:
            raise ZeroDivisionError("not thought of")
        return call(world, *rest)

    return instead


def test_a_record_that_cannot_be_judged_is_refused_on_the_spot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide, "submit", failing(decide.submit, "poison"))
    job, outbox = placer(tmp_path)
    job.take(received(BEAT, request("t"), request("poison"), request("u")), "q", 0)
    assert refused(outbox) == {b"2": "it cannot be processed (ZeroDivisionError: not thought of)"}
    assert job.placer.world.tasks.keys() == {"t", "u"}


def test_a_record_that_breaks_the_world_costs_one_life_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(World, "follow", failing(World.follow, "poison"))
    batch = received(BEAT, request("t"), request("poison"), request("u"))
    first, outbox = placer(tmp_path)
    with pytest.raises(ZeroDivisionError):
        first.take(batch, "q", 0)
    assert outbox.records == [] and first.placer.ledger.committed_batch("q") is None
    second, outbox = placer(tmp_path, host=first.placer.host)
    second.take(batch, "q", 0)
    assert refused(outbox).keys() == {b"2"}
    assert second.placer.world.tasks.keys() == {"t", "u"}


def test_a_record_whose_rows_cannot_be_written_is_found_and_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = decide.submit

    def beyond_the_column(*arguments: Any) -> Any:
        made = submit(*arguments)
        if arguments[1] != "poison" or isinstance(made, decide.Refused):
            return made
        return [Transition(**{name: getattr(row, name) for name in row.__slots__} | {"attempt": 2**40}) for row in made]

    monkeypatch.setattr(decide, "submit", beyond_the_column)
    batch = received(BEAT, request("t"), request("poison"), request("u"))
    first, outbox = placer(tmp_path)
    with pytest.raises((OverflowError, pa.ArrowInvalid)):
        first.take(batch, "q", 0)
    assert outbox.records == [] and first.placer.ledger.committed_batch("q") is None
    second, outbox = placer(tmp_path, host=first.placer.host)
    second.take(batch, "q", 0)
    assert refused(outbox).keys() == {b"2"}
    assert second.placer.world.tasks.keys() == {"t", "u"}
    outbox.records.clear()
    second.take(batch, "q", 0)
    assert refused(outbox).keys() == {b"2"}


def test_a_request_as_large_as_its_topic_allows_is_placed_and_one_whose_event_would_not_fit_is_refused(
    tmp_path: Path,
) -> None:
    job, outbox = placer(tmp_path)
    many = [{"subtask_id": str(number), "workers": 10_000} for number in range(2)]
    batch = received(
        BEAT, request("large", command=["x" * 1_048_000]), (REQUESTS, {"task_id": "many", "subtasks": many})
    )
    job.take(batch, "q", 0)
    assert [record.key for record in outbox.records if "assignments" in record.topic] == [b"large"]
    check_sizes(outbox.records)
    assert "allowed are 20,971,520" in refused(outbox)[b"2"]
    outbox.records.clear()
    placer(tmp_path)[0].take(batch, "q", 0)


# A batch id is believed only with its offsets


def test_a_checkpoint_that_was_put_back_drops_nothing_and_runs_nothing_twice(tmp_path: Path) -> None:
    job, _ = placer(tmp_path)
    for number, task in enumerate(("a", "b", "c")):
        job.take(shifted(received(BEAT, request(task)), 10 * number), "q", number)
    again, outbox = placer(tmp_path)
    # The topic has grown since the copy of the checkpoint was made: batch 1 is now b, c and a new one.
    grown = pa.concat_tables(
        [
            shifted(received(BEAT, request("b")), 10),
            shifted(received(BEAT, request("c")), 20),
            shifted(received(BEAT, request("new"), ("thalweg.requests", b"no request")), 30),
        ]
    )
    again.take(grown, "q", 1)
    keys = [record.key for record in outbox.records if "assignments" in record.topic]
    assert keys == [b"c", b"new"], "the last batch is told once more, with its ids and epochs"
    assert len(refused(outbox)) == 1
    assert again.placer.ledger.committed_batch("q") == 1
    # The batch that was decided anew is believed from now on, also by the next driver.
    later, outbox = placer(tmp_path)
    later.take(grown, "q", 1)
    assert [record.key for record in outbox.records if "assignments" in record.topic] == [b"new"]
    assert later.placer.world.tasks.keys() == {"a", "b", "c", "new"}
    assert all(len(task.copies) == 1 and task.epoch == 1 for task in later.placer.world.tasks.values())


def test_old_updates_that_arrive_again_undo_nothing(tmp_path: Path) -> None:
    job, first = placer(tmp_path)
    asked = received(
        BEAT, request("t"), request("t", op="update", priority=7), request("t", op="update", priority=9),
        request("gone", op="cancel"), request("gone"),
    )  # fmt: skip
    job.take(asked, "q", 0)
    assert job.placer.world.tasks["t"].spec.priority == 9
    epochs = {name: task.epoch for name, task in job.placer.world.tasks.items()}
    again, outbox = placer(tmp_path)
    again.take(asked, "a new checkpoint", 0)
    assert again.placer.ledger.committed_batch("a new checkpoint") is None, "nothing new was decided"
    assert {name: task.epoch for name, task in again.placer.world.tasks.items()} == epochs
    told = [[str(record.headers) for record in box.records if "assignments" in record.topic] for box in (first, outbox)]
    assert told[0] == told[1], "nothing but the last batch's events again"
    assert all("assignments" in record.topic for record in outbox.records)


def test_a_task_that_has_ended_since_is_not_begun_again(tmp_path: Path) -> None:
    job, _ = placer(tmp_path)
    job.take(received(BEAT, request("t")), "q", 0)
    job.take(
        shifted(received((STATUS, {"type": "succeeded", "region": "east", "task_id": "t", "epoch": 1})), 10), "q", 1
    )
    again, outbox = placer(tmp_path)
    again.take(received(BEAT, request("t")), "q", 0)
    assert [record.topic for record in outbox.records] == ["thalweg.results"], "its end is told again, and nothing else"


def test_a_ledger_from_before_digests_is_believed_by_its_last_batch_id(tmp_path: Path) -> None:
    job, _ = placer(tmp_path)
    append = job.placer.ledger._commits.append
    job.placer.ledger._commits.append = lambda rows, marks: append(  # type: ignore[method-assign]
        rows, {name: mark for name, mark in marks.items() if not name.endswith(OFFSETS)}
    )
    batch = received(BEAT, request("t"))
    job.take(batch, "q", 3)
    again, outbox = placer(tmp_path)
    assert again.placer.ledger.holds("q", 3, 12345) and not again.placer.ledger.holds("q", 2, 12345)
    again.take(batch, "q", 3)
    assert [record.key for record in outbox.records] == [b"t"]


def test_an_overtaken_driver_ends_no_batch_not_even_one_without_rows(tmp_path: Path) -> None:
    old, outbox = placer(tmp_path)
    old.take(received(BEAT), "q", 0)
    new, _ = placer(tmp_path)
    new.take(received(BEAT, request("t")), "q", 1)
    with pytest.raises(AnotherWriterError):
        old.take(shifted(received(request("t", op="cancel")), 10), "q", 2)
    assert outbox.records == []


def test_a_producers_clock_reorders_nothing_of_one_key(tmp_path: Path) -> None:
    job, outbox = placer(tmp_path)
    batch = received(BEAT, request("t"), request("t", op="cancel"))
    times = pa.array([1, 5_000, 4_000], pa.int64())
    job.take(batch.set_column(batch.schema.get_field_index("timestamp_ms"), "timestamp_ms", times), "q", 0)
    assert [row["transition"] for row in job.placer.ledger.batch("q", 0).to_pylist()] == ["submitted", "cancelled"]
    assert [record.topic for record in outbox.records] == ["thalweg.results"], "nobody is told to begin it"
