"""A model over HTTP: versions are swapped under load and no request fails; the protocol's paths; what is refused."""

import http.client
import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytest

from tests.unit.thalweg.serving.models import model, question, version
from thalweg.client.model_client import ModelAnswerError, ModelClient, NoServerError
from thalweg.conf.settings import ServingSettings
from thalweg.learning.vectors.parameters import digest
from thalweg.serving.kept_model import KeptModel
from thalweg.serving.model_server import ModelServer
from thalweg.serving.run_server import ModelHttp, listening_at

RAW = [model(number) for number in range(8)]
STORE = {digest(raw): raw for raw in RAW}
OPEN = ServingSettings()
CALLERS, SWAPS, EACH = 6, 40, 10


def serve(server: ModelServer, number: int) -> None:
    """Let version N, which names class N - 1 modulo 8, serve."""
    server.want(version(number, RAW[(number - 1) % 8]))
    assert server.load(STORE.__getitem__)


@contextmanager
def over_http(folder: Path, **options: Any) -> Iterator[tuple[ModelServer, str, ModelHttp, threading.Thread]]:
    """Serve a model from a thread, until the block ends or it is told to end."""
    server = ModelServer("m", KeptModel(folder / "kept"), timer=iter(range(10**9)).__next__, **options)
    with at_http(server) as (url, serving, thread):
        yield server, url, serving, thread


@contextmanager
def at_http(server: ModelServer, settings: ServingSettings = OPEN) -> Iterator[tuple[str, ModelHttp, threading.Thread]]:
    """Let a server answer over HTTP."""
    ready = threading.Event()
    listening = listening_at("127.0.0.1", 0)
    serving = ModelHttp(
        server, most_body_bytes=20_000, linger_s=0.2, settings=settings, host="127.0.0.1", ready=ready.set
    )
    thread = threading.Thread(target=serving.serve_until_told, args=(listening,))
    with listening:
        thread.start()
        assert ready.wait(30)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", serving, thread
        finally:
            for _ in range(2):  # the second time it does not linger
                serving.handle_exit(SIGTERM, None)
            thread.join(30)
            assert not thread.is_alive()


@contextmanager
def served(folder: Path, **options: Any) -> Iterator[tuple[ModelServer, str]]:
    """Serve a model."""
    with over_http(folder, **options) as (server, url, *_):
        yield server, url


