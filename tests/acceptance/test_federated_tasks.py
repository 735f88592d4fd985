"""A run from its request to its final version: the plane places its participants where their data lie."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("sklearn", reason="the extra `learning` is not installed")
from sklearn.datasets import load_digits

from tests.acceptance.placing import REGIONS, Setting, until
from tests.patience import PATIENCE_S
from thalweg.cli.federate_command import federate
from thalweg.learning.local.network import LayeredNetwork
from thalweg.query.sql.query import query

pytestmark = pytest.mark.acceptance

HERE, THERE = REGIONS
NOWHERE: Final = "nobody:north-1"
ROUNDS: Final = 7
HANGS_IN: Final = 3
NETWORK: Final = LayeredNetwork(inputs=64, hidden=0, classes=10)
DEADLINE_S: Final = 15
"""Ten rounds without anybody end a run: a region has 150 s to come back, on however busy a machine."""

TRAINING: Final = f"""
import os, time
from pathlib import Path
from thalweg.federation.local_samples import on_samples, read_samples
from thalweg.learning.local.training import LocalTraining

FOLDER, FIRST_LIFE = Path(__file__).parent, os.environ["THALWEG_EPOCH"] == "1"
NAME = os.environ["THALWEG_TASK_ID"].rpartition("/")[2]
learn = on_samples(read_samples(FOLDER / f"{{NAME}}.npz"), LocalTraining(), 0, NAME, 0)

def train(vector, state):
    if NAME == "there" and FIRST_LIFE and state.round >= {HANGS_IN}:
        (FOLDER / "hangs").touch()
        time.sleep(600)
    if NAME == "there" and not FIRST_LIFE:
        (FOLDER / "back").touch()
    while NAME == "here" and state.round > {HANGS_IN} and not (FOLDER / "back").exists():
        time.sleep(0.1)
    return learn(vector, state)
