"""What the doctor makes of what it sees; each look is given a sick patient and a healthy one."""

import fcntl
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.ledger_rows import ledger, submitted
from thalweg.bootstrap.jars import ensure_jars
from thalweg.checkup import brokers, checkpoints, installed, leases, machine, stacks
from thalweg.checkup.checkpoints import Look
from thalweg.checkup.doctor import doctor
from thalweg.checkup.finding import Severity
from thalweg.checkup.stacks import StackNow
from thalweg.checkup.tables import table_findings
from thalweg.conf.environment import JarSet, find_java, jar_paths
from thalweg.conf.settings import KafkaSettings
from thalweg.processes.identity import ProcessIdentity
from thalweg.processes.ports import free_port
from thalweg.stack.state import MARKER, StateFolder
from thalweg.streams.broker.origin import CheckpointOrigin, Present
from thalweg.streams.broker.query_checkpoint import QueryCheckpoint
from thalweg.sync.delta.contracts import DECISIONS
from thalweg.sync.delta.store import append, open_or_create
from thalweg.sync.ledger.ledger import Ledger

LOCK = (
    'alpha==1.0 \\\n    --hash=sha256:00\nBeta_two==2.0 ; sys_platform == "win32" \\\ngamma==3.0 ; a\ngamma==3.1 ; b\n'
)


@pytest.mark.parametrize(
    ("packages", "status", "words"),
    [
        ({"alpha": "1.0", "gamma": "3.1"}, Severity.OK, "all 3 as locked"),
        ({"alpha": "1.0", "beta-two": "2.0"}, Severity.OK, "all 3"),
        ({"gamma": "3.0"}, Severity.PROBLEM, "alpha is missing (locked: 1.0)"),
        ({"alpha": "1.0", "beta-two": "2.1"}, Severity.PROBLEM, "beta-two is 2.1 (locked: 2.0)"),
        ({"alpha": "1.0", "gamma": "4"}, Severity.PROBLEM, "gamma is 4 (locked: 3.0 or 3.1)"),
    ],
)
def test_packages_are_compared_with_the_lock(packages: dict[str, str], status: Severity, words: str) -> None:
    finding = installed.package_finding(LOCK, packages)
    assert finding.status is status
    assert words in finding.seen
    assert bool(finding.fix) is (status is not Severity.OK)


# A stack of somebody else may run on the default port.
NO_BROKER = ("--set", "kafka.bootstrap_servers=127.0.0.1:1")
VERSIONS = {"pyspark": "4.2.0", "delta-spark": "4.4.0", "deltalake": "1.6.6"}
JARS = {"spark-sql-kafka-0-10_2.13": "4.2.0", "delta-spark_4.2_2.13": "4.4.0"}


@pytest.mark.parametrize(
    ("versions", "jars"),
    [
        (VERSIONS | {"pyspark": "4.1.0"}, JARS),
        (VERSIONS | {"delta-spark": "4.3.0"}, JARS),
        (VERSIONS | {"deltalake": "missing"}, JARS),
        (VERSIONS, JARS | {"spark-sql-kafka-0-10_2.13": "4.1.1"}),
        (VERSIONS, {"spark-sql-kafka-0-10_2.13": "4.2.0", "delta-spark_4.1_2.13": "4.4.0"}),
    ],
)
def test_versions_that_do_not_fit_are_a_problem(versions: Mapping[str, str], jars: Mapping[str, str]) -> None:
    assert installed.fit_finding(versions, jars).status is Severity.PROBLEM
    assert installed.fit_finding(VERSIONS, JARS).status is Severity.OK


def test_what_is_installed_and_locked_here_fits() -> None:
    assert installed.fit_finding().status is Severity.OK


def test_python_below_the_minimum_is_a_problem() -> None:
    assert installed.python_finding((3, 10, 12)).status is Severity.PROBLEM
    assert installed.python_finding((3, 11, 0)).status is Severity.OK


