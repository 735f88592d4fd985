"""Rounds over the real broker and Delta: the centre is killed, and makes the same versions."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("cryptography", reason="the extra `learning` is not installed")

from tests.patience import PATIENCE_S
from thalweg.cli.federate_command import federate
from thalweg.conf.settings import KafkaSettings
from thalweg.federation.connection import models_reader, publisher_for
from thalweg.federation.participant import Participant
from thalweg.federation.rehearsal import REGIONS, moved, rehearse
from thalweg.learning.rounds.run_spec import RunSpec
from thalweg.learning.secrecy.signatures import SigningKey
from thalweg.query.sql.query import query
from thalweg.streams.broker.publish import OutgoingRecord
from thalweg.streams.contract.topics import UPDATES, topic_name
from thalweg.streams.learning.payloads import PayloadStore
from thalweg.sync.clock import system_clock

pytestmark = pytest.mark.acceptance

ROUNDS = 4
SPEC = RunSpec(parameters=300, rounds=ROUNDS, quorum=2, begin_with=2, deadline_ms=10**9)
NAMES = ("p0", "p1")


class CentreProcess:
    """`jobs/federate` in a process of its own, killed and started again."""

    def __init__(self, broker: str, prefix: str, folder: Path) -> None:
        settings = {
            "kafka.bootstrap_servers": broker,
            "kafka.topic_prefix": prefix,
            "warehouse.path": str(folder / "warehouse"),
            "federate.payloads": str(folder / "payloads"),
            "federate.inline_bytes": "256",
            "federate.look_every_ms": "20",
        }
        options = [f"--set={name}={value}" for name, value in settings.items()]
        self._command = [sys.executable, "-m", "thalweg.jobs.federate", *options]
        self._log = (folder / "centre.log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=self._log, stderr=self._log)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def end(self) -> int:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(PATIENCE_S)


def test_a_centre_that_is_killed_again_and_again_makes_the_same_versions(broker: str, tmp_path: Path) -> None:
    expected = rehearse(str(tmp_path / "rehearsed"), SPEC, len(NAMES), 0, frozenset()).versions
    prefix = f"f{uuid.uuid4().hex[:8]}"
    kafka = KafkaSettings(bootstrap_servers=broker, topic_prefix=prefix)
    centre = CentreProcess(broker, prefix, tmp_path)
    centre.start()
    np.save(tmp_path / "initial.npy", np.zeros(SPEC.parameters, np.float32))
    places = [
        f"--bootstrap={broker}",
        f"--set=kafka.topic_prefix={prefix}",
        f"--set=warehouse.path={tmp_path / 'warehouse'}",
        f"--set=federate.inline_bytes={256}",
    ]
    told = CliRunner().invoke(
        federate,
        ["start", "m", f"--initial={tmp_path / 'initial.npy'}", f"--rounds={ROUNDS}", "--quorum=2", "--begin-with=2",
         "--deadline=1000000", *places, "--json"],
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    publishers = {region: publisher_for(kafka, region) for region in REGIONS}
    readers = [models_reader(kafka) for _ in NAMES]
    participants = [
        Participant(
            model="m",
            name=name,
            region=(region := REGIONS[index % 2]),
            train=moved(name),
            reader=readers[index],
            publisher=publishers[region],
            topic_prefix=prefix,
            clock=system_clock,
            store=PayloadStore(str(tmp_path / "payloads")),
            inline_bytes=256,
            key=SigningKey(os.urandom(32)),
        )
        for index, name in enumerate(NAMES)
    ]
    try:
        # The run must be known before anybody joins it: what is said of a run that is not there is refused.
        wait(lambda: participants[0].step(50) is not None)
        for participant in participants:
            participant.join()
        nonsense = OutgoingRecord(topic=topic_name(UPDATES, prefix, REGIONS[0]), key=b"m", value=b"no message")
        publishers[REGIONS[0]].publish([nonsense])
        killed: set[int] = set()

        def ended() -> bool:
            states = [participant.step(20) for participant in participants]
            state = states[0]
            assert state is not None
            # Once between rounds, whenever a version is new: while the centre reads, writes, or tells.
            if state.version in (1, 2) and state.version not in killed:
                killed.add(state.version)
                centre.kill()
                centre.start()
            return bool(state.ended)

        wait(ended)
        assert killed == {1, 2}
        wait(lambda: json_of("status", tmp_path)["runs"][0]["ended"] == "complete")
    finally:
        for reader in readers:
            reader.close()
        for publisher in publishers.values():
            publisher.close()
        code = centre.end()
    assert code == 0
    rounds = json_of("history", tmp_path, "m")["rounds"]
    assert [one["sha256"] for one in reversed(rounds)] == list(expected)
    assert [one["accepted"] for one in rounds] == [2] * ROUNDS
    status = json_of("status", tmp_path, "m")
    assert [one["accepted"] for one in status["participants"]] == [ROUNDS] * 2
    facts = query(
        "SELECT topic, topic_partition, topic_offset, count(*) AS n FROM learning WHERE topic IS NOT NULL "
        "GROUP BY topic, topic_partition, topic_offset HAVING count(*) > 1",
        str(tmp_path / "warehouse"),
    )
    assert facts.rows.num_rows == 0, "a record is two facts"
    refused = query("SELECT rule FROM learning WHERE rule = 'unreadable'", str(tmp_path / "warehouse"))
    assert refused.rows.num_rows == 1
    exported = CliRunner().invoke(
        federate,
        ["export", "m", str(tmp_path / "final.npy"), f"--warehouse={tmp_path / 'warehouse'}"],
    )
    assert exported.exit_code == 0, exported.output
    assert np.load(tmp_path / "final.npy").shape == (SPEC.parameters,)


def json_of(command: str, folder: Path, *arguments: str) -> dict[str, list[dict[str, object]]]:
    told = CliRunner().invoke(federate, [command, *arguments, f"--warehouse={folder / 'warehouse'}", "--json"])
    assert told.exit_code == 0, told.output
    return json.loads(told.output)  # type: ignore[no-any-return]


def wait(met) -> None:  # type: ignore[no-untyped-def]
    limit = time.monotonic() + PATIENCE_S
    while not met():
        assert time.monotonic() < limit, "not met in time"
