"""`thalweg forecast`: from the tables and from job lists, what it says, and what a wrong call is told."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from tests.ledger_rows import START, assigned, ledger, request, submitted
from tests.unit.cli.conftest import put
from thalweg.cli.explain_model_command import _gpu_hours
from thalweg.cli.main import cli
from thalweg.forecast.asked_demand import NOWHERE, demand_in_tables
from thalweg.forecast.ended_holds import hold_history, holds_in_tables
from thalweg.learning.forecast.forecast_file import read_forecast
from thalweg.query.sql.query import TableReader
from thalweg.sync.delta.contracts import DECISIONS, RESULTS, TASKS, TASKS_ARCHIVE

HOUR_S = 3_600.0


def call(*arguments: object) -> Any:
    return CliRunner().invoke(cli, [str(one) for one in arguments])


def task(task_id: str, at_s: float, **fields: Any) -> dict[str, Any]:
    at = START + timedelta(seconds=at_s)
    return {
        "task_id": task_id,
        "state": "succeeded",
        "submitted_at": at,
        "request": request(task_id, **fields),
    }


def run(task_id: str, began_s: float, took_s: float, state: str = "succeeded", **more: Any) -> dict[str, Any]:
    began = START + timedelta(seconds=began_s)
    return {
        "task_id": task_id,
        "copy": 0,
        "epoch": 1,
        "state": state,
        "ends": True,
        "started_at": began,
        "ended_at": began + timedelta(seconds=took_s),
    } | more


@pytest.fixture
def ended(tmp_path: Path) -> Path:
    """Runs of two tenants: what one says is right, what the other says is half an hour whatever it takes."""
    chance = np.random.default_rng(1)
    tasks, runs = [], []
    for number in range(300):
        took_s = float(np.exp(chance.normal(5.0, 1.0)))
        tenant = ("true", "vague")[number % 2]
        said_s = took_s if tenant == "true" else 1_800.0
        tasks.append(task(f"t{number}", 600.0 * number, tenant=tenant, expected_s=said_s))
        runs.append(run(f"t{number}", 600.0 * number, took_s))
    put(tmp_path, TASKS, tasks[150:])
    put(tmp_path, TASKS_ARCHIVE, [row | {"archived_at": START} for row in tasks[:150]])
    put(tmp_path, RESULTS, runs)
    return tmp_path


@pytest.fixture
def job_list(tmp_path: Path) -> Path:
    """Five weeks in Philly's format; by day a job comes every half hour, by night every third of that."""
    chance, at, lines = np.random.default_rng(2), datetime(2017, 9, 1, tzinfo=UTC), []
    end = at + timedelta(weeks=5)
    while at < end:
        took_s, gpus, cluster = chance.lognormal(8.0, 1.0), chance.choice([1, 8]), chance.choice(["x", "y"])
        lines.append(f"{at:%Y-%m-%d %H:%M:%S},{took_s:.1f},{gpus},0,{cluster}")
        at += timedelta(minutes=float(chance.exponential(10.0 if at.hour < 12 else 30.0)))
    file = tmp_path / "jobs.csv"
    file.write_text("timestamp,duration,num_gpus,gpu_time,cluster\n" + "\n".join(lines) + "\n")
    return file


def test_durations_are_learnt_from_the_tables_and_the_archive(ended: Path, tmp_path: Path) -> None:
    out = tmp_path / "durations.json"
    answer = call("forecast", "durations", "--warehouse", ended, "--out", out, "--json")
    assert answer.exit_code == 0, answer.output
    told = json.loads(answer.output)
    assert told["rows"] == 300 and told["chain"][0] in ("tenant", "expected_s")
    scores = told["scores"]
    assert scores["learnt"]["pinball"] < 0.5 * scores["as requested"]["pinball"]
    assert scores["learnt"]["pinball"] < scores["usual of the tenant"]["pinball"]
    assert set(scores) == {"learnt", "as requested", "usual of the tenant", "usual of all"}
    model = read_forecast(out.read_bytes()).model
    names = [column.name for column in model.columns]
    row = np.array(read_forecast(out.read_bytes()).usual[0])
    for tenant, expected in (("true", 777.0), ("vague", np.exp(5.0))):
        row[names.index("tenant")] = model.columns[names.index("tenant")].names.index(tenant)
        row[names.index("expected_s")] = 777.0 if tenant == "true" else 1_800.0
        assert np.exp(model.middle(row[None])[0]) == pytest.approx(expected, rel=0.5)


def test_what_was_stopped_or_never_started_says_nothing_of_how_long_it_would_have_taken(tmp_path: Path) -> None:
    put(tmp_path, TASKS, [task(name, 0.0, per_worker={"gpus": 2}, workers=3) for name in "abcde"])
    put(tmp_path, RESULTS, [
        run("a", 0.0, 60.0), run("b", 0.0, 60.0, "evicted"), run("c", 0.0, 5.0, "failed"), run("gone", 0.0, 60.0),
        run("d", 0.0, 60.0, started_at=None), run("e", 0.0, 60.0, "preempted"),
    ])  # fmt: skip
    with TableReader(str(tmp_path)) as reader:
        holds = holds_in_tables(reader)
    assert [(hold.ended_s - hold.began_s, hold.row["gpus"]) for hold in holds] == [(5.0, 6.0), (60.0, 6.0)]
    assert np.exp(hold_history(holds).y) == pytest.approx([5.0, 60.0])


