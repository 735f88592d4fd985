"""Nobody but the files named here reads a clock: what needs the time is given it, so that tests and replays may say it.

A wall clock may be set, so what it reads goes into what is said (rows, files, headers), never into how long to wait. A
steady one measures: it decides when something is tried again, given up or shown, never what is decided.
"""

import ast
from pathlib import Path
from typing import Final

import pytest

from thalweg.conf.environment import PROJECT_ROOT

ENTRY: Final = "an entry: it hands the clock to what it starts, or says when a person asked"
COMMIT: Final = "a file or commit carries the time it was made, for whoever cleans up behind it; no row does"
DISCOVERY: Final = "how long ago topics, files or brokers were looked for"
DEADLINE: Final = "how long it waits for a process, a broker or a reader"
SHOWN: Final = "how long something took or has been going on, for a person, a log or a metric"
PACE: Final = "keeps a pace: so many steps or samples in a second"

WALL: Final = {
    "sync/clock.py": "where it is read",
    "jobs/federate.py": ENTRY,
    "jobs/roll_out.py": ENTRY,
    "jobs/local.py": ENTRY,
    "jobs/maintain.py": ENTRY,
    "jobs/placement/tables.py": COMMIT,
    "jobs/snapshot.py": ENTRY,
    "sync/delta/appender.py": COMMIT,
    "sync/delta/commits.py": COMMIT,
    "sync/delta/log_writer.py": COMMIT,
    "sync/tables/latest_tables.py": COMMIT,
    "thalweg/agent/store.py": "names a start of an agent apart from every other",
    "thalweg/bootstrap/release.py": "a version is of a day",
    "thalweg/checkup/brokers.py": "compares the broker's clock with this machine's",
    "thalweg/checkup/machine.py": "looks at the clocks themselves",
    "thalweg/checkup/tables.py": "how old a table is",
    "thalweg/cli/account_command.py": ENTRY,
    "thalweg/cli/agent_command.py": ENTRY,
    "thalweg/chaos/troubled.py": "makes it wrong, for a stack that is hurt on purpose",
    "thalweg/cli/backup_commands.py": ENTRY,
    "thalweg/cli/bench_command.py": "names a result by its moment",
    "thalweg/cli/change_commands.py": ENTRY,
    "thalweg/cli/chaos_command.py": ENTRY,
    "thalweg/cli/demo_command.py": ENTRY,
    "thalweg/cli/explain_command.py": ENTRY,
    "thalweg/cli/federate_command.py": ENTRY,
    "thalweg/cli/flower_command.py": ENTRY,
    "thalweg/cli/forecast_command.py": ENTRY,
    "thalweg/cli/terminal/outcomes.py": "says how long ago a task had ended",
    "thalweg/cli/logs_command.py": ENTRY,
    "thalweg/cli/model_command.py": ENTRY,
    "thalweg/cli/opportunities_command.py": ENTRY,
    "thalweg/cli/order_commands.py": ENTRY,
    "thalweg/cli/read_commands.py": ENTRY,
    "thalweg/cli/reach/reading.py": ENTRY,
    "thalweg/cli/refused_command.py": ENTRY,
    "thalweg/cli/replay_command.py": ENTRY,
    "thalweg/cli/sync_command.py": ENTRY,
    "thalweg/cli/rollout_command.py": ENTRY,
    "thalweg/cli/serve_command.py": ENTRY,
    "thalweg/cli/serve_model_command.py": ENTRY,
    "thalweg/cli/submit_command.py": "--new names a task by its moment",
    "thalweg/cli/take_part_command.py": ENTRY,
    "thalweg/cli/tasks_command.py": ENTRY,
    "thalweg/cli/wait_command.py": ENTRY,
    "thalweg/cli/reach/recorded_campaign.py": ENTRY,
    "thalweg/client/client.py": "an application's entry: stamps what it sends, unless it brings a clock",
    "thalweg/client/replica_client.py": "an application's entry: stamps what it writes",
    "thalweg/flower/connection.py": ENTRY,
    "thalweg/flower/local_grid.py": "an application's entry, unless it brings a clock",
    "thalweg/stack/process_table.py": "how long a process has been running",
}

