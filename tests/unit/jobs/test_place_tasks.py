"""What people ask of tasks, through micro-batches of `place`: results, graphs, arrays, retries, many at once."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.place_driver import Driver
from tests.properties.readings import world_of_tables
from tests.unit.jobs.test_place_batch import BEAT, Outbox, placer, received
from thalweg.scheduling.decisions.start_terms import words_of_gates
from thalweg.streams.broker.publish import OutgoingRecord
from thalweg.streams.placement.task_specs import read_spec
from thalweg.sync.ledger.folds import fold_ledger
from thalweg.sync.ledger.reading import rows_of_ledger

REQUESTS = "thalweg.requests"
EAST = "thalweg.status.east"
LEFT = {
    "exit_code": 0,
    "started_at": 1_700_000_000_000,
    "metrics": {"accuracy": 0.97},
    "result": {"best": [1, 2], "ü": None},
    "log": "s3://logs/t",
    "artefacts": {"model": "s3://models/t"},
}


class Line:
    """A job that takes one batch after the other, and what it told."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.batch = folder, 0
        self.job: Driver
        self.outbox: Outbox
        self.begin()

    def begin(self) -> None:
        self.job, self.outbox = placer(self.folder)

    def take(self, *records: tuple[str, Any]) -> list[OutgoingRecord]:
        """Take a batch; offsets go on, so that nothing counts as taken before."""
        table = received(BEAT, *records)
        offsets = [self.batch * 100_000 + offset for offset in range(table.num_rows)]
        table = table.set_column(table.schema.get_field_index("offset"), "offset", [offsets])
        before = len(self.outbox.records)
        self.job.take(table, "q", self.batch)
        self.batch += 1
        return self.outbox.records[before:]

    def report(self, kind: str, task_id: str, **left: Any) -> list[OutgoingRecord]:
        task = self.world.tasks[task_id]
        (copy,) = task.copies.values()
        event = {"type": kind, "region": "east", "task_id": task_id, "epoch": copy.epoch, **left}
        return self.take((EAST, event))

    @property
    def world(self) -> Any:
        return self.job.placer.world

    def ledger(self) -> list[dict[str, Any]]:
        return [row for rows in rows_of_ledger(self.job.placer.ledger._uri) for row in rows.to_pylist()]

    def ledger_bytes(self) -> int:
        return sum(file.stat().st_size for file in (self.folder / "decisions").glob("*.parquet"))

    def states(self) -> dict[str, str]:
        names = {row["task_id"] for row in self.ledger()}
        return {name: str(self.world.find(name).state) for name in names}


def ends(records: list[OutgoingRecord]) -> list[dict[str, Any]]:
    return [json.loads(record.value or b"") for record in records if record.topic == "thalweg.results"]


def words(records: list[OutgoingRecord]) -> list[str]:
    letters = [dict(record.headers) for record in records if record.topic == "thalweg.deadletter"]
    return [letter["reason"].decode() for letter in letters]


def asked(task_id: str, **fields: Any) -> tuple[str, dict[str, Any]]:
    return REQUESTS, {"task_id": task_id, "per_worker": {"gpus": 1}, **fields}


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path)


def test_what_a_run_left_is_in_the_ledger_and_told_to_who_waits(line: Line) -> None:
    line.take(asked("t", name="first try", tenant="vision"))
    (end,) = ends(line.report("succeeded", "t", **LEFT))
    assert {name: end[name] for name in LEFT} == LEFT
    assert (end["state"], end["name"], end["tenant"], end["region"]) == ("succeeded", "first try", "vision", "east")
    row = line.ledger()[-1]
    assert (row["ends"], row["name"]) == (True, "first try")
    assert json.loads(row["outcome"])["result"] == LEFT["result"]


