"""Every act of a programme has a hand; what a hand broke it mends, also when it is stopped in the middle."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest

from thalweg.chaos.hands import Hands, NotBackError
from thalweg.chaos.panel import Panel
from thalweg.chaos.programme import DRIVER, JOBS, STANDBY, TROUBLES, ChaosAct
from thalweg.chaos.troubled_stack import DRIVERS
from thalweg.conf.settings import KafkaSettings
from thalweg.processes.supervisor import ProcessState


class NotedLink:
    """A link that notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.asked.append(name)


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def hands(tmp_path: Path, sleeper: "subprocess.Popen[bytes]") -> Hands:
    panels = {name: Panel(tmp_path / name) for name in (*DRIVERS, JOBS, "agents-1")}
    child = SimpleNamespace(pid=sleeper.pid, exit_code=sleeper.poll, kill=sleeper.kill)
    processes = {
        name: SimpleNamespace(
            spec=SimpleNamespace(name=name), child=child, state=ProcessState.READY, log=tmp_path / f"{name}.log"
        )
        for name in (*DRIVERS, JOBS, "agents-1", "broker")
    }
    stack = SimpleNamespace(panels=panels, links={name: NotedLink() for name in (DRIVER, JOBS, "agents-1")})
    return Hands(
        stack=cast(Any, stack),
        supervisor=cast(Any, SimpleNamespace(processes=processes)),
        load=cast(Any, SimpleNamespace(held=False)),
        kafka=KafkaSettings,
        say=lambda _: None,
        before_topic_goes=lambda: None,
    )


def act(what: str, who: str = JOBS, *, amount: float = 0.0, seconds: float = 60.0) -> ChaosAct:
    return ChaosAct(at_s=0, what=what, who=who, amount=amount, seconds=seconds)


@pytest.mark.parametrize("what", ["kill", *(kind.name for kind in TROUBLES)])
def test_every_kind_of_act_has_a_hand(hands: Hands, what: str) -> None:
    hands.do(act(what)).close()


def test_a_slow_disk_and_a_wrong_clock_are_mended_when_they_are_stopped(hands: Hands) -> None:
    panel = hands.stack.panels[JOBS]
    acts = [hands.do(act("slow disk", amount=200)), hands.do(act("clock step", amount=-60_000))]
    for steps in acts:
        next(steps)
    assert (panel.disk_ms, panel.clock_ms) == (200, -60_000)
    for steps in acts:
        steps.close()
    assert (panel.disk_ms, panel.clock_ms) == (0, 0)


def test_both_drivers_have_the_drivers_trouble(hands: Hands) -> None:
    steps = hands.do(act("clock step", DRIVER, amount=2_000))
    next(steps)
    assert [hands.stack.panels[name].clock_ms for name in DRIVERS] == [2_000, 2_000]
    steps.close()


@pytest.mark.parametrize(
    ("what", "asked"), [("cut network", "cut"), ("half-open network", "half_open"), ("slow network", "be_slow")]
)
def test_a_bad_link_is_mended_in_time(hands: Hands, what: str, asked: str) -> None:
    for _ in hands.do(act(what, seconds=0.05)):
        pass
    assert cast(NotedLink, hands.stack.links[JOBS]).asked == [asked, "mend"]


def test_a_disk_is_full_for_the_process_and_has_room_again(hands: Hands, sleeper: "subprocess.Popen[bytes]") -> None:
    process = psutil.Process(sleeper.pid)
    before = process.rlimit(resource.RLIMIT_FSIZE)
    steps = hands.do(act("full disk"))
    next(steps)
    assert process.rlimit(resource.RLIMIT_FSIZE)[0] == 0
    steps.close()
    assert process.rlimit(resource.RLIMIT_FSIZE)[0] == before[1]


def test_a_frozen_process_goes_on(hands: Hands, sleeper: "subprocess.Popen[bytes]") -> None:
    steps = hands.do(act("freeze"))
    next(steps)
    os.waitid(os.P_PID, sleeper.pid, os.WSTOPPED)  # waits until it stands still
    steps.close()
    os.waitid(os.P_PID, sleeper.pid, os.WCONTINUED)


def test_the_driver_is_who_takes_batches(hands: Hands) -> None:
    for name in (*DRIVERS, *DRIVERS[::-1]):
        hands.stack.panels[name].count_batch()
        hands.look()
        assert hands.process_of(DRIVER).spec.name == name
        assert {hands.process_of(role).spec.name for role in (DRIVER, STANDBY)} == set(DRIVERS)


def test_a_process_that_does_not_reach_its_point_dies_all_the_same(
    hands: Hands, sleeper: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thalweg.chaos.hands.POINT_S", 0.05)
    for _ in hands.do(ChaosAct(at_s=0, what="kill", who=JOBS, point="replicate: before conflicts")):
        pass
    sleeper.wait(10)
    assert (hands.killed, hands.missed) == (1, ["replicate: before conflicts"])
    assert hands.stack.panels[JOBS].dies_at == 0


def test_who_does_not_come_back_is_told(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thalweg.chaos.hands.BACK_S", 0.05)
    hands.supervisor.processes[JOBS].state = ProcessState.PAUSING
    with pytest.raises(NotBackError, match="stuck: jobs was not at work again"):
        for _ in hands.do(act("kill")):
            pass
