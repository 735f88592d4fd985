"""Model servers and roll-outs on a live broker: waves, a harm that comes back, and a server that is cut off."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner

from tests.acceptance.placing import until
from tests.acceptance.test_replicate import running, settings_for
from tests.patience import PATIENCE_S
from tests.unit.thalweg.serving.models import model, question
from tests.unit.thalweg.serving.test_served import call, label
from thalweg.benchmarks.sync.proxied_broker import ProxiedBroker
from thalweg.cli.main import cli
from thalweg.client.model_client import ModelClient
from thalweg.learning.rollout.waves import position
from thalweg.processes.ports import free_port

pytestmark = pytest.mark.acceptance

PREFIX: Final = "served"
HARMFUL: Final = 3
"""Version whose answers are wrong, each of them."""
NAMES: Final = [f"edge-{number}" for number in range(50)]
AWAY: Final = next(  # a wave's first edges have to be there, or nobody would try the version
    name
    for name in NAMES
    if all(
        position("m", str(v), name) == max(position("m", str(v), n) for n in ("edge-0", "edge-1", name)) for v in (3, 4)
    )
)
EDGES: Final = ("edge-0", "edge-1", AWAY)
PACE_S: Final = 0.005
"""Between two requests of a caller: two cores carry that beside all else. A gap of a few milliseconds may fall between
two requests here; those are what the unit tests look for, where callers never pause."""


class Server:
    """`thalweg model serve --rollouts` in a process of its own, and one caller who asks nobody else."""

    def __init__(self, name: str, folder: Path, bootstrap: str, payloads: Path) -> None:
        self.name, self.port = name, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [
            sys.executable, "-m", "thalweg", "model", "serve", "m", f"--region={name}-region", f"--name={name}",
            f"--port={self.port}", f"--keep={folder / name}", "--rollouts", "--report-every=0.5",
            f"--bootstrap={bootstrap}", f"--set=kafka.topic_prefix={PREFIX}", "--set=kafka.request_timeout_ms=3000",
            f"--set=federate.payloads={payloads}",
        ]  # fmt: skip
        self._log = folder / f"{name}.log"
        self.answers: list[int] = []
        """Versions, in the order of the requests."""
        self.failures: list[BaseException] = []
        self.process = self.begin()

    def begin(self) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        return self.process

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def version(self) -> int:
        """Say which version serves; 0 while none does."""
        assert self.process.poll() is None, self._log.read_text()[-2_000:]
        try:
            return int(call(self.url, "/v2/models/m/figures")[1]["version"])
        except OSError:
            return 0

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Ask without a pause, tell the truth of each answer, and note what failed."""
        over = threading.Event()

        def ask() -> None:
            with ModelClient("m", [self.url], timeout_s=PATIENCE_S) as client:
                while not over.wait(PACE_S):
                    try:
                        answer = client.infer([question()], id=f"{self.name}-{len(self.answers)}")
                        assert label(answer) == int(answer["model_version"])
                        self.answers.append(label(answer))
                        said = {"id": answer["id"], "correct": self.answers[-1] != HARMFUL}
                        # No version is on trial most of the time, and then the truth is of no use: 404.
                        status, _ = call(self.url, "/v2/models/m/outcome", json.dumps(said).encode())
                        assert status in (200, 404)
                    except BaseException as error:
                        self.failures.append(error)

        caller = threading.Thread(target=ask)
        caller.start()
        try:
            yield
        finally:
            over.set()
            caller.join(PATIENCE_S)