def test_a_batch_that_is_repeated_tells_its_ends_again_with_the_same_ids(line: Line) -> None:
    line.take(asked("t"), (REQUESTS, {"task_id": "t", "op": "cancel"}), asked("x", after=["x"]), (REQUESTS, b"{"))
    told = [record for record in line.outbox.records if record.topic == "thalweg.results"]
    assert sorted((json.loads(r.value)["task_id"], json.loads(r.value)["state"]) for r in told) == [
        ("k", "refused"),
        ("t", "cancelled"),
        ("x", "refused"),
    ]
    line.begin()  # killed before the batch's end, it takes it again
    line.batch -= 1
    line.take(asked("t"), (REQUESTS, {"task_id": "t", "op": "cancel"}), asked("x", after=["x"]), (REQUESTS, b"{"))
    again = [record for record in line.outbox.records if record.topic == "thalweg.results"]
    assert sorted((r.value, str(r.headers)) for r in again) == sorted((r.value, str(r.headers)) for r in told)


def test_a_result_that_is_too_large_is_left_out_with_words_and_the_task_has_ended(line: Line) -> None:
    line.take(asked("t"))
    deep: Any = 1
    for _ in range(70):
        deep = [deep]
    (end,) = ends(line.report("succeeded", "t", result={"text": "x" * 16_384}, artefacts={}, metrics={"loss": 1e300}))
    assert (end["state"], end["metrics"], "result" in end) == ("succeeded", {"loss": 1e300}, False)
    assert end["reason"] == "its result is left out: it has 16,395 bytes, allowed are 16,384"
    line.take(asked("u"))
    (end,) = ends(line.report("succeeded", "u", result={"deep": deep}, exit_code=10**30))
    assert "its result is left out: nested deeper than 64" in end["reason"]
    assert "its exit_code is left out" in end["reason"]


def test_a_refused_request_for_a_task_that_lives_is_no_end_of_it(line: Line) -> None:
    line.take(asked("t"))
    told = line.take(asked("t", priority=7))
    assert [record.topic for record in told] == ["thalweg.deadletter"]


def test_a_child_waits_for_its_parent_and_ends_with_it_where_that_fails(line: Line) -> None:
    line.take(
        asked("c", after=["b"]), asked("b", after=["a"]), asked("d", after=[{"task_id": "b", "on": "end"}]), asked("a")
    )
    assert line.states() == {"a": "assigned", "b": "waiting", "c": "waiting", "d": "waiting"}
    assert line.world.tasks["c"].reason == "parents: waits for b, which nobody has submitted yet", "then"
    line.report("succeeded", "a")
    assert line.states()["b"] == "assigned"
    told = line.report("failed", "b", cause="time_limit", detail="took 9 s")
    assert [(end["task_id"], end["state"], end["reason"]) for end in ends(told)] == [
        ("b", "failed", "gave up after 1 attempt because time_limit is not tried again, the last: took 9 s"),
        ("c", "cancelled", "cancelled: its parent b failed"),
    ]
    assert line.states() == {"a": "succeeded", "b": "failed", "c": "cancelled", "d": "assigned"}
    line.take(asked("e", after=["c"]), asked("f", after=["a", {"task_id": "c", "on": "end"}]))
    assert line.states()["e"] == "cancelled"
    assert line.states()["f"] == "assigned"


def test_a_parent_that_nobody_knows_is_waited_for_and_a_circle_is_refused_with_words(line: Line) -> None:
    line.take(asked("a"), asked("b", after=["a"]), asked("x", after=["later"]), asked("y", after=["y"]))
    assert words(line.outbox.records) == ["after 'y' closes a circle: y waits for y"]
    assert line.world.tasks["x"].reason == "parents: waits for later, which nobody has submitted yet"
    told = line.take(asked("a", op="update", after=["b"]))
    assert words(told) == ["after 'b' closes a circle: a waits for b waits for a"]
    line.begin()
    told = line.take(asked("z", after=["x"]), asked("later", after=["z"]))
    assert words(told) == ["after 'z' closes a circle: later waits for z waits for x waits for later"]
    line.take(asked("later"))
    line.report("succeeded", "later")
    assert line.states()["x"] == "assigned"