"""


class Stage:
    """The plane on the shared broker, an agent for each region, and the centre: processes of their own."""

    def __init__(self, broker: str, folder: Path) -> None:
        self.setting = Setting(broker, folder, gpus=16)
        self.folder = folder
        self.warehouse = self.setting.settings.warehouse.path
        self.common = [
            f"--set=kafka.bootstrap_servers={broker}",
            f"--set=kafka.topic_prefix={self.setting.prefix}",
            f"--set=warehouse.path={self.warehouse}",
        ]
        nodes = [
            {"node_id": f"n{number}", "gpu_model": "A100", "gpus": 8, "cpus": 96, "memory_gb": 512}
            for number in range(2)
        ]
        (folder / "fleet.yaml").write_text(json.dumps({"nodes": nodes}))

    def centre(self) -> "subprocess.Popen[bytes]":
        payloads = f"--set=federate.payloads={self.folder / 'payloads'}"
        return self._process(
            "centre", "thalweg.jobs.federate", *self.common, payloads, "--set=federate.look_every_ms=20"
        )

    def agent(self, region: str) -> "subprocess.Popen[bytes]":
        name = f"agent-{REGIONS.index(region)}"
        options = ["--runner=process", f"--fleet={self.folder / 'fleet.yaml'}", f"--state={self.folder / name}"]
        options.append("--set=agent.kill_grace_s=2")
        return self._process(name, "thalweg", "agent", f"--region={region}", *options, *self.common)

    def _process(self, name: str, module: str, *arguments: str) -> "subprocess.Popen[bytes]":
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=log, stderr=log)

    def calls(self, *arguments: str) -> Any:
        told = CliRunner().invoke(federate, [*arguments, "--json"])
        assert told.exit_code == 0, told.output
        return json.loads(told.output)

    def rounds(self) -> list[dict[str, Any]]:
        """Rounds as the tables have them, the first one first."""
        found = self.calls("history", "digits", f"--warehouse={self.warehouse}")["rounds"]
        return sorted(found, key=lambda row: row["round"])

    def tasks(self) -> dict[str, dict[str, Any]]:
        rows = query("SELECT * FROM tasks", self.warehouse).dicts()
        return {row["task_id"].rpartition("/")[2]: row for row in rows}


@contextmanager
def ended(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """End a process in order, also one that was killed before."""
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE_S)
        finally:
            process.kill()


def deal(folder: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Give each region its half of the digits; return what nobody has."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(5).permutation(y.size)
    x, y = (x[order] / 16).astype(np.float32), y[order]
    for name, part in (("here", slice(0, 700)), ("there", slice(700, 1400))):
        np.savez(folder / f"{name}.npz", x=x[part], y=y[part])
    return x[1400:], y[1400:]


def declared(folder: Path, cpus: int = 1) -> Path:
    """Three participants, of which one has its data where nobody is."""
    (folder / "train.py").write_text(TRAINING)
    command = [
        sys.executable,
        "-m",
        "thalweg",
        "federate",
        "take-part",
        "digits",
        f"--train={folder / 'train.py'}:train",
    ]
    needs = {"per_worker": {"cpus": cpus, "memory_gb": 2}, "command": command}
    places = {"here": HERE, "there": THERE, "nowhere": NOWHERE}
    participants = [{"name": name, "data": [{"region": at, "size_gb": 1}], **needs} for name, at in places.items()]
    (folder / "participants.json").write_text(json.dumps(participants))
    return folder / "participants.json"


def test_participants_are_placed_at_their_data_and_a_region_that_dies_is_waited_for_as_a_straggler(
    broker: str, tmp_path: Path
) -> None:
    stage = Stage(broker, tmp_path)
    test_x, test_y = deal(tmp_path)
    np.save(tmp_path / "begin.npy", np.zeros(NETWORK.parameters, np.float32))
    with ExitStack() as running:
        running.callback(stage.setting.close)
        for process in (stage.setting.process(), stage.centre(), stage.agent(HERE)):
            running.enter_context(ended(process))
        dies = stage.agent(THERE)
        running.enter_context(ended(dies))
        start = [
            "start", "digits", f"--initial={tmp_path / 'begin.npy'}", f"--participants={declared(tmp_path)}",
            f"--rounds={ROUNDS}", "--quorum=1", "--begin-with=2", f"--deadline={DEADLINE_S}", *stage.common,
        ]  # fmt: skip
        asked = stage.calls(*start)
        assert asked["participants"] == [f"federated/digits/{name}" for name in ("here", "there", "nowhere")]
        until((tmp_path / "hangs").exists)
        dies.kill()
        dies.wait()
        until(lambda: len(stage.rounds()) >= HANGS_IN and stage.rounds()[HANGS_IN - 1]["state"] == "closed")
        assert not (tmp_path / "back").exists()
        running.enter_context(ended(stage.agent(THERE)))
        until(lambda: {name: row["state"] for name, row in stage.tasks().items()} == {
            "here": "succeeded", "there": "succeeded", "nowhere": "cancelled"
        })  # fmt: skip
        declared(tmp_path, cpus=2)
        again = CliRunner().invoke(federate, start)
        assert again.exit_code == 1 and "federated/digits/here was refused" in again.output, again.output
        closed = [row for row in stage.rounds() if row["state"] == "closed"]
        until(lambda: stage.setting.listen() or len(stage.setting.assigned()) == 2)
        assigned = stage.setting.assigned()
    assert len(closed) == ROUNDS
    accepted = {row["round"]: row["accepted"] for row in closed}
    assert [accepted[number] for number in range(1, HANGS_IN + 1)] == [2, 2, 1], "the dead region was not waited for"
    assert closed[-1]["accepted"] == 2, "the region that came back takes part again"
    assert {(event["kind"], event["region"]) for events in assigned.values() for event in events} == {
        ("federated", HERE), ("federated", THERE),
    }  # fmt: skip
    runs = query("SELECT task_id, region, epoch, state, result FROM results WHERE ends", stage.warehouse).dicts()
    by_name = {row["task_id"].rpartition("/")[2]: row for row in runs}
    assert (by_name["here"]["region"], by_name["there"]["region"]) == (HERE, THERE)
    assert by_name["there"]["epoch"] > by_name["here"]["epoch"]
    assert json.loads(by_name["here"]["result"]) | {"answered": 0} == {
        "model": "digits", "answered": 0, "version": ROUNDS, "ended": "complete",
    }  # fmt: skip
    (run,) = stage.calls("status", "digits", f"--warehouse={stage.warehouse}")["runs"]
    assert (run["version"], run["ended"]) == (ROUNDS, "complete")
    exported = CliRunner().invoke(
        federate, ["export", "digits", str(tmp_path / "final.npy"), f"--warehouse={stage.warehouse}"]
    )
    assert exported.exit_code == 0, exported.output
    assert NETWORK.accuracy(np.load(tmp_path / "final.npy"), test_x, test_y) > 0.9
