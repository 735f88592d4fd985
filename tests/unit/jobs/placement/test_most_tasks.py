"""How many tasks a tenant may have at once: what comes beyond is refused with words, and nobody else notices."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.jobs.test_place_tasks import Line, asked, ends, words
from thalweg.conf.settings import PlaceSettings

CONTROL = "thalweg.control"


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path)


def allow(line: Line, most: int, tenant: str = "busy") -> None:
    line.take((CONTROL, {"order": "tenant", "tenant": tenant, "most_tasks": most, "who": "ann"}))


def live(line: Line) -> dict[str, int]:
    counted = Counter(task.spec.tenant for task in line.world.tasks.values())
    assert +line.world.book.live_of == counted
    return counted


def test_what_comes_beyond_is_refused_and_others_go_on(line: Line) -> None:
    allow(line, 2)
    told = line.take(*(asked(f"b{number}", tenant="busy") for number in range(4)), asked("o", tenant="other"))
    refused = (
        "tenant 'busy' has 2 of 2 tasks that may not have ended at once (most_tasks, of the tenant or of place): "
        "send it again when some have ended"
    )
    assert words(told) == [refused] * 2
    assert [(end["task_id"], end["state"]) for end in ends(told)] == [("b2", "refused"), ("b3", "refused")]
    assert live(line) == {"busy": 2, "other": 1}
    assert words(line.take(asked("b0", tenant="busy"))) == []  # known already, which is nothing new
    line.report("succeeded", "b1")
    assert words(line.take(asked("b2", tenant="busy"))) == []
    assert len(words(line.take(asked("b3", tenant="busy")))) == 1
    assert live(line) == {"busy": 2, "other": 1}


def test_the_elements_of_an_array_count_and_it_is_taken_whole_or_not_at_all(line: Line) -> None:
    allow(line, 5)
    (refused,) = words(line.take(asked("a", tenant="busy", array={"count": 5, "at_most": 1})))
    assert "has 0 of 5 tasks that may not have ended at once, and this is 6 more (an array of 5 counts as 6)" in refused
    assert refused.endswith("only a higher limit takes it"), "none of its tasks is there to end"
    assert words(line.take(asked("a", tenant="busy", array={"count": 4, "at_most": 1}))) == []
    assert live(line) == {"busy": 5}


def test_what_runs_again_counts_and_what_moves_to_another_tenant_counts_there(line: Line) -> None:
    line.take(asked("b", tenant="busy"))
    line.report("succeeded", "b")
    allow(line, 0)
    assert "has 0 of 0 tasks" in words(line.take(("thalweg.requests", {"task_id": "b", "op": "rerun"})))[0]
    line.take(asked("c", tenant="other"), asked("c", tenant="busy", op="update"))
    live(line)


def test_the_number_is_the_same_after_a_restart_and_a_limit_can_be_taken_back(line: Line) -> None:
    allow(line, 2)
    line.take(asked("b0", tenant="busy"), asked("b1", tenant="busy"))
    line.begin()
    assert live(line) == {"busy": 2}
    assert len(words(line.take(asked("b2", tenant="busy")))) == 1
    line.take((CONTROL, {"order": "tenant", "tenant": "busy", "reset": True, "who": "ann"}))
    assert words(line.take(asked("b2", tenant="busy"))) == []


def test_a_tenant_of_which_nothing_is_said_has_the_number_of_all(line: Line) -> None:
    fold = line.job.placer.fold
    fold.judge = replace(fold.judge, place=PlaceSettings(most_tasks=1))
    assert len(words(line.take(asked("x", tenant="x"), asked("y", tenant="x"), asked("z", tenant="z")))) == 1


def test_a_refusal_is_told_again_where_the_batch_itself_made_room(line: Line) -> None:
    allow(line, 1)
    line.take(asked("b0", tenant="busy"))
    (copy,) = line.world.tasks["b0"].copies.values()
    end = ("thalweg.status.east", {"type": "succeeded", "region": "east", "task_id": "b0", "epoch": copy.epoch})
    batch = (asked("b1", tenant="busy"), end)
    assert len(words(line.take(*batch))) == 1
    line.begin()  # killed before the batch's end, it takes it again
    line.batch -= 1
    assert words(line.take(*batch)) == ["it was refused, for a reason that has passed since: it can be sent again"]
    assert live(line) == {}