def test_an_array_closes_no_circle_with_who_waits_for_an_element_of_it(line: Line) -> None:
    line.take(asked("x", after=["sweep[1]"]))
    circle = "sweep waits for x waits for sweep[1]"
    assert words(line.take(asked("sweep", array={"count": 2}, after=["x"]))) == [f"after 'x' closes a circle: {circle}"]
    told = words(line.take(asked("own", array={"count": 2}, after=["own[0]"])))
    assert told == ["after 'own[0]' closes a circle: own waits for own[0]"]
    line.take(asked("sweep", array={"count": 2}))
    line.report("succeeded", "sweep[1]")
    assert line.states()["x"] == "assigned"


def test_a_chain_of_a_thousand_that_arrives_backwards_is_taken_whole(line: Line) -> None:
    line.take(*(asked(f"t{n}", after=[f"t{n - 1}"] if n else []) for n in range(999, -1, -1)))
    assert Counter(line.states().values()) == {"assigned": 1, "waiting": 999}
    assert len(line.world.waiting) == 0, "who waits for a parent costs a plan nothing"


def test_an_array_runs_so_many_at_once_and_ends_when_its_elements_have(line: Line) -> None:
    told = line.take(asked("a", array={"count": 5, "at_most": 2}, env={"A": "b"}), asked("after", after=["a"]))
    events = [json.loads(record.value) for record in told if record.topic == "thalweg.assignments.east"]
    assert [(e["task_id"], e["array_index"], e["array_count"]) for e in events] == [("a[0]", 0, 5), ("a[1]", 1, 5)]
    for index in range(5):
        running = sorted(name for name, task in line.world.tasks.items() if task.copies)
        assert running == [f"a[{i}]" for i in range(index, min(index + 2, 5))]
        line.report("succeeded", f"a[{index}]")
    assert line.states()["a"] == "succeeded"
    assert line.states()["after"] == "assigned"
    line.take((REQUESTS, {"task_id": "a[3]", "op": "rerun"}))
    assert line.world.tasks["a[3]"].state == "assigned"
    (objection,) = words(line.take((REQUESTS, {"task_id": "a", "op": "rerun"})))
    assert objection.endswith("its element 'a[3]' is a task that has not ended; allowed is this when that has ended")


def test_cancelling_an_array_cancels_all_of_it(line: Line) -> None:
    line.take(asked("a", array={"count": 5, "at_most": 2}))
    told = line.take((REQUESTS, {"task_id": "a", "op": "cancel"}))
    assert Counter(end["state"] for end in ends(told)) == {"cancelled": 6}
    assert Counter(record.topic for record in told)["thalweg.assignments.east"] == 2
    assert not line.world.tasks


def test_what_is_held_does_not_start_until_it_is_released(line: Line) -> None:
    line.take(asked("t"), (REQUESTS, {"task_id": "t", "op": "hold"}))
    assert (line.states(), line.world.tasks["t"].reason) == ({"t": "waiting"}, "held: by request")
    line.begin()
    line.take()
    assert line.states() == {"t": "waiting"}, "its successor knows"
    line.take((REQUESTS, {"task_id": "t", "op": "release"}))
    assert line.states() == {"t": "assigned"}
    told = line.take((REQUESTS, {"task_id": "t", "op": "hold"}))
    assert not told, "what runs goes on"


def test_what_has_ended_runs_again_above_all_its_epochs_and_what_lives_does_not(line: Line) -> None:
    line.take(asked("t", name="n"))
    first = line.world.tasks["t"].copies[0].epoch
    (objection,) = words(line.take((REQUESTS, {"task_id": "t", "op": "rerun"})))
    assert objection == "rerun of task_id 't': it is assigned; allowed are tasks that have ended"
    line.report("succeeded", "t")
    line.begin()
    line.take((REQUESTS, {"task_id": "t", "op": "rerun"}))
    again = line.world.tasks["t"]
    assert again.copies[0].epoch > first
    assert again.spec.terms.name == "n"
    line.report("succeeded", "t")
    line.take((REQUESTS, {**asked("t", name="n")[1], "op": "rerun"}))
    assert line.world.tasks["t"].state == "assigned", "its own content may come along"
    told = line.take((REQUESTS, {"task_id": "u", "op": "rerun"}))
    assert words(told) == ["rerun of task_id 'u': no such task was submitted"]