def test_missing_and_altered_jars_are_named(tmp_path: Path) -> None:
    assert "never fetched" in installed.jar_finding(folder=tmp_path / "nowhere").seen
    for jar_set in JarSet:
        ensure_jars(find_java(), lock=jar_set.lock)
        (tmp_path / jar_set).mkdir()
        for jar in jar_paths(jar_set):
            (tmp_path / jar_set / jar.name).symlink_to(jar)
    assert installed.jar_finding(folder=tmp_path).status is Severity.OK
    first, second = sorted((tmp_path / "spark").iterdir())[:2]
    first.unlink()
    second.unlink()
    second.write_bytes(b"altered")
    finding = installed.jar_finding(folder=tmp_path)
    assert finding.status is Severity.PROBLEM
    assert f"{first.name} is missing" in finding.seen
    assert f"{second.name} has another hash" in finding.seen


def test_an_old_java_home_that_only_we_pass_over_is_a_warning(tmp_path: Path) -> None:
    for name, version in (("old", "11.0.2"), ("new", "17.0.2")):
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name / "bin" / "java").touch(mode=0o755)
        (tmp_path / name / "release").write_text(f'JAVA_VERSION="{version}"\n')
    environ = {"JAVA_HOME": str(tmp_path / "old"), "PATH": str(tmp_path / "new" / "bin")}
    finding = installed.java_finding(environ)
    assert finding.status is Severity.WARNING
    assert "JAVA_HOME names Java 11.0.2" in finding.seen
    environ["JAVA_HOME"] = str(tmp_path / "new")
    assert installed.java_finding(environ).status is Severity.OK


@pytest.mark.parametrize(("free_gb", "status"), [(0.5, "problem"), (3.0, "warning"), (50.0, "ok")])
def test_disk_space_is_judged(tmp_path: Path, free_gb: float, status: str) -> None:
    assert machine.disk_finding("cache", tmp_path / "a" / "b", 1.0, free_gb).status == status


def test_disk_space_is_measured_where_the_folder_will_lie(tmp_path: Path) -> None:
    assert str(tmp_path) in machine.disk_finding("cache", tmp_path / "not" / "yet", 0.0).seen


@pytest.mark.parametrize(("text", "gb"), [("2g", 2.0), ("512m", 0.512), ("1048576k", 1.048576), ("3GB", 3.0)])
def test_sparks_way_of_writing_memory_is_read(text: str, gb: float) -> None:
    assert machine.heap_gb(text) == pytest.approx(gb)


def test_memory_is_judged_before_the_stack_runs_only() -> None:
    assert machine.memory_finding("2g", stack_runs=False, available_gb=3.0).status is Severity.WARNING
    assert machine.memory_finding("2g", stack_runs=True, available_gb=3.0).status is Severity.OK
    assert machine.memory_finding("2g", stack_runs=False, available_gb=6.0).status is Severity.OK


def test_a_taken_port_is_a_warning_and_a_deaf_one_of_a_running_stack_a_problem() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert machine.port_findings(StackNow(), port)[0].status is Severity.WARNING
        assert machine.port_findings(StackNow(runs=True, ports={"kafka": port}), 9092)[0].status is Severity.OK
    assert machine.port_findings(StackNow(runs=True, ports={"kafka": port}), 9092)[0].status is Severity.PROBLEM
    assert machine.port_findings(StackNow(), free_port())[0].status is Severity.OK


@pytest.mark.parametrize(
    ("wall", "status"),
    [
        ((2e9, 2e9 + 0.25), "ok"),
        ((2e9, 2e9 + 3600), "problem"),
        ((2e9, 2e9 - 1), "problem"),
        ((1e9, 1e9 + 0.25), "problem"),
    ],
)
def test_a_clock_that_jumps_or_lies_is_a_problem(wall: tuple[float, float], status: str) -> None:
    walls, monotonics = iter(wall), iter((100.0, 100.25))
    finding = machine.clock_finding(lambda: next(walls), lambda: next(monotonics), lambda _: None)
    assert finding.status == status


@pytest.mark.parametrize(
    ("broker_ms", "status"), [(1005, "ok"), (3500, "warning"), (90_000, "problem"), (-40_000, "problem")]
)
def test_the_brokers_clock_is_compared_with_ours(broker_ms: float, status: str) -> None:
    assert machine.skew_finding(broker_ms, 1000, 1010).status == status


def checkpoint(folder: Path, batch: int, offsets: dict[str, dict[str, int]], *, metadata: bool = True) -> Path:
    (folder / "offsets").mkdir(parents=True)
    (folder / "offsets" / str(batch)).write_text(f'v1\n{{"batchWatermarkMs":0}}\n{json.dumps(offsets)}')
    (folder / "offsets" / str(batch - 1)).write_text("v1\n{}\n{}")
    if metadata:
        (folder / "metadata").write_text('{"id":"x"}')
    return folder


