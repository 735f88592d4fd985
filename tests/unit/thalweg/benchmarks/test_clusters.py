"""What `bench clusters` makes of a store's log and of its own parameters; the clusters are in tests/acceptance."""

from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import click
import pytest

from thalweg.benchmarks.clusters import clusters, round_trips
from thalweg.benchmarks.clusters.clusters import CASES, chosen, options
from thalweg.benchmarks.clusters.requests import (
    batches,
    by_place,
    is_on_the_way,
    one_after_another_ms,
    place_of,
    read,
)
from thalweg.conf.settings import KafkaSettings, Settings, load_settings
from thalweg.processes.ports import LOOPBACK
from thalweg.stack.s3_server import S3Server

BEGIN, END = "127.0.0.1 - - [01/Dec/2026 23:42:27] ", " -"
LOG = [
    "\x1b[31m\x1b[1mWARNING: This is a development server.\x1b[0m",
    " * Running on http://127.0.0.1:19911",
    *(
        f"{BEGIN}{line}{END}"
        for line in (
            '"PUT /b1 HTTP/1.1" 200',
            '"POST /b1/thalweg/decisions/a.parquet?uploads HTTP/1.1" 200',
            '"PUT /b1/thalweg/decisions/a.parquet?partNumber=1&uploadId=N HTTP/1.1" 200',
            '"POST /b1/thalweg/decisions/a.parquet?uploadId=N HTTP/1.1" 200',
            '"\x1b[33mGET /b1/thalweg/decisions/_delta_log/_last_checkpoint HTTP/1.1\x1b[0m" 404',
            '"GET /b1?list-type=2&prefix=thalweg/decisions/_delta_log/&start-after=thalweg/x HTTP/1.1" 200',
            '"PUT /b1/thalweg/decisions/_delta_log/00000000000000000001.json HTTP/1.1" 200',
            '"GET /b1/thalweg/tasks/_delta_log/00000000000000000001.json HTTP/1.1" 200',
            '"PUT /b1/checkpoints/place/commits/7 HTTP/1.1" 200',
            '"\x1b[35m\x1b[1mDELETE /b1/checkpoints/place/commits/.7.ab.tmp HTTP/1.1\x1b[0m" 204',
            '"PUT /b1/checkpoints/place/commits/8 HTTP/1.1" 200',
            '"\x1b[33mHEAD /b1/checkpoints/place/commits/8 HTTP/1.1\x1b[0m" 404',
            '"PUT /b1/probe/object HTTP/1.1" 200',
            '"GET /b1?list-type=2&prefix=probe/ HTTP/1.1" 200',
        )
    ),
]


def test_a_log_is_counted_by_whose_object_it_is_and_what_was_done_without_the_measurements_own() -> None:
    counted = by_place(read(LOG))
    assert counted == {
        "others": Counter({"put": 1}),
        "decisions files": Counter({"begin upload": 1, "put part": 1, "end upload": 1}),
        "decisions log": Counter({"get 404": 1, "list": 1, "put": 1}),
        "tasks log": Counter({"get": 1}),
        "checkpoint": Counter({"put": 2, "delete": 1, "head 404": 1}),
    }


def test_a_micro_batch_is_one_whose_end_was_noted_under_its_own_name() -> None:
    assert batches(read(LOG)) == 2
    assert batches(one for one in read(LOG) if "tmp" in one.key) == 0


def test_requests_of_one_second_are_of_the_same_moment() -> None:
    first, *others = read(LOG)
    assert {one.at_s for one in others} == {first.at_s}
    (later,) = read([LOG[-1].replace("23:42:27", "23:43:29")])
    assert later.at_s - first.at_s == 62


@pytest.mark.parametrize(
    ("key", "place", "waits"),
    [
        ("checkpoints/place/offsets/3", "checkpoint", True),
        ("thalweg/decisions/_delta_log/1.json", "decisions log", True),
        ("thalweg/decisions/part=1/a.parquet", "decisions files", True),
        ("thalweg/placements/a.parquet", "placements files", False),
        ("thalweg/", "others", False),
        ("", "others", False),
    ],
)
def test_a_batch_waits_for_its_checkpoint_and_for_the_ledger(key: str, place: str, waits: bool) -> None:
    assert place_of(key) == place
    assert is_on_the_way(place) is waits