def call(url: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    try:
        connection.request("GET" if body is None else "POST", path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def label(answer: dict[str, Any]) -> int:
    return int({one["name"]: one for one in answer["outputs"]}["label"]["data"][0])


def test_versions_are_swapped_under_load_and_no_request_fails(tmp_path: Path) -> None:
    done, counted = threading.Event(), threading.Semaphore(0)
    answers: list[tuple[int, int]] = []
    failures: list[BaseException] = []

    def ask(seed: int, url: str) -> None:
        with ModelClient("m", [url], rng=random.Random(seed), timeout_s=30) as client:
            while not done.is_set():
                try:
                    answer = client.infer([question([float(seed), 0.0, 0.0])])
                    answers.append((int(answer["model_version"]), label(answer)))
                except BaseException as error:
                    failures.append(error)
                counted.release()

    with served(tmp_path, cache_bytes=10_000) as (server, url):
        serve(server, 1)
        callers = [threading.Thread(target=ask, args=(seed, url)) for seed in range(CALLERS)]
        for caller in callers:
            caller.start()
        for number in range(2, SWAPS + 2):
            for _ in range(EACH):  # requests go on between any two swaps, and while each is made
                assert counted.acquire(timeout=30)
            serve(server, number)
        done.set()
        for caller in callers:
            caller.join(30)
        told = server.told()
        assert list(server._loaded) == [server._swap.serving], "versions that nobody is on stay in memory"
    assert failures == []
    assert told["failed"] == told["refused"] == told["shed"] == 0
    assert told["swaps"] == SWAPS
    assert len(answers) == told["requests"] >= SWAPS * EACH
    assert all(named == (number - 1) % 8 for number, named in answers), "an answer of another version than it says"
    assert len({number for number, _ in answers}) > SWAPS / 2


def test_a_server_that_ends_fails_no_request(tmp_path: Path) -> None:
    with served(tmp_path / "stays") as (stays, there), over_http(tmp_path / "goes") as (goes, here, serving, thread):
        serve(stays, 1)
        serve(goes, 1)
        asked, enough = threading.Semaphore(0), threading.Event()
        failures: list[BaseException] = []

        def ask(seed: int) -> None:
            with ModelClient("m", [here, there], rng=random.Random(seed)) as client:
                while not enough.is_set():
                    try:
                        client.infer([question()])
                    except BaseException as error:
                        failures.append(error)
                    asked.release()

        asking = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
        for caller in asking:
            caller.start()
        for _ in range(100):
            assert asked.acquire(timeout=30)
        serving.handle_exit(SIGTERM, None)
        assert call(here, "/v2/health/ready") == (503, {"ready": False})
        assert call(here, "/v2/health/live") == (200, {"live": True})
        thread.join(30)
        before = goes.told()["requests"]
        for _ in range(100):
            assert asked.acquire(timeout=30)
        enough.set()
        for caller in asking:
            caller.join(30)
        assert goes.told()["requests"] == before > 0
    assert failures == []


def test_what_one_server_does_not_answer_another_is_asked(tmp_path: Path) -> None:
    with served(tmp_path / "a") as (answers, url), served(tmp_path / "b") as (empty, nothing_yet):
        serve(answers, 3)
        dead = listening_at("127.0.0.1", 0)
        refused = f"http://127.0.0.1:{dead.getsockname()[1]}"
        dead.close()
        for seed in range(10):
            with ModelClient("m", [refused, nothing_yet, url], rng=random.Random(seed)) as client:
                assert label(client.infer([question()])) == 2
        with ModelClient("m", [refused, nothing_yet]) as client, pytest.raises(NoServerError, match="nobody has"):
            client.infer([question()])
        with ModelClient("m", []) as client, pytest.raises(NoServerError, match="no server of the model is known"):
            client.infer([question()])
        assert empty.told()["requests"] == 0


def test_the_protocols_addresses(tmp_path: Path) -> None:
    with served(tmp_path) as (server, url):
        assert call(url, "/v2")[1]["name"] == "thalweg"
        assert call(url, "/v2/health/live") == (200, {"live": True})
        assert call(url, "/v2/health/ready") == (503, {"ready": False})
        assert call(url, "/v2/models/m")[0] == 503
        serve(server, 4)
        assert call(url, "/v2/health/ready") == call(url, "/v2/models/m/ready") == (200, {"ready": True})
        assert call(url, "/v2/models/m/versions/3/ready")[0] == 503
        status, about = call(url, "/v2/models/m")
        assert (status, about["name"], about["versions"], about["platform"]) == (200, "m", ["4"], "onnx_onnxruntime")
        assert about["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
        assert [one["name"] for one in about["outputs"]] == ["label", "probabilities"]
        body = json.dumps({"id": "q", "inputs": [question()], "outputs": [{"name": "label"}]}).encode()
        status, answer = call(url, "/v2/models/m/versions/4/infer", body)
        assert (status, answer["id"], answer["model_version"]) == (200, "q", "4")
        assert answer["outputs"] == [{"name": "label", "shape": [1], "datatype": "INT64", "data": [3]}]
        assert call(url, "/v2/models/m/figures")[1]["requests"] == 1


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v2/models/m/infer", b"{", 400, "not a request that can be answered"),
        ("/v2/models/m/infer", b"[]", 400, "Expected `object`"),
        ("/v2/models/m/infer", b"{}", 400, "missing required field `inputs`"),
        ("/v2/models/m/infer", b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [NaN]}]}', 400,
         "not a request"),
        ("/v2/models/m/infer", b"[" * 19_000, 400, "not a request"),
        ("/v2/models/m/infer", b" " * 20_001, 413, "20,001 bytes; allowed are 20,000"),
        ("/v2/models/m/versions/2/infer", None, 405, "does not take this method"),
        ("/v2/models/m/versions/x/infer", b'{"inputs": []}', 400, "whole numbers"),
        ("/v2/models/m/versions/9/infer", b'{"inputs": []}', 404, "version 1 serves"),
        ("/v2/models/n/infer", b"{}", 404, "model 'n' is not served here; 'm' is"),
        ("/v1", b"{}", 404, "no such path"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused_in_words(
    path: str, body: bytes | None, status: int, words: str, tmp_path: Path
) -> None:
    with served(tmp_path) as (server, url):
        serve(server, 1)
        found = call(url, path, body)
        assert (found[0], words in found[1]["error"]) == (status, True), found
        good = json.dumps({"inputs": [question()]}).encode()
        assert call(url, "/v2/models/m/infer", good)[0] == 200, "and the next one is answered"


def test_a_body_without_a_length_is_not_read_without_end(tmp_path: Path) -> None:
    with served(tmp_path) as (server, url):
        serve(server, 1)
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
        headers = {"Transfer-Encoding": "chunked"}
        connection.request("POST", "/v2/models/m/infer", iter([b" " * 9_000] * 4), headers, encode_chunked=True)
        answer = connection.getresponse()
        assert (answer.status, "more than 20,000 bytes" in json.loads(answer.read())["error"]) == (413, True)
        connection.close()


def test_a_request_that_is_refused_for_what_it_is_goes_to_nobody_else(tmp_path: Path) -> None:
    with served(tmp_path) as (server, url):
        serve(server, 1)
        with (
            ModelClient("m", [url, url + "/"]) as client,
            pytest.raises(ModelAnswerError, match="allowed is FP32") as found,
        ):
            client.infer([question() | {"datatype": "FP64"}])
        assert found.value.status == 400
        assert server.told()["refused"] == 1


def test_a_request_nested_too_deeply_is_refused_in_words(tmp_path: Path) -> None:
    deep = b'{"inputs": ' + b"[" * 9_000 + b"]" * 9_000 + b"}"
    with over_http(tmp_path) as (server, url, _, _):
        serve(server, 1)
        for path in ("infer", "outcome"):
            connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
            connection.request("POST", f"/v2/models/m/{path}", deep)
            answer = connection.getresponse()
            assert (answer.status, "error" in json.loads(answer.read())) == (400, True)
            connection.close()


@contextmanager
def foreign(status: int, body: bytes) -> Iterator[str]:
    """Answer everything with this, as a server of something else does."""

    class Page(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(30)


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"<html>hello"), (404, b"<html>no"), (200, b"[" * 99_999), (200, b"3"), (400, b"{}")]
)
def test_who_is_no_model_server_is_passed_over_and_told(status: int, body: bytes, tmp_path: Path) -> None:
    with foreign(status, body) as url, over_http(tmp_path) as (server, right, _, _):
        serve(server, 1)
        with ModelClient("m", [url]) as client, pytest.raises(NoServerError, match="no answer of a model server"):
            client.infer([question()])
        with ModelClient("m", [url, right], rng=random.Random(1)) as client:
            assert client.infer([question()])["model_version"] == "1"


@pytest.mark.parametrize("url", ["http://127.0.0.1:abc", "http://127.0.0.1:99999", "http://[::1", "ftp://h", "h"])
def test_an_address_that_is_none_is_named(url: str) -> None:
    with ModelClient("m", [url]) as client, pytest.raises(NoServerError, match="is no address"):
        client.infer([question()])