STEADY: Final = {
    "sync/clock.py": "where it is read",
    "jobs/local.py": "how often a query has failed lately",
    "jobs/microbatch/microbatch.py": SHOWN,
    "jobs/microbatch/rehearsal.py": DEADLINE,
    "jobs/placement/edge.py": "silence is judged by what could be heard since a look, on this clock",
    "jobs/placement/heartbeat.py": "silence is judged by what could be heard since a look, on this clock",
    "jobs/placement/again.py": SHOWN,
    "jobs/placement/placer.py": "a plan ends at its deadline with the best it has",
    "jobs/placement/recovery.py": SHOWN,
    "jobs/placement/snapshots.py": PACE,
    "jobs/placement/standby.py": "how long the driver has not shown that it works",
    "jobs/placement/tables.py": "how long ago files were merged",
    "jobs/replication/upkeep.py": "how long ago files were merged and swept",
    "jobs/runtime/append_upkeep.py": "how long ago files were swept",
    "jobs/runtime/background.py": SHOWN,
    "jobs/runtime/health.py": SHOWN,
    "jobs/runtime/job.py": DEADLINE,
    "scheduling/compiled.py": "when compiling pays; both ways compute the same",
    "streams/broker/consume.py": DISCOVERY,
    "streams/broker/range_reader.py": DEADLINE,
    "sync/proof/campaign.py": SHOWN,
    "thalweg/agent/agent.py": PACE,
    "thalweg/agent/process_runner.py": DEADLINE,
    "thalweg/audit/hurt.py": DEADLINE,
    "thalweg/audit/watch.py": DEADLINE,
    "thalweg/bootstrap/checks.py": SHOWN,
    "thalweg/bootstrap/flower_environment.py": SHOWN,
    "thalweg/bootstrap/try_wheel.py": SHOWN,
    "thalweg/bootstrap/virtualenv.py": SHOWN,
    "thalweg/checkup/machine.py": "looks at the clocks themselves",
    "thalweg/chaos/load.py": PACE,
    "thalweg/chaos/hands.py": PACE,
    "thalweg/chaos/run.py": DEADLINE,
    "thalweg/chaos/troubled.py": "orders what machines saw, across processes",
    "thalweg/cli/agent_command.py": ENTRY,
    "thalweg/cli/federate_command.py": SHOWN,
    "thalweg/cli/backup_commands.py": ENTRY,
    "thalweg/cli/model_command.py": ENTRY,
    "thalweg/cli/place_sim_command.py": SHOWN,
    "thalweg/cli/plan_command.py": "a plan ends at its deadline with the best it has",
    "thalweg/cli/replay_command.py": SHOWN,
    "thalweg/cli/serve_model_command.py": ENTRY,
    "thalweg/cli/shrink_command.py": ENTRY,
    "thalweg/cli/sync_command.py": SHOWN,
    "thalweg/federation/rollout_campaign.py": SHOWN,
    "thalweg/cli/reach/topic_reading.py": DEADLINE,
    "thalweg/client/client.py": DEADLINE,
    "thalweg/client/model_client.py": "an application's entry: servers are chosen by how long they take",
    "thalweg/client/orders.py": DEADLINE,
    "thalweg/demo/demo.py": PACE,
    "thalweg/demo/view.py": SHOWN,
    "thalweg/flower/connection.py": ENTRY,
    "thalweg/flower/local_grid.py": "an application's entry, unless it brings a clock",
    "thalweg/processes/children.py": DEADLINE,
    "thalweg/processes/supervisor.py": "how long a process has been well, and when it is started again",
    "thalweg/proof/campaign.py": SHOWN,
    "thalweg/replay/openb.py": SHOWN,
    "thalweg/stack/rehearsal.py": SHOWN,
    "thalweg/stack/stack.py": DEADLINE,
    "thalweg/window/foresight.py": "a supposition ends at its deadline with what is planned",
}

ROOMS: Final = ("conf", "jobs", "learning", "scheduling", "streams", "sync", "thalweg")
"""All but `benchmarks/`, which is there to measure."""

WALL_READINGS: Final = frozenset(
    {"time.time", "time.time_ns", "time.localtime", "time.ctime", "time.asctime", "system_clock", "uuid.uuid1"}
    | {f"{kind}.{read}" for kind in ("datetime", "date", "Timestamp") for read in ("now", "utcnow", "today")}
)
STEADY_READINGS: Final = frozenset(
    {
        f"time.{kind}{unit}"
        for kind in ("monotonic", "perf_counter", "process_time", "thread_time")
        for unit in ("", "_ns")
    }
    | {"time.clock_gettime", "time.clock_gettime_ns", "os.times", "steady_clock"}
)


def readings(program: str) -> set[str]:
    """Name each clock that a program names, called or handed on: `time.time`, `datetime.now`, `system_clock`."""
    found = set()
    for node in ast.walk(ast.parse(program)):
        match node:
            case ast.Attribute(value=ast.Name(id=owner) | ast.Attribute(attr=owner), attr=name):
                found |= {f"{owner}.{name}", name}
            case ast.Name(id=name):
                found.add(name)
            case ast.ImportFrom(module="time", names=names):
                found |= {f"time.{alias.name}" for alias in names}
    return found & (WALL_READINGS | STEADY_READINGS)


def files() -> list[Path]:
    rooms = [PROJECT_ROOT / room for room in ROOMS]
    links = [link for link in (PROJECT_ROOT / "thalweg").iterdir() if link.is_symlink()]  # to rooms, and to benchmarks/
    return sorted(
        path for room in rooms for path in room.rglob("*.py") if not any(path.is_relative_to(link) for link in links)
    )


@pytest.mark.parametrize(
    ("readings_of_kind", "named"), [(WALL_READINGS, WALL), (STEADY_READINGS, STEADY)], ids=["wall", "steady"]
)
def test_only_files_that_are_named_with_a_reason_read_a_clock(
    readings_of_kind: frozenset[str], named: dict[str, str]
) -> None:
    reading = {
        str(path.relative_to(PROJECT_ROOT)): sorted(found)
        for path in files()
        if (found := readings(path.read_text(encoding="utf-8")) & readings_of_kind)
    }
    unnamed = {file: found for file, found in reading.items() if file not in named}
    assert not unnamed, "let them be given the time, or name them here with the reason"
    assert sorted(named) == sorted(reading), "named here, and reads none any more"


@pytest.mark.parametrize(
    ("program", "read"),
    [
        ("import time\nx = time.time_ns() // 1_000_000", {"time.time_ns"}),
        ("from time import monotonic as now", {"time.monotonic"}),
        ("import datetime\ndatetime.datetime.now(datetime.UTC)", {"datetime.now"}),
        ("from datetime import date\nday = date.today", {"date.today"}),
        ("import pandas as pd\npd.Timestamp.now()", {"Timestamp.now"}),
        ("from thalweg.sync.clock import steady_clock\nrun(steady_clock)", {"steady_clock"}),
        ("from thalweg.sync import clock\nclock.system_clock()", {"system_clock"}),
        ("def f(clock): return clock()\ntime.sleep(1)\nself.time.now", set()),
    ],
)
def test_every_way_to_read_a_clock_is_seen(program: str, read: set[str]) -> None:
    assert readings(program) == read