def test_demand_counts_where_a_task_was_placed_first_and_an_array_by_its_elements(tmp_path: Path) -> None:
    array = {"array": {"count": 2}, "expected_s": 7_200, "per_worker": {"gpus": 4}}
    put(tmp_path, TASKS, [
        task("moved", 10.0, per_worker={"gpus": 1}, replicas=2), task("waits", 3_700.0, per_worker={"gpus": 8}),
        task("many", 20.0, **array), task("many", 20.0, **array) | {"task_id": "many[0]"},
    ])  # fmt: skip
    rows = [ledger(submitted("moved"), assigned("moved", 1, "first")), ledger(assigned("moved", 2, "then"), batch_id=9)]
    put(tmp_path, DECISIONS, pa.concat_tables(rows))
    with TableReader(str(tmp_path)) as reader:
        asked = demand_in_tables(reader, START + timedelta(hours=3, minutes=30))
    assert asked.regions == (NOWHERE, "first")
    assert asked.gpu_hours.tolist() == [[8.0, 8.0, 0.0], [2.0, 0.0, 0.0]]
    assert asked.first_hour == START.timestamp() // HOUR_S


def test_demand_is_forecast_for_every_region_and_hour_and_drawn(job_list: Path, tmp_path: Path) -> None:
    pictures = [tmp_path / f"{name}.svg" for name in "ab"]
    for picture in pictures:
        answer = call("forecast", "demand", "--jobs", job_list, "--json", "--plot", picture)
        assert answer.exit_code == 0, answer.output
    assert pictures[0].read_bytes() == pictures[1].read_bytes()
    told = json.loads(answer.output)
    assert [row["region"] for row in told["hours"]] == ["x"] * 24 + ["y"] * 24
    assert all(row["least"] <= row["middle"] <= row["most"] for row in told["hours"])
    scores = told["scores"]
    others = ("as the hour before", "as the day before", "as the week before", "smoothed over days")
    assert all(scores["learnt"]["pinball"] < scores[name]["pinball"] for name in others)
    assert "hour" in told["chain"], "by night fewer come"
    by_eye = call("forecast", "demand", "--jobs", job_list, "--region", "x")
    assert by_eye.exit_code == 0 and by_eye.output.count("2017-10-0") >= 24


