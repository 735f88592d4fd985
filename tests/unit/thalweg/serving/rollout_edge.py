"""An edge for tests: a real server and its real follower beside a sync plane of one line and a store of payloads."""

import itertools
from collections.abc import Sequence
from pathlib import Path

from tests.unit.jobs.rollout.small_plane import MODEL, PREFIX, SmallPlane
from thalweg.learning.rollout.records import (
    DesiredModel,
    ReportedModel,
    ServedVersion,
    desired_key,
    read_reported,
    reported_key,
    value_of,
)
from thalweg.learning.vectors.parameters import digest
from thalweg.serving.edge_records import EdgeRecords
from thalweg.serving.kept_model import KeptModel
from thalweg.serving.model_server import ModelServer
from thalweg.serving.rollout_follower import REPORT_EVERY_MS, RolloutFollower
from thalweg.serving.version_follower import VersionFollower
from thalweg.serving.wanted_version import WantedVersion
from thalweg.streams.broker.consume import IncomingRecord
from thalweg.streams.broker.errors import BrokerUnavailableError
from thalweg.streams.broker.publish import OutgoingRecord
from thalweg.streams.contract.topics import STATE, topic_name
from thalweg.streams.learning.payloads import PayloadStore

REGION = "bern"


def named(number: int | str, raw: bytes) -> ServedVersion:
    return ServedVersion(version=str(number), sha256=digest(raw))


def wanted(number: int, serve: ServedVersion, beside: ServedVersion | None = None, share: float = 0.5) -> DesiredModel:
    return DesiredModel(
        number=number, serve=serve, beside=beside, share=share if beside is not None else 0.0, slow_ms=50.0
    )


class RolloutEdge:
    """One edge; made again over the same folder, it is the edge that has started anew."""

    def __init__(self, folder: Path, plane: SmallPlane, name: str = "edge-1") -> None:
        self.plane, self.name = plane, name
        self.away = False
        self.fetches: list[str] = []
        self.now_s = 0.0
        self.store = PayloadStore(str(folder / "payloads"))
        self.server = ModelServer(MODEL, KeptModel(folder / name), timer=lambda: self.now_s)
        records = EdgeRecords(MODEL, name)
        ids = itertools.count(1)
        self.follower = VersionFollower(
            server=self.server, name=name, region=REGION, url="http://h:1", prefix=PREFIX,
            connect=lambda: (WantedVersion(_Replica(self), MODEL, REGION, records), _Writes(self)),
            get=self.get, clock=lambda: plane.now_ms, steady=lambda: plane.now_ms,
            rollout=RolloutFollower(
                server=self.server, records=records, region=REGION, prefix=PREFIX, clock=lambda: plane.now_ms,
                new_id=lambda: f"made-{next(ids)}",
            ),
        )  # fmt: skip

    def get(self, name: str) -> bytes:
        self.fetches.append(name)
        return self.store.get(name)

    def steps(self, count: int = 4) -> None:
        """Let the follower go round, a report's time each."""
        for _ in range(count):
            self.plane.now_ms += REPORT_EVERY_MS
            self.follower.step()

    def desire(self, desired: DesiredModel) -> None:
        self.plane.now_ms += 1
        self.plane.write(desired_key(MODEL, self.name), value_of(desired))
        self.steps()

    def reported(self) -> ReportedModel:
        value = self.plane.read(reported_key(MODEL, self.name))
        assert value is not None
        return read_reported(value)

    @property
    def serves(self) -> int:
        serving = self.server.serving
        return 0 if serving is None else serving.version.version


class _Replica:
    """Reads the plane's topic `replica`, a few records at a time."""

    def __init__(self, edge: RolloutEdge) -> None:
        if edge.away:
            raise BrokerUnavailableError("h:9092", OSError("nobody"))
        self._edge, self._next = edge, 0

    def poll(self, timeout_ms: int) -> list[IncomingRecord]:
        if self._edge.away:
            raise BrokerUnavailableError("h:9092", OSError("nobody"))
        found = self._edge.plane.log[self._next : self._next + 3]
        self._next += len(found)
        return found

    def end_offsets(self) -> dict[tuple[str, int], int]:
        return {(f"{PREFIX}.replica", 0): len(self._edge.plane.log)}

    def position(self, topic: str, partition: int) -> int:
        return self._next

    def close(self) -> None:
        """Nothing is open."""


class _Writes:
    """Takes what the edge reports from its region; what a server says of itself goes nowhere here."""

    def __init__(self, edge: RolloutEdge) -> None:
        self._edge = edge

    def publish(self, records: Sequence[OutgoingRecord]) -> None:
        if self._edge.away:
            raise BrokerUnavailableError("h:9092", OSError("nobody"))
        state = topic_name(STATE, PREFIX, REGION)
        self._edge.plane.publish([record for record in records if record.topic == state])

    def close(self) -> None:
        """Nothing is open."""