def test_what_begins_and_ends_in_one_batch_can_run_again_in_it(line: Line) -> None:
    """Requests that arrive together mean what they mean one after another."""
    again = (REQUESTS, {"task_id": "t", "op": "rerun"})
    told = line.take(asked("t", name="n"), (REQUESTS, {"task_id": "t", "op": "cancel"}), again)
    assert words(told) == []
    assert line.world.tasks["t"].spec.terms.name == "n"
    (copy,) = line.world.tasks["t"].copies.values()
    event = {"type": "succeeded", "region": "east", "task_id": "t", "epoch": copy.epoch}
    told = line.take((EAST, event), again)
    assert words(told) == []
    assert line.world.tasks["t"].copies[0].epoch > copy.epoch
    assert line.world.tasks["t"].spec.terms.name == "n"


def test_a_batch_that_is_repeated_refuses_nothing_that_it_took(line: Line) -> None:
    hold, cancel = ((REQUESTS, {"task_id": "t", "op": op}) for op in ("hold", "cancel"))
    again = received(BEAT, asked("t"), hold, cancel, (REQUESTS, {"task_id": "u", "op": "hold"}))
    refused = ["hold of task_id 'u': no such task was submitted"]
    for _ in range(2):  # by the end of the batch nothing can be held any more
        before = len(line.outbox.records)
        line.job.take(again, "q", line.batch)
        assert words(line.outbox.records[before:]) == refused


def test_elements_that_begin_and_end_in_one_batch_can_run_again_in_it(line: Line) -> None:
    told = line.take(
        asked("a", array={"count": 2}, name="n"),
        (REQUESTS, {"task_id": "a", "op": "cancel"}),
        (REQUESTS, {"task_id": "a[1]", "op": "rerun"}),
    )
    assert words(told) == []
    assert line.states()["a[1]"] == "assigned"


@pytest.mark.parametrize("op", ["cancel", "hold", "release", "rerun"])
def test_an_element_that_its_array_does_not_have_is_refused_with_those_that_it_has(line: Line, op: str) -> None:
    line.take(asked("half", array={"count": 4}), asked("alone"))
    one, other = ((REQUESTS, {"task_id": name, "op": op}) for name in ("half[9]", "alone[9]"))
    told = [f"{op} of task_id 'half[9]': no such task was submitted; half is an array of 4, half[0] to half[3]"]
    assert words(line.take(one)) == told
    assert words(line.take(other)) == [f"{op} of task_id 'alone[9]': no such task was submitted"]
    for index in range(4):
        line.report("succeeded", f"half[{index}]")
    assert "half" not in line.world.tasks
    assert words(line.take(one)) == told, "when it has ended, too"


def test_one_message_acts_on_many_and_twice_is_as_once(line: Line) -> None:
    line.take(*(asked(f"t{n}", per_worker={"gpus": 9}) for n in range(50)))
    many = {"task_ids": [f"t{n}" for n in range(40)] + ["nobody"], "op": "cancel"}
    told = line.take((REQUESTS, many))
    assert Counter(end["state"] for end in ends(told)) == {"cancelled": 40}
    rows = len(line.ledger())
    again = line.take((REQUESTS, many))
    assert len(line.ledger()) == rows
    (letter,) = [record for record in again if record.topic == "thalweg.deadletter"]
    assert json.loads(letter.value or b"") == {"task_id": "nobody", "op": "cancel"}
    wrong = line.take((REQUESTS, {"task_ids": ["t41"], "op": "update"}), (REQUESTS, {"op": "cancel"}))
    assert len([record for record in wrong if record.topic == "thalweg.deadletter"]) == 2


def test_a_failure_is_tried_again_as_its_request_says(line: Line) -> None:
    retries = {"at_most": 5, "back_off_s": 0, "not_on": [3], "by_cause": {"memory": 1, "time_limit": 2}}
    line.take(asked("t", retries=retries))
    for cause in ("memory", "time_limit", "agent", "time_limit", "exit"):
        line.take()
        line.report("failed", "t", cause=cause)
        assert line.states()["t"] != "failed", cause
        line.world.wake(10**12)  # the region is tried again that gave it back
    assert line.world.tasks["t"].attempt == 4, "an agent that stops is no failure of the task"
    line.take()
    (end,) = ends(line.report("failed", "t", cause="memory"))
    assert "because memory is tried again once" in end["reason"]
    line.take(asked("u", retries=retries))
    (end,) = ends(line.report("failed", "u", cause="exit", exit_code=3))
    assert "exit code 3 is not tried again" in end["reason"]