def ends_at(**ends: int) -> Look:
    return lambda *_: Present(ends={(topic, 0): end for topic, end in ends.items()})


def test_a_checkpoint_within_the_broker_is_fine(tmp_path: Path) -> None:
    checkpoint(tmp_path / "place", 12, {"requests": {"0": 500}})
    (found,) = checkpoints.checkpoint_findings(tmp_path, ends_at(requests=500))
    assert (found.check, found.status) == ("checkpoint: place", Severity.OK)
    assert "batch 12" in found.seen


def test_a_checkpoint_ahead_of_its_topic_is_told_with_what_will_happen(tmp_path: Path) -> None:
    checkpoint(tmp_path / "place", 12, {"requests": {"0": 500}})
    (found,) = checkpoints.checkpoint_findings(tmp_path, ends_at(requests=499))
    assert found.status is Severity.WARNING
    assert "requests/0 ends at 499, the checkpoint stands at 500" in found.seen
    assert "set aside; this topic is read from its earliest record" in found.seen
    assert found.fix


def test_a_checkpoint_without_its_metadata_is_a_problem(tmp_path: Path) -> None:
    checkpoint(tmp_path / "place", 12, {"requests": {"0": 5}}, metadata=False)
    (found,) = checkpoints.checkpoint_findings(tmp_path, ends_at(requests=5))
    assert found.status is Severity.PROBLEM
    assert f"mv {tmp_path / 'place'}" in found.fix


@pytest.mark.parametrize("damage", ["", "v1", "v1\n{}\n{half", "\0\0\0\0", "v1\n{}\n" + '{"requests":{"0":"many"}}'])
def test_a_damaged_checkpoint_is_a_problem(tmp_path: Path, damage: str) -> None:
    checkpoint(tmp_path / "place", 12, {"requests": {"0": 5}})
    (tmp_path / "place" / "offsets" / "12").write_text(damage)
    (found,) = checkpoints.checkpoint_findings(tmp_path, ends_at(requests=5))
    assert found.status is Severity.PROBLEM
    assert "cannot be read" in found.seen


def test_without_a_broker_a_whole_checkpoint_is_not_condemned(tmp_path: Path) -> None:
    checkpoint(tmp_path / "place", 12, {"requests": {"0": 5}})
    assert checkpoints.checkpoint_findings(tmp_path, lambda *_: Present())[0].status is Severity.OK
    assert checkpoints.checkpoint_findings(tmp_path / "none", lambda *_: Present())[0].status is Severity.OK


def test_looking_at_a_state_folder_writes_nothing(tmp_path: Path) -> None:
    assert stacks.state_finding(tmp_path / "new")[0].status is Severity.OK
    assert stacks.state_finding(tmp_path)[0].status is Severity.OK
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "foreign.txt").touch()
    assert stacks.state_finding(tmp_path)[0].status is Severity.PROBLEM
    assert [entry.name for entry in tmp_path.iterdir()] == ["foreign.txt"]