class Stage:
    """The plane in this process and one beside it that decides; three servers, of which one has a way of its own."""

    def __init__(self, links: ProxiedBroker, folder: Path, warehouse: str) -> None:
        self.folder, self.warehouse = folder, warehouse
        self.payloads = folder / "payloads"
        self.payloads.mkdir()
        self._way = folder / "payloads-of-the-one-away"
        self._proxy = links.proxies["us"]
        self.restore()
        self._common = [
            f"--set=kafka.bootstrap_servers={links.bootstrap}", f"--set=kafka.topic_prefix={PREFIX}",
            f"--set=warehouse.path={warehouse}", f"--set=federate.payloads={self.payloads}",
        ]  # fmt: skip
        self.servers: dict[str, Server] = {}
        for number in (1, 2, 3, 4):
            (folder / f"{number}.onnx").write_bytes(model(number))

    def begun(self, bootstrap: str) -> Iterator[Server]:
        """Start the servers, one after the other."""
        through = {AWAY: (f"127.0.0.1:{self._proxy.port}", self._way)}
        for name in EDGES:
            self.servers[name] = Server(name, self.folder, *through.get(name, (bootstrap, self.payloads)))
            yield self.servers[name]

    def cut(self) -> None:
        """Take broker and store away from one server."""
        self._proxy.cut()
        self._way.unlink()

    def restore(self) -> None:
        self._proxy.restore()
        self._way.symlink_to(self.payloads)

    def decider(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "thalweg.jobs.roll_out", *self._common, "--set=rollout.look_every_ms=200"]
        with (self.folder / "roll_out.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    def calls(self, *arguments: str) -> Any:
        told = CliRunner().invoke(cli, [*arguments, "--json"])
        assert told.exit_code == 0, told.output
        return json.loads(told.output)

    def publish(self, number: int, *more: str) -> str:
        told = self.calls("model", "publish", "m", str(self.folder / f"{number}.onnx"), *more, *self._common)
        assert (told["version"], "delta" in told["ways"]) == (number, number > 1)
        return str(told["sha256"])

    def roll_out(self, number: int, sha256: str) -> dict[str, Any]:
        """Roll a version out over three waves, and return how that has ended."""
        how = ["--waves=0.3,0.6,1", "--soak=0", "--margin=wrong=0.2", "--margin=failed=0.2"]
        self.calls("rollout", "start", "m", f"--version={number}", f"--digest={sha256}", *how, *self._common)
        found: dict[str, Any] = {}

        def ended() -> bool:
            for one in self.calls("rollout", "status", f"--warehouse={self.warehouse}")["rollouts"]:
                found.update(one)
            return found.get("version") == str(number) and found["state"] != "running"

        until(ended, 2 * PATIENCE_S)
        return found

    def all_serve(self, number: int, names: tuple[str, ...] = EDGES) -> Callable[[], bool]:
        return lambda: {self.servers[name].version() for name in names} == {number}


def test_versions_go_out_in_waves_come_back_and_reach_who_was_cut_off_and_no_request_is_dropped(
    spark: Any, links: ProxiedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THALWEG_STATE", str(tmp_path / "state"))
    settings = settings_for(links.bootstrap, tmp_path, PREFIX)
    here = tuple(name for name in EDGES if name != AWAY)
    with ExitStack() as stack:
        stack.callback(links.proxies["us"].restore)
        stack.enter_context(running(spark, settings))
        stage = Stage(links, tmp_path, settings.warehouse.path)
        first = stage.publish(1)  # before there are servers: Spark's first batches have the machine for themselves
        for server in stage.begun(links.bootstrap):
            stack.callback(server.end)
        decider = stage.decider()
        stack.callback(decider.kill)
        until(stage.all_serve(1), 2 * PATIENCE_S)
        for name in here:
            stack.enter_context(stage.servers[name].asked())
        away = stage.servers[AWAY]
        with away.asked():
            done = stage.roll_out(1, first)
            assert (done["state"], done["rule"]) == ("completed", "first")

            done = stage.roll_out(2, stage.publish(2, "--for-rollout"))
            assert (done["state"], done["rule"], done["edges"]) == ("completed", "safe", 3), done
            until(stage.all_serve(2))

            # Cut off from broker and store, a server goes on; the others try a version that does harm.
            stage.cut()
            done = stage.roll_out(HARMFUL, stage.publish(HARMFUL, "--for-rollout"))
            assert (done["state"], done["rule"], done["serving"]) == ("rolled_back", "wrong", "2"), done
            until(stage.all_serve(2))
            tried = [server.name for server in stage.servers.values() if HARMFUL in server.answers]
            assert len(tried) == 1 and AWAY not in tried, "the first wave, and nobody else"

            done = stage.roll_out(4, stage.publish(4, "--for-rollout"))
            assert (done["state"], done["serving"]) == ("completed", "4"), done
            until(stage.all_serve(4, here))
            assert away.version() == 2

        # Its machine starts anew while it is cut off: what served last serves, and then what it has missed.
        away.kill()
        away.begin()
        until(lambda: away.version() == 2)
        with away.asked():
            stage.restore()
            until(lambda: away.version() == 4)
            asked = len(away.answers)
            until(lambda: len(away.answers) > asked)
        figures = {name: call(server.url, "/v2/models/m/figures")[1] for name, server in stage.servers.items()}
        facts = stage.calls("rollout", "history", "m", f"--warehouse={stage.warehouse}")["facts"]
        decider.send_signal(signal.SIGTERM)
        assert decider.wait(PATIENCE_S) == 0
    for name, server in stage.servers.items():
        assert not server.failures, (name, server.failures[:3])
        assert [figures[name][what] for what in ("failed", "refused", "shed")] == [0, 0, 0]
        assert set(server.answers) - {HARMFUL} == {1, 2, 4}
    assert not [fact for fact in facts if fact["kind"] == "refused"], facts
    assert [fact["wave"] for fact in reversed(facts) if fact["kind"] == "widened" and fact["version"] == "2"] == [
        0.3, 0.6, 1.0,
    ]  # fmt: skip