def test_what_cannot_be_started_is_not_tried_three_times_at_once(line: Line) -> None:
    line.take(asked("t", retries={"at_most": 4}))
    line.report("failed", "t", cause="start", detail="command 'x' was not found in this region")
    line.take()
    assert line.states()["t"] == "assigned", "elsewhere it may be there"
    for wait_s in (5, 10):
        line.report("failed", "t", cause="start", detail="command 'x' was not found in this region")
        line.take()
        assert line.states()["t"] == "waiting"
        assert (
            f"tried again in {wait_s} s"
            in [row["reason"] for row in line.ledger() if row["transition"] == "failed"][-1]
        )
        line.begin()
        line.take()
        assert line.states()["t"] == "waiting", "the next life waits, too"
        line.world.wake(10**12)
        line.take()
        assert line.states()["t"] == "assigned"
    line.report("failed", "t", cause="exit")
    line.take()
    assert line.states()["t"] == "assigned", "what ran is tried again as before"


def test_the_tables_tell_what_keeps_each_task_from_starting(line: Line) -> None:
    line.take(
        asked("big", per_worker={"gpus": 9}),
        asked("child", after=["big"]),
        asked("early", after=["big", "nobody"]),
        asked("held"),
        (REQUESTS, {"task_id": "held", "op": "hold"}),
        asked("later", not_before=90_000),
        asked("sweep", array={"count": 3, "at_most": 1}),
        asked("kept", array={"count": 1}, after=["sweep"]),
    )
    tasks, placements = fold_ledger(pa.concat_tables(rows_of_ledger(line.job.placer.ledger._uri)))
    told = world_of_tables(tasks, placements, read_spec)
    words = {name: words_of_gates(told, task, 1_000) for name, task in told.tasks.items()}
    assert words == {name: words_of_gates(line.world, task, 1_000) for name, task in line.world.tasks.items()}
    assert words == {
        "big": None,
        "child": "parents: waits for big, which is waiting",
        "early": "parents: waits for big, which is waiting; nobody, which nobody has submitted yet",
        "held": "held: by request",
        "later": "time: not before 1970-01-01 00:01:30 UTC",
        "sweep": "array: waits for its 3 elements",
        "sweep[0]": None,
        "sweep[1]": "array: its turn comes when 1 more element of sweep has ended; at most 1 run at once",
        "sweep[2]": "array: its turn comes when 2 more elements of sweep have ended; at most 1 run at once",
        "kept": "parents: waits for sweep, which is waiting",
        "kept[0]": "parents: waits for sweep, which is waiting",
    }


def test_an_arrays_text_is_written_once_and_one_of_large_requests_is_refused(line: Line) -> None:
    before = line.ledger_bytes()
    line.take(asked("a", array={"count": 2_000, "at_most": 1}, env={"A": "".join(map(chr, range(200, 1_200)))}))
    assert line.ledger_bytes() - before < 60_000
    letters = words(line.take(asked("b", array={"count": 10_000}, env={"A": "x" * 8_000})))
    assert "allowed are 67,108,864" in letters[0]


def test_a_task_without_a_command_is_not_sent_where_commands_alone_are_started(tmp_path: Path) -> None:
    line = Line(tmp_path)
    commands_alone = (EAST, {"type": "heartbeat", "region": "east", "needs_command": True})
    line.take(commands_alone, (REQUESTS, {"task_id": "bare"}), (REQUESTS, {"task_id": "told", "command": ["true"]}))
    assert line.states() == {"bare": "waiting", "told": "assigned"}
    assert line.world.tasks["bare"].reason.startswith("command:")
    line.take()  # a heartbeat that says nothing of it
    assert line.states() == {"bare": "assigned", "told": "assigned"}