def test_a_damaged_state_folder_is_a_problem_and_a_cut_off_one_is_told(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    record = {
        "name": "broker",
        "state": "ready",
        "pid": 1,
        "started": "long ago",
        "ports": {},
        "restarts": 0,
        "last_failure": "",
        "log": "",
    }
    folder.write_stack({"supervisor": {"pid": 1, "started": "long ago"}, "processes": [record]})
    finding, stack = stacks.state_finding(tmp_path)
    assert (finding.status, stack) == (Severity.OK, StackNow())
    assert "was cut off" in finding.seen
    (tmp_path / MARKER).write_text("{")
    assert stacks.state_finding(tmp_path)[0].status is Severity.PROBLEM


def test_the_command_prints_one_document_and_fails_on_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THALWEG_STATE", str(tmp_path / "state"))
    result = CliRunner().invoke(doctor, ["--json", "--set", "warehouse.min_free_gb=1000000", *NO_BROKER])
    document = json.loads(result.stdout)
    assert result.exit_code == 1
    assert document["ok"] is False
    disk = next(finding for finding in document["findings"] if finding["check"] == "disk: state folder")
    assert disk["status"] == "problem"
    assert disk["fix"]


def test_a_setting_that_does_not_exist_is_a_finding_not_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THALWEG_STATE", str(tmp_path / "state"))
    monkeypatch.setattr("thalweg.checkup.doctor.brokers.broker_findings", lambda *_, **__: [])
    result = CliRunner().invoke(doctor, ["--set", "plaec.seed=1"])
    assert result.exit_code == 1
    assert "problem settings: " in result.stdout
    assert "fix: Correct the setting named" in result.stdout


@pytest.mark.skipif(not leases.KERNEL_LOCKS.is_file(), reason="the kernel lists locks on Linux only")
def test_a_lease_held_outside_the_stack_is_a_warning_and_an_old_one_nothing(tmp_path: Path) -> None:
    lease = tmp_path / "place.lease"
    lease.write_text('{"pid": 123456}')
    assert leases.lease_findings(str(tmp_path), StackNow())[0].status is Severity.OK
    with lease.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        (found,) = leases.lease_findings(str(tmp_path), StackNow())
        assert found.status is Severity.WARNING
        assert f"process {os.getpid()} drives" in found.seen
        (left,) = leases.lease_findings(str(tmp_path), StackNow(left=frozenset({os.getpid()})))
        assert (left.status, left.fix) == (Severity.WARNING, "thalweg down")
        assert leases.lease_findings(str(tmp_path), StackNow(runs=True))[0].status is Severity.OK
    assert leases.lease_findings(str(tmp_path), StackNow())[0].status is Severity.OK
    assert leases.lease_findings("s3://bucket/warehouse", StackNow()) == []


class ForeignBroker:
    """A broker of somebody else's on Kafka's own port: it may be asked whose it is, and nothing more."""

    def __init__(self, **_: object) -> None:
        pass

    def describe_cluster(self) -> dict[str, object]:
        return {"cluster_id": "theirs", "brokers": [{}]}

    def create_topics(self, *_: object) -> None:
        raise AssertionError("made a topic on a foreign broker")

    def close(self) -> None:
        pass


def cut_off_state(folder: Path) -> Path:
    """A state folder of cluster `ours` in which nothing runs: broker storage, a ledger, and a checkpoint of both."""
    StateFolder(folder)
    (folder / "broker" / "records").mkdir(parents=True)
    (folder / "broker" / "records" / "meta.properties").write_text("cluster.id=ours\n")
    table = open_or_create(DECISIONS, str(folder / "warehouse"))
    append(table, DECISIONS.schema.empty_table())
    place = checkpoint(folder / "checkpoints" / "place", 12, {"thalweg.requests": {"0": 500}})
    QueryCheckpoint(place).write_origin(
        CheckpointOrigin(
            warehouse_id=str(table.metadata().id),
            cluster_id="ours",
            topic_ids={"thalweg.requests": "r1"},
            table_version=table.version(),
        )
    )
    return folder


def _looked() -> None:
    pytest.fail("looked into a foreign broker's topics")


def findings_of(state: Path, monkeypatch: pytest.MonkeyPatch, *, may_look: bool = False) -> dict[str, dict[str, str]]:
    monkeypatch.setenv("THALWEG_STATE", str(state))
    monkeypatch.delenv("THALWEG_KAFKA__BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.setattr(brokers, "KafkaAdminClient", ForeignBroker)
    monkeypatch.setattr(brokers, "_somebody_listens", lambda _: True)
    monkeypatch.setattr(brokers, "topics_present", lambda *_: None if may_look else _looked())
    result = CliRunner().invoke(doctor, ["--json"])
    return {finding["check"]: finding for finding in json.loads(result.stdout)["findings"]}


def record_of_own(state: str, name: str, ports: Mapping[str, int]) -> dict[str, object]:
    """What is recorded of a process of a stack; this one stands for it."""
    own = ProcessIdentity.own()
    return {
        "name": name,
        "state": state,
        "pid": own.pid,
        "started": own.started,
        "ports": dict(ports),
        "restarts": 0,
        "last_failure": "place failed 3 times",
        "log": f"{name}.log",
    }


@pytest.mark.parametrize("broker_state", ["ready", "starting"])
@pytest.mark.skipif(not leases.KERNEL_LOCKS.is_file(), reason="the kernel lists locks on Linux only")
def test_a_stack_that_runs_and_is_unwell_is_there_for_every_check(
    broker_state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = cut_off_state(tmp_path / "state")
    folder = StateFolder(state)
    own = ProcessIdentity.own()
    (state / "warehouse" / "place.lease").write_text("{}")
    with (
        folder.held(),
        socket.create_server(("127.0.0.1", 0)) as server,
        (state / "warehouse" / "place.lease").open() as lease,
    ):
        fcntl.flock(lease, fcntl.LOCK_EX)
        listens = {"kafka": server.getsockname()[1]}
        records = [record_of_own(broker_state, "broker", listens), record_of_own("failing", "jobs", {})]
        folder.write_stack({"supervisor": {"pid": own.pid, "started": own.started}, "processes": records})
        found = findings_of(state, monkeypatch, may_look=True)
    assert "a stack runs in" in found["state folder"]["seen"]
    assert "jobs is failing (place failed 3 times)" in found["state folder"]["seen"]
    assert found["state folder"]["fix"] == "See jobs.log"
    assert found["ports"]["status"] == "ok"
    assert "taken" not in found["ports"]["seen"]
    assert found["lease: place"] == {
        "check": "lease: place",
        "status": "ok",
        "seen": f"held by process {os.getpid()}",
        "fix": "",
    }
    everything = " ".join(f"{one['seen']} {one['fix']}" for one in found.values())
    assert "no stack" not in everything
    assert "kill" not in everything
    if broker_state == "starting":
        assert found["broker"]["seen"] == "the stack's broker is not ready"
        assert "the stack's broker is not ready" in found["checkpoint: place"]["seen"]


def test_a_foreign_broker_is_called_foreign_and_says_nothing_of_our_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = findings_of(cut_off_state(tmp_path / "state"), monkeypatch)
    assert "cluster theirs" in found["broker"]["seen"]
    assert "another installation's, and is left alone" in found["broker"]["seen"]
    assert "broker's clock" not in found
    assert found["checkpoint: place"]["status"] == "ok"
    assert "the stack's broker runs only with it" in found["checkpoint: place"]["seen"]
    assert found["checkpoint: place"]["fix"] == ""


@pytest.mark.parametrize(
    ("restored", "words"),
    [
        ("older table", "the table is older than the checkpoint: it is at version 0, the checkpoint has seen 1"),
        ("no table", "the checkpoint was made with table"),
        ("another broker", "was made with Kafka cluster ours, here is theirs"),
        ("no broker", "was made with Kafka cluster ours, here is none yet"),
    ],
)
def test_what_was_restored_alone_is_recognised_before_anything_runs(
    restored: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = cut_off_state(tmp_path / "state")
    match restored:
        case "older table":
            (state / "warehouse" / "decisions" / "_delta_log" / f"{1:020}.json").unlink()
        case "no table":
            (state / "warehouse").rename(tmp_path / "elsewhere")
        case "another broker":
            (state / "broker" / "records" / "meta.properties").write_text("cluster.id=theirs\n")
        case "no broker":
            (state / "broker").rename(tmp_path / "elsewhere")
    finding = findings_of(state, monkeypatch)["checkpoint: place"]
    assert finding["status"] == "warning"
    assert words in finding["seen"]
    assert "the checkpoint is set aside" in finding["seen"]
    assert finding["fix"]


def test_a_foreign_broker_in_the_place_of_a_running_stacks_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brokers, "KafkaAdminClient", ForeignBroker)
    (found,) = brokers.broker_findings(KafkaSettings(), must_answer=True, cluster="ours")
    assert found.status is Severity.PROBLEM
    assert "in the place of this stack's cluster ours" in found.seen


def test_a_damaged_table_is_named_with_its_file(tmp_path: Path) -> None:
    held = Ledger.claim(str(tmp_path))
    held.commit(ledger(submitted("t")), "q", 0, 0)
    (found,) = table_findings(str(tmp_path))
    assert found.status is Severity.OK
    assert found.seen.startswith("version 2, written 0 s ago")
    max((tmp_path / "decisions" / "_delta_log").glob("*.json")).write_bytes(b"")
    (found,) = table_findings(str(tmp_path))
    assert found.status is Severity.PROBLEM
    assert f"{2:020d}.json is empty" in found.seen
