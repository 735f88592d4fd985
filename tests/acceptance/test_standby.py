"""Two drivers: one works and one stands by, until the first is gone or stands still. Never do both publish."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.acceptance.placing import Setting, until

pytestmark = pytest.mark.acceptance

TAKEOVER_MS = 4_000


@pytest.fixture
def setting(broker: str, tmp_path: Path) -> Iterator[Setting]:
    made = Setting(broker, tmp_path)
    yield made
    made.close()


def said(setting: Setting, number: int, words: str) -> bool:
    """Whether the driver that was started at this place in the order has said something."""
    logs = sorted(setting.folder.glob("place-*.log"))
    return len(logs) > number and words in logs[number].read_text(errors="replace")


@contextmanager
def two_drivers(setting: Setting) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """One that works, and has placed something, and one that stands by."""
    drivers: list[subprocess.Popen[bytes]] = []
    try:
        for number in range(2):
            drivers.append(setting.process(standby="true", takeover_ms=str(TAKEOVER_MS)))
            if number == 0:
                setting.request({"task_id": "first", "per_worker": {"gpus": 1}})
                setting.heard(lambda: "first" in setting.assigned())
        setting.heard(lambda: said(setting, 1, "standing by"))
        yield drivers
    finally:
        for driver in drivers:
            for signum in (signal.SIGCONT, signal.SIGKILL):
                with suppress(ProcessLookupError):  # killed by the test itself
                    os.killpg(driver.pid, signum)
            driver.wait()


def once(setting: Setting) -> None:
    """Everything that was told was decided once, and by one driver at a time."""
    rows = setting.ledger()
    assigned = [row["task_id"] for row in rows if row["transition"] == "assigned"]
    assert len(assigned) == len(set(assigned)), "placed once each"
    assert {event["event_id"] for event in setting.events} <= {row["event_id"] for row in rows if row["event_id"]}
    assert all(len(events) == 1 for events in setting.assigned().values())


def test_the_one_that_stands_by_takes_over_when_the_first_is_killed(setting: Setting) -> None:
    with two_drivers(setting) as (active, _):
        setting.request(*[{"task_id": f"t{index}", "per_worker": {"gpus": 1}} for index in range(20)])
        os.killpg(active.pid, signal.SIGKILL)
        active.wait()
        setting.heard(lambda: len(setting.assigned()) == 21)
        assert said(setting, 1, "the driver is gone; taking over")
        once(setting)
        assert max(row["driver_epoch"] for row in setting.ledger()) == 2


def test_a_driver_that_stands_still_is_fenced_and_publishes_nothing_when_it_wakes(setting: Setting) -> None:
    with two_drivers(setting) as (active, _):
        frozen = [psutil.Process(active.pid), *psutil.Process(active.pid).children(recursive=True)]
        for process in frozen:
            process.suspend()
        setting.request(*[{"task_id": f"t{index}", "per_worker": {"gpus": 1}} for index in range(20)])
        setting.heard(lambda: len(setting.assigned()) == 21)
        assert said(setting, 1, "it is fenced")
        for process in reversed(frozen):
            process.resume()
        until(lambda: active.poll() is not None)
        assert active.returncode == 1
        setting.request({"task_id": "last", "per_worker": {"gpus": 1}})
        setting.heard(lambda: "last" in setting.assigned())
        once(setting)
