"""What each cloud says of a machine that it takes away becomes a notice of the region's nodes."""

import logging
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.unit.thalweg.agents import REGION, Clock, World
from thalweg.agent.spot_notice import Cloud, SpotWatch

BY_MS = 1_764_590_520_000
ACTION = '{"action": "terminate", "time": "2025-12-01T12:02:00Z"}'
EVENT = (
    '{"DocumentIncarnation": 1, "Events": [{"EventId": "e", "EventType": "%s", "ResourceType": "VirtualMachine", '
    '"Resources": ["%s"], "EventStatus": "Scheduled", "NotBefore": "%s"}]}'
)
MOMENT = "Mon, 01 Dec 2025 12:02:00 GMT"
PATHS = {
    "aws": "/latest/meta-data/spot/instance-action",
    "gcp": "/computeMetadata/v1/instance/preempted",
    "azure": "/metadata/scheduledevents?api-version=2020-07-01",
}
NAME = "/metadata/instance/compute/name?api-version=2021-02-01&format=text"


class Metadata:
    """A metadata service: it answers only who asks with the header of its cloud."""

    def __init__(self) -> None:
        self.says: dict[str, str] = {NAME: "vm-1"}
        self.status = 200
        service = self

        class Answering(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                self.answer("a token" if self.headers["X-aws-ec2-metadata-token-ttl-seconds"] else None)

            def do_GET(self) -> None:
                asked = self.headers
                google, azure = asked["Metadata-Flavor"] == "Google", asked["Metadata"] == "true"
                known = google or azure or asked["X-aws-ec2-metadata-token"] == "a token"
                self.answer(service.says.get(self.path) if known else None)

            def answer(self, body: str | None) -> None:
                self.send_response(404 if body is None else service.status)
                self.send_header("Location", "http://127.0.0.1:9/")
                self.end_headers()
                self.wfile.write((body or "").encode())

            def log_message(self, *_: object) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Answering)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    made = Metadata()
    yield made
    made.server.shutdown()
    made.server.server_close()


def looked(metadata: Metadata, cloud: Cloud, says: Mapping[str, str]) -> int | None:
    metadata.says |= says
    watch = SpotWatch(cloud, metadata.address, Clock(BY_MS - 30_000))
    watch.look()
    return watch.by_ms()


@pytest.mark.parametrize(
    ("cloud", "says"), [("aws", ACTION), ("gcp", "TRUE"), ("azure", EVENT % ("Preempt", "vm-1", MOMENT))]
)
def test_each_cloud_says_when_it_takes_the_machine(metadata: Metadata, cloud: Cloud, says: str) -> None:
    assert looked(metadata, cloud, {PATHS[cloud]: says}) == BY_MS


@pytest.mark.parametrize(
    ("cloud", "says"),
    [
        ("aws", None),
        ("gcp", "FALSE"),
        ("azure", '{"DocumentIncarnation": 1, "Events": []}'),
        ("azure", EVENT % ("Reboot", "vm-1", MOMENT)),
        ("azure", EVENT % ("Preempt", "vm-2", MOMENT)),
    ],
)
def test_nothing_is_said_of_a_machine_that_stays(metadata: Metadata, cloud: Cloud, says: str | None) -> None:
    assert looked(metadata, cloud, {} if says is None else {PATHS[cloud]: says}) is None


def test_an_azure_event_that_has_begun_is_now(metadata: Metadata) -> None:
    assert looked(metadata, "azure", {PATHS["azure"]: EVENT % ("Preempt", "vm-1", "")}) == BY_MS - 30_000


def test_googles_thirty_seconds_are_counted_once(metadata: Metadata) -> None:
    clock = Clock(1_000)
    watch = SpotWatch("gcp", metadata.address, clock)
    metadata.says[PATHS["gcp"]] = "TRUE"
    watch.look()
    clock.now_ms += 5_000
    watch.look()
    assert watch.by_ms() == 31_000


def test_a_notice_that_is_withdrawn_is_said_no_more(metadata: Metadata) -> None:
    metadata.says[PATHS["aws"]] = ACTION
    watch = SpotWatch("aws", metadata.address, Clock())
    watch.look()
    del metadata.says[PATHS["aws"]]
    watch.look()
    assert watch.by_ms() is None


@pytest.mark.parametrize("says", ["{", "[]", '{"action": "stop", "time": "soon"}', "\xff"])
def test_what_is_not_in_its_form_changes_nothing_and_is_said_once(
    metadata: Metadata, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    watch = SpotWatch("aws", metadata.address, Clock())
    metadata.says[PATHS["aws"]] = ACTION
    watch.look()
    metadata.says[PATHS["aws"]] = says
    with caplog.at_level(logging.WARNING):
        watch.look()
        watch.look()
    assert watch.by_ms() == BY_MS
    assert len([line for line in caplog.messages if "did not answer" in line]) == 1


@pytest.mark.parametrize("status", [302, 500])
def test_a_service_that_fails_or_sends_elsewhere_says_nothing(metadata: Metadata, status: int) -> None:
    metadata.status = status
    assert looked(metadata, "gcp", {PATHS["gcp"]: "TRUE"}) is None


def test_a_machine_without_such_a_service_says_nothing() -> None:
    watch = SpotWatch("aws", "http://127.0.0.1:9", Clock())
    watch.look()
    assert watch.by_ms() is None


def test_the_agent_tells_its_nodes_while_the_notice_stands(tmp_path: Path) -> None:
    taken: list[int | None] = [None]
    world = World(folder=tmp_path / "agent", taken_away_by=lambda: taken[0])
    world.steps(100)
    assert [r for r in world.reports() if r.type == "notice"] == []
    taken[0] = BY_MS
    world.steps(600)  # 12 seconds
    notices = [r for r in world.reports() if r.type == "notice"]
    assert [(r.region, r.nodes, r.by) for r in notices] == [(REGION, ["n1"], BY_MS)] * 3
    taken[0] = None
    world.steps(600)
    assert len([r for r in world.reports() if r.type == "notice"]) == 3