def test_what_a_batch_waits_for_takes_its_round_trips_one_after_another() -> None:
    each = {
        "checkpoint": {"put": 4.0, "head 404": 1.0},
        "decisions files": {"begin upload": 1.0},
        "tasks log": {"get": 50.0},
    }
    assert one_after_another_ms(each, {"put": 10.0, "head": 3.0, "get": 2.0}) == 4 * 10 + 3 + 10


def test_what_a_batch_asks_for_is_counted_within_the_measured_time_alone(tmp_path: Path) -> None:
    before, after = (line.replace("23:42:27", at) for line, at in ((LOG[8], "23:42:20"), (LOG[8], "23:42:40")))
    store = S3Server(port=1, bucket="b1", log=tmp_path / "log")
    store.log.write_text("\n".join([before, *LOG, after]), encoding="utf-8")
    at_ms = round(next(iter(read(LOG))).at_s * 1_000)
    trips = {kind: {"p50_ms": 2.0} for kind in ("put", "head", "get", "list", "delete")}
    found = clusters.asked(store, trips, trips, {"from_ms": at_ms - 500, "to_ms": at_ms + 5_000})
    assert (found["micro_batches"], found["requests"]) == (2, 12)
    assert found["requests_a_batch"] == {
        "others": 0.5, "decisions files": 1.5, "decisions log": 1.5, "tasks log": 0.5, "checkpoint": 2.0,
    }  # fmt: skip
    assert found["on_the_way_a_batch"] == 5.0
    assert found["one_after_another_ms"] == {"idle": 10.0, "under_load": 10.0}
    nothing = clusters.asked(store, trips, trips, {"from_ms": 0, "to_ms": 5_000})
    assert (nothing["micro_batches"], nothing["requests"], nothing["requests_a_batch"]) == (0, 0, {})


def test_cases_are_run_in_their_order_and_each_with_what_it_is_held_against() -> None:
    assert chosen(clusters.Parameters().cases) == list(CASES)
    assert chosen("both, local") == ["local", "both"]
    assert all(CASES[case.beside].beside == case.beside for case in CASES.values())
    with pytest.raises(
        click.UsageError, match="cases=s4,local: s4 is missing or none of ours; there are local, standalone"
    ):
        chosen("s4,local")
    with pytest.raises(click.UsageError, match="local_through_spark is missing"):
        chosen("local,through_executors")


def test_what_the_job_is_told_are_settings_that_it_has() -> None:
    kafka = KafkaSettings(bootstrap_servers="127.0.0.1:9092", topic_prefix="bench-s3")

    def told(case: str) -> Settings:
        given = options(kafka, "s3://b/thalweg", "s3://b/checkpoints", CASES[case])
        assert given[::2] == ["--set"] * (len(given) // 2)
        return load_settings(None, overrides=given[1::2], environment={})

    settings = told("through_executors")
    assert settings.kafka == kafka
    assert (settings.warehouse.path, settings.spark.checkpoints) == ("s3://b/thalweg", "s3://b/checkpoints")
    assert settings.place.read_ahead is False
    assert told("both").place.read_ahead is True


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[tuple[S3Server, list[str], list[int]]]:
    heard: list[str] = []
    status = [200]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: object) -> None:
            pass

        def do_any(self) -> None:
            heard.append(f"{self.command} {self.path}")
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status[0])
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_PUT = do_DELETE = do_HEAD = do_any  # noqa: N815 (the library's names)

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    yield S3Server(port=server.server_address[1], bucket="b1", log=tmp_path / "log"), heard, status
    server.shutdown()
    server.server_close()


def test_a_round_trip_of_each_kind_is_timed_and_counted_as_the_measurements_own(
    answering: tuple[S3Server, list[str], list[int]],
) -> None:
    store, heard, status = answering
    trips = round_trips.RoundTrips(store)
    for _ in range(3):
        trips.round()
    assert len(heard) == 15
    assert by_place(read(f'{BEGIN}"{one} HTTP/1.1" 200{END}' for one in heard)) == {}
    figures = trips.figures()
    assert list(figures) == ["put", "head", "get", "list", "delete"]
    assert all(0 < one["p50_ms"] <= one["p99_ms"] for one in figures.values())
    assert round_trips.medians(figures)["put"] == figures["put"]["p50_ms"]
    assert trips.figures(to_s=1.0) == {}, "of another time there are none"
    status[0] = 503
    with pytest.raises(RuntimeError, match="refuses a put: 503"):
        trips.round()
    trips.close()
