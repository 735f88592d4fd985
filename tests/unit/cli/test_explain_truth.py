"""What explain says is what is: starts that can be told, reasons that name what is missing, fields nobody reads."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.ledger_rows import START, assigned, happened, ledger, submitted
from tests.unit.cli.conftest import put
from tests.unit.cli.test_explain import EAST, NORTH, explained, told, world
from tests.unit.scheduling.worlds import ask, node, spec, world_of
from tests.unit.scheduling.worlds import placed as place_all
from thalweg.cli.explain_command import _say
from thalweg.scheduling.explain.reasons import Explainer
from thalweg.scheduling.explain.start_estimate import estimate_start
from thalweg.scheduling.live.live_plan import PlanSettings
from thalweg.scheduling.pack.nodes import Need
from thalweg.scheduling.world.tasks import Part, TaskSpec
from thalweg.sync.delta.contracts import DECISIONS, PRICES, RECORDS, TASKS
from thalweg.sync.ledger.folds import fold_ledger

__all__ = ["world"]


def waiting(world: Path, reason: str = "capacity: x", **request: object) -> None:
    """One more task that waits, as the place job would have written it."""
    rows = ledger(submitted("new", **request), happened("new", "waiting", reason=reason), batch_id=50)
    put(world, DECISIONS, rows)
    put(world, TASKS, fold_ledger(rows)[0])


def test_a_task_of_more_cpus_than_are_free_is_promised_no_start_by_free_gpus(world: Path) -> None:
    waiting(world, per_worker={"gpus": 1, "cpus": 65})
    waits = explained("new", world)["waits"]
    assert waits["now"].startswith(("impossible", "capacity"))
    assert waits["start"] is None or waits["start"]["p50_h"] is None
    assert "in 0" not in told("new", world)


def test_who_waits_for_cpus_is_promised_no_start_by_free_gpus() -> None:
    rooms = world_of(node("r", "a", 8))
    ask(rooms, "greedy", TaskSpec(parts=(Part(workers=1, need=Need(gpus=1, cpu_milli=96_000, memory_mib=1)),)))
    place_all(rooms)
    ask(rooms, "t", spec(1))
    wait = Explainer(rooms, PlanSettings()).wait(rooms.tasks["t"], 0)
    assert wait.reason is not None and wait.reason.startswith("capacity:")
    assert wait.start is None


def test_what_no_pool_could_hold_is_impossible_and_never_starts(world: Path) -> None:
    waiting(world, per_worker={"gpus": 64})
    waits = explained("new", world)["waits"]
    assert waits["now"].startswith("impossible:")
    assert waits["start"] == {"p10_h": None, "p50_h": None, "p90_h": None}


def test_who_refused_it_is_shown_as_the_last_plan_knew_it(world: Path) -> None:
    reason = f"refused: region {EAST} gave it back 3 times in a row, and is tried again in 8 s; elsewhere: capacity: x"
    waiting(world, reason, per_worker={"gpus": 1})
    waits = explained("new", world)["waits"]
    assert waits["now"] == reason
    assert waits["start"] is None


@pytest.mark.parametrize(("then", "waits_for"), [((), "time: not before 2029-08-01"), (("updated",), None)])
def test_a_task_that_is_tried_again_later_is_held_by_that(
    world: Path, then: tuple[str, ...], waits_for: str | None
) -> None:
    asked = submitted("new", retries={"at_most": 5, "back_off_s": 1e8, "most_back_off_s": 1e9}, per_worker={"gpus": 1})
    rows = ledger(
        asked,
        assigned("new", 1, EAST),
        happened("new", "failed", 1, reason="exit code 1", attempt=1),
        *(asked | {"transition": transition} for transition in then),
        batch_id=50,
    )
    put(world, DECISIONS, rows)
    put(world, TASKS, fold_ledger(rows)[0])
    now = explained("new", world)["waits"]["now"]
    assert (now or "").startswith(waits_for or "")
    assert (now is None) == (waits_for is None)


def test_data_that_lies_in_a_dataset_counts(world: Path) -> None:
    waiting(world, per_worker={"gpus": 1}, data=[{"dataset": "corpus", "size_gb": 10}])
    before = {option["region"]: option for option in explained("new", world)["waits"]["options"]}
    assert before[EAST]["egress_usd"] == 0.0, "nobody knows where it lies"
    put(world, RECORDS, [
        {"key": "dataset/corpus", "region": EAST, "value": '{"copies": ["' + NORTH + '"], "size_gb": 10}',
         "deleted": False, "updated_at": START}
    ])  # fmt: skip
    options = {option["region"]: option for option in explained("new", world)["waits"]["options"]}
    assert options[NORTH]["egress_usd"] == 0.0
    assert options[EAST]["egress_usd"] == pytest.approx(0.1)


def test_data_in_a_region_that_nobody_reaches_is_the_reason(world: Path) -> None:
    waiting(world, per_worker={"gpus": 1}, data=[{"region": "nowhere", "size_gb": 10}])
    waits = explained("new", world)["waits"]
    assert waits["now"].startswith("data:")
    assert waits["start"] == {"p10_h": None, "p50_h": None, "p90_h": None}


def test_a_region_without_a_price_says_so(world: Path) -> None:
    waiting(world, per_worker={"gpus": 1, "gpu_models": ["T4"]})
    assert explained("new", world)["waits"]["now"] is None
    put(world, PRICES, [])
    from deltalake import DeltaTable

    DeltaTable(f"{world}/prices").delete(f"region = '{NORTH}'")
    now = explained("new", world)["waits"]["now"]
    assert now.startswith(f"price: no price is known of {NORTH}/T4/on-demand")


def test_an_assumed_price_of_the_settings_is_used(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting(world, per_worker={"gpus": 1, "gpu_models": ["T4"]}, expected_s=3_600)
    from deltalake import DeltaTable

    DeltaTable(f"{world}/prices").delete(f"region = '{NORTH}'")
    monkeypatch.setenv("THALWEG_PLACE__ASSUMED_USD_PER_GPU_HOUR", "7")
    waits = explained("new", world)["waits"]
    assert waits["now"] is None
    assert {option["region"]: option["usd"] for option in waits["options"]}[NORTH] == pytest.approx(7.0)


def test_a_region_without_gpus_is_no_mystery(world: Path) -> None:
    put(world, TASKS, [])
    explained("large", world)
    rooms = world_of(node("cpu", "n", 0, model=""), node("gpu", "m", 8))
    found = {option.region: option.reason for option in Explainer(rooms, PlanSettings()).options(spec(1), 0)}
    assert found == {"cpu": "gpu_model: the region has no GPUs", "gpu": ""}


def test_workers_that_want_nodes_of_their_own_are_told_that() -> None:
    rooms = world_of(node("r", "a", 8), node("r", "b", 8))
    ask(rooms, "full", spec(8))
    place_all(rooms)
    ask(rooms, "apart", spec(4, workers=2, spread_workers=True))
    wait = Explainer(rooms, PlanSettings()).wait(rooms.tasks["apart"], 0)
    assert wait.reason is not None
    assert wait.reason.endswith("each of its 2 workers needs a node of its own")


def test_fields_that_nobody_reads_are_shown(world: Path) -> None:
    waiting(world, gpus=8, tries=3)
    assert explained("new", world)["unread"] == [
        "unknown field 'gpus' (is 'per_worker.gpus' meant?)",
        "unknown field 'tries' (is 'retries' meant?)",
    ]
    assert "unknown field 'gpus' (is 'per_worker.gpus' meant?); nobody reads it" in told("new", world)
    assert explained("large", world)["unread"] == []


def test_a_region_that_nobody_knows_is_named_with_the_one_that_is_meant(world: Path) -> None:
    waiting(world, allowed_regions=["aws:us-east1", "moon"], origin_region=EAST)
    assert explained("new", world)["unknown_regions"] == [f"'aws:us-east1' (is {EAST!r} meant?)", "'moon'"]
    words = f"Its request names the region 'aws:us-east1' (is {EAST!r} meant?), of which nothing was heard yet"
    assert words in told("new", world)


@pytest.mark.parametrize(
    ("request_of", "held", "start", "ways"),
    [
        ({}, True, "none while it is held", ["thalweg release new"]),
        ({"after": ["nobody"]}, False, "not before its parents have ended",
         ["nobody is submitted", "an update of its request without it"]),
        ({"after": ["half[9]"]}, False, "not before its parents have ended",
         ["half[9] can never come: half is an array of 4, half[0] to half[3]", "an update of its request without it"]),
        ({"after": ["large"]}, False, "not before its parents have ended", []),
        ({"not_before": 253_402_300_799_000}, False, "not before that moment",
         ["an update of its request"]),
    ],
)  # fmt: skip
def test_who_stands_in_front_of_the_queue_is_told_what_would_let_it_in(
    world: Path, request_of: dict[str, Any], held: bool, start: str, ways: list[str]
) -> None:
    """`No single change would let it in` was said, though a release or the parent would."""
    array = ledger(submitted("half", array={"count": 4}), batch_id=49)
    rows = ledger(submitted("new", **request_of), *([happened("new", "held")] if held else []), batch_id=50)
    for piece in (array, rows):
        put(world, DECISIONS, piece)
        put(world, TASKS, fold_ledger(piece)[0])
    waits = explained("new", world)["waits"]
    missing = any(parent != "large" for parent in request_of.get("after", ()))
    assert (waits["ways"], waits["cancelled_after_s"]) == (ways, 60.0 if missing else None)
    said = told("new", world)
    assert f"Estimated start: {start}" in said
    assert "No single change" not in said and "does not wait for GPUs" not in said
    assert ("It is cancelled when a parent has been missing for 60 s" in said) == missing


@pytest.mark.parametrize(
    ("request_of", "held", "words"),
    [
        ({"after": ["placed", "nobody"]}, False, "parents: waits for nobody, which nobody has submitted yet; placed"),
        ({"after": [{"task_id": "large", "on": "end"}]}, False, "parents: waits for large, which is waiting"),
        ({"after": ["gone"], "not_before": 253_402_300_799_000}, False, "time: not before 9999-12-31 23:59:59 UTC"),
        ({"after": ["placed"]}, True, "held: by request"),
        ({"after": ["gone"]}, False, "capacity"),
    ],
)
def test_what_stands_in_front_of_the_queue_is_told_alike_with_and_without_the_planner(
    world: Path, monkeypatch: pytest.MonkeyPatch, request_of: dict[str, Any], held: bool, words: str
) -> None:
    rows = ledger(
        submitted("gone"),
        happened("gone", "cancelled"),
        submitted("new", per_worker={"gpus": 512}, **request_of),
        happened("new", "waiting", reason="x"),
        *([happened("new", "held")] if held else []),
        batch_id=50,
    )
    put(world, DECISIONS, rows)
    put(world, TASKS, fold_ledger(rows)[0])
    found = explained("new", world)
    assert found["waits"]["now"].startswith((words, "impossible") if words == "capacity" else words)
    monkeypatch.setattr("thalweg.query.questions.closed_gate.may_be_closed", lambda row, request, now_ms: False)
    assert explained("new", world) == found


@pytest.mark.parametrize(
    ("after", "again", "words"),
    [
        (["first", "second"], ("first",), "parents: waits for second, which is waiting"),  # the first is met for good
        (["first"], ("first",), "capacity"),
        (["first"], ("first", "new"), "parents: waits for first, which is waiting"),  # it asks anew
    ],
)
def test_a_parent_that_runs_again_is_not_waited_for_again(
    world: Path, monkeypatch: pytest.MonkeyPatch, after: list[str], again: tuple[str, ...], words: str
) -> None:
    asked: dict[str, dict[str, Any]] = {"first": {}, "new": {"after": after, "per_worker": {"gpus": 512}}}
    rows = ledger(
        submitted("first"),
        submitted("second"),
        submitted("new", **asked["new"]),
        happened("first", "succeeded"),
        *(
            submitted(name, **asked[name]) | {"transition": "submitted" if name == "first" else "updated"}
            for name in again
        ),
        batch_id=50,
    )
    put(world, DECISIONS, rows)
    put(world, TASKS, fold_ledger(rows)[0])
    found = explained("new", world)
    assert found["waits"]["now"].startswith((words, "impossible") if words == "capacity" else words)
    monkeypatch.setattr("thalweg.query.questions.closed_gate.may_be_closed", lambda row, request, now_ms: False)
    assert explained("new", world) == found


def test_elements_of_an_array_have_their_turn_by_their_numbers(world: Path) -> None:
    needs: dict[str, object] = {"per_worker": {"gpus": 64}, "array": {"count": 12, "at_most": 3}}
    rows = ledger(
        *(
            row
            for name in ("sweep", *(f"sweep[{index}]" for index in range(12)))
            for row in ({**submitted("sweep", **needs), "task_id": name}, happened(name, "waiting", reason="x"))
        ),
        batch_id=50,
    )
    put(world, DECISIONS, rows)
    put(world, TASKS, fold_ledger(rows)[0])
    assert not explained("sweep[2]", world)["waits"]["now"].startswith("array")
    for later, ends in (("sweep[3]", "1 more element of sweep has"), ("sweep[10]", "8 more elements of sweep have")):
        words = f"array: its turn comes when {ends} ended; at most 3 run at once"
        assert explained(later, world)["waits"]["now"] == words


def test_a_long_queue_is_a_long_wait_and_not_never() -> None:
    def start(ahead_gpus: float) -> tuple[float, float]:
        found = estimate_start(
            need_gpus=1.0,
            usable=np.array([True, True]),
            free_gpus=np.zeros(2),
            running_place=np.repeat([0, 1], 4),
            running_gpus=np.full(8, 2.0),
            elapsed_h=np.zeros(8),
            expected_h=np.full(8, 3.0),
            ahead_gpus=ahead_gpus,
        )
        return found.p10_h, found.p50_h

    waits = [start(ahead)[1] for ahead in (0.0, 8.0, 14.0, 30.0, 160.0, 1_600.0)]
    assert all(np.isfinite(waits))
    assert waits == sorted(waits)
    # 1,600 GPUs asked before it, 16 that run for three hours each: a hundred turns.
    assert 200 < waits[-1] < 400
    assert start(1_600.0)[0] > 200


def test_nothing_that_runs_and_a_queue_before_it_is_never() -> None:
    found = estimate_start(
        need_gpus=4.0,
        usable=np.array([True]),
        free_gpus=np.array([4.0]),
        running_place=np.zeros(0, np.int64),
        running_gpus=np.zeros(0),
        elapsed_h=np.zeros(0),
        expected_h=np.zeros(0),
        ahead_gpus=100.0,
    )
    assert np.isinf(found.p10_h)


def test_what_others_wrote_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    _say("  a task\x1b[2J of\nsomebody\r: waits")
    assert capsys.readouterr().out == "  a task\\u001b[2J of somebody : waits\n"


def test_who_waits_for_a_drained_place_is_told_to_undrain_it(world: Path) -> None:
    """`Estimated start: never` and `Nothing that was tried would let it in` stood below the command that would."""
    order = {"subject": f"drain/{NORTH}", "who": "ann", "after": {"type": "drain", "region": NORTH}}
    put(world, DECISIONS, ledger({"task_id": "", "transition": "ordered", "ordered": json.dumps(order)}, batch_id=49))
    waiting(world, per_worker={"gpus": 8, "gpu_models": ["T4"]})
    waits = explained("new", world)["waits"]
    assert waits["now"].startswith("drained:") and waits["ways"] == [f"thalweg undrain {NORTH}"]
    said = told("new", world)
    assert "Estimated start: not before its place takes tasks again" in said
    assert "never" not in said and "Nothing that was tried" not in said