def test_the_same_history_gives_the_same_file(job_list: Path, tmp_path: Path) -> None:
    for what in ("durations", "demand"):
        files = [tmp_path / f"{what}-{name}.json" for name in "ab"]
        for file in files:
            assert call("forecast", what, "--jobs", job_list, "--out", file).exit_code == 0
        assert files[0].read_bytes() == files[1].read_bytes()
        answer = call("explain-model", files[0], "--json", "--sample", "3")
        assert answer.exit_code == 0, answer.output
        assert json.loads(answer.output)["what"] == what
        assert call("explain-model", files[0], "--plot", tmp_path / "why.svg").exit_code == 0
        assert (tmp_path / "why.svg").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["durations", "--out", "a.pickle"], 2, "allowed are files that end in .json"),
        (["demand", "--plot", "a.pdf"], 2, "allowed are files that end in .svg or .png"),
        (["durations", "--held-out", "0.9"], 2, "0.05<=x<=0.8"),
        (["durations"], 2, "no run has ended by itself yet"),
        (["demand"], 2, "nothing was asked for"),
        (["durations", "--jobs", "EMPTY"], 2, "no run has ended"),
        (["demand", "--jobs", "EMPTY"], 2, "two weeks"),
        (["demand", "--jobs", "SHORT"], 2, "allowed are 336 hours"),
        (["durations", "--jobs", "SHORT"], 2, "allowed are 50 and 10 and more"),
        (["durations", "--jobs", "WRONG"], 2, "duration is 'long'"),
        (["demand", "--jobs", "JOBS", "--region", "z"], 2, "nothing was asked for there; there are x, y"),
        (["durations", "--jobs", "BLANK"], 2, "no column timestamp, duration, num_gpus, cluster; it is empty"),
        (["durations", "--jobs", "OTHER"], 2, "it has a, b\n"),
        (["durations", "--jobs", "HUGE"], 2, "line 3: duration is '1e300'; allowed are 0 to 1,000,000,000 seconds"),
        (["demand", "--jobs", "HUGE"], 2, "line 3: duration is '1e300'"),
        (
            ["demand", "--jobs", "ANCIENT"],
            2,
            "line 2: timestamp is '0001-01-01 00:00:00'; allowed are the years 1970 to",
        ),
        (["durations", "--jobs", "LATE"], 2, "line 2: timestamp is '2200-01-01 00:00:00'; allowed are the years"),
        (
            ["demand", "--jobs", "LONG"],
            2,
            "1 region by 2,016,120 hours: 2,016,120 in all; allowed are 500,000",
        ),
        (["demand", "--jobs", "WIDE"], 2, "Learn from one region alone (--region NAME), or a shorter history"),
        (
            ["demand", "--jobs", "WIDE", "--region", "z"],
            2,
            "there are 0, 10, 100, 1000, 1002, 1004, 1006, 1008, 1010, 1012 and 990 more",
        ),
        (["durations", "--warehouse", "/nowhere"], 1, "there is no warehouse"),
    ],
)
def test_a_wrong_call_is_told_what_is_allowed(
    arguments: list[str], code: int, words: str, tmp_path: Path, job_list: Path
) -> None:
    head = "timestamp,duration,num_gpus,gpu_time,cluster\n"
    texts = {
        "EMPTY": "",
        "SHORT": "2017-09-01 00:00:00,60,1,60,x\n2017-09-01 09:00:00,60,1,60,x\n",
        "WRONG": "2017-09-01 00:00:00,long,1,60,x\n",
        "HUGE": "2017-09-01 00:00:00,1e9,1,60,x\n2017-09-01 00:00:00,1e300,1,60,x\n",
        "ANCIENT": "0001-01-01 00:00:00,60,1,60,x\n",
        "LATE": "2200-01-01 00:00:00,60,1,60,x\n",
        "LONG": "1970-01-01 00:00:00,60,1,60,x\n2199-12-31 00:00:00,60,1,60,x\n",
        "WIDE": "".join(f"2017-{9 + name % 2:02}-01 00:00:00,60,1,60,{name}\n" for name in range(2_000)),
        "BLANK": "",
        "OTHER": "",
    }
    files = {name: tmp_path / f"{name}.csv" for name in texts} | {"JOBS": job_list}
    for name, text in texts.items():
        files[name].write_text({"BLANK": "", "OTHER": "a,b\n"}.get(name, head + text))
    answer = call(
        "forecast",
        *[files.get(one, one) for one in arguments],
        *([] if "--warehouse" in arguments else ["--warehouse", tmp_path]),
    )
    assert answer.exit_code == code, answer.output
    assert words in answer.output


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("{}", [], "no forecast"),
        ('{"format": "thalweg-forecast/9"}', [], "format"),
        (None, ["--with", "colour=red"], "no column; there are expected_s, tenant"),
        (None, ["--with", "gpus"], "allowed is NAME=VALUE"),
        (None, ["--sample", "999"], "there are 200"),
        (None, ["--hidden", "3", "--seed", "0"], "--hidden, --seed: allowed for classifiers alone"),
        (None, ["--samples", __file__], "--samples: allowed for classifiers alone"),
    ],
)
def test_a_file_or_a_question_that_is_no_good_is_told_so(
    text: str | None, options: list[str], words: str, tmp_path: Path, ended: Path
) -> None:
    file = tmp_path / "durations.json"
    if text is None:
        assert call("forecast", "durations", "--warehouse", ended, "--out", file).exit_code == 0
    else:
        file.write_text(text)
    answer = call("explain-model", file, *options)
    assert answer.exit_code == 2 and words in answer.output, answer.output
    none = call("explain-model", tmp_path / "none.json")
    assert none.exit_code == 2 and f"--out {tmp_path / 'none.json'}" in none.output


def test_a_region_is_learnt_from_alone_as_if_the_list_held_no_other(job_list: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.csv"
    lines = job_list.read_text().splitlines(keepends=True)
    alone.write_text("".join(line for line in lines if not line.endswith(",y\n")))
    last = [next(line for line in reversed(lines) if line.endswith(f",{name}\n"))[:13] for name in "xy"]
    assert last[0] == last[1], "or the histories end in different hours"
    one, other = (
        json.loads(call("forecast", "demand", "--jobs", file, "--region", "x", "--json").output)
        for file in (job_list, alone)
    )
    assert one == other and [row["region"] for row in one["hours"]] == ["x"] * 24


@pytest.mark.parametrize(("always_s", "ratios"), [(60.0, False), (None, True)])
def test_ratios_are_spoken_of_where_a_group_is_one(always_s: float | None, ratios: bool, tmp_path: Path) -> None:
    said = np.random.default_rng(3).lognormal(5.0, 1.0, 200).tolist()
    put(tmp_path, TASKS, [task(f"t{at}", 600.0 * at, expected_s=one) for at, one in enumerate(said)])
    put(tmp_path, RESULTS, [run(f"t{at}", 600.0 * at, always_s or 2.0 * one) for at, one in enumerate(said)])
    out = tmp_path / "durations.json"
    learnt = call("forecast", "durations", "--warehouse", tmp_path, "--out", out)
    why = call("explain-model", out)
    assert learnt.exit_code == why.exit_code == 0, learnt.output + why.output
    assert ("Ratios are to expected_s" in learnt.output, "ratios to expected_s" in why.output) == (ratios, ratios)
    assert "to the forecasts that were tried on\nthese" in why.output


def test_gpu_hours_are_counted_in_words() -> None:
    assert [_gpu_hours(number) for number in (1.0, 8.126, 123_456.0)] == [
        "1 GPU-hour",
        "8.13 GPU-hours",
        "123,000 GPU-hours",
    ]
