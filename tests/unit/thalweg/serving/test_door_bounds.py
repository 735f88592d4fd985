"""What the door bounds, whom it lets in, and what it tells Prometheus."""

import http.client
import ipaddress
import json
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.unit.thalweg.serving.models import question
from tests.unit.thalweg.serving.test_served import at_http, call, label, serve, served
from thalweg.client.model_client import ModelAnswerError, ModelClient, NoServerError
from thalweg.conf.settings import ServingSettings
from thalweg.serving.callers import ModelCallers, ServingSettingsError
from thalweg.serving.model_server import ModelServer
from thalweg.serving.run_server import ModelHttp

SECRET = "a-secret-of-many-letters"
BODY = json.dumps({"inputs": [question()]}).encode()
INFER = "/v2/models/m/infer"


def blocked(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Semaphore, threading.Event]:
    """Let computing wait for the event; the semaphore counts who has begun."""
    begun, go = threading.Semaphore(0), threading.Event()
    serving = server.serving
    assert serving is not None
    infer: Callable[..., Any] = serving.infer

    def waits(*arguments: Any) -> Any:
        begun.release()
        assert go.wait(60)
        return infer(*arguments)

    monkeypatch.setattr(serving, "infer", waits)
    return begun, go


def test_who_waits_for_a_thread_is_counted_told_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 20  # more than there are threads to compute
    with served(tmp_path, most_in_flight=most) as (server, url), ThreadPoolExecutor(most + 5) as callers:
        serve(server, 1)
        begun, go = blocked(server, monkeypatch)
        waiting = [callers.submit(call, url, INFER, BODY) for _ in range(most)]
        assert begun.acquire(timeout=60)
        while server.told()["in_flight"] < most:
            assert not any(one.done() for one in waiting)
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
        connection.request("POST", INFER, BODY)
        refused = connection.getresponse()
        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        assert "20 requests under way" in json.loads(refused.read())["error"]
        connection.close()
        go.set()
        assert {one.result(60)[0] for one in waiting} == {200}
        assert call(url, INFER, BODY)[0] == 200
        told = server.told()
    assert (told["requests"], told["shed"], told["in_flight"]) == (most + 1, 1, 0)


def test_bodies_of_all_requests_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = BODY[:-1] + b" " * 19_000 + b"}"  # of 20,000 that one may have
    with served(tmp_path, most_in_flight=64) as (server, url), ThreadPoolExecutor(20) as callers:
        serve(server, 1)
        begun, go = blocked(server, monkeypatch)
        waiting = [callers.submit(call, url, INFER, large) for _ in range(8)]
        assert begun.acquire(timeout=60)
        while server.told()["in_flight"] < 8:
            assert not any(one.done() for one in waiting)
        status, told = call(url, INFER, large)
        assert (status, "160,000 bytes are here" in told["error"]) == (503, True), told
        assert call(url, "/v2/models/m/outcome", b'{"id": "r", "correct": true}')[0] == 404, "a small one is read"
        go.set()
        assert {one.result(60)[0] for one in waiting} == {200}
        assert [call(url, INFER, large)[0] for _ in range(9)] == [200] * 9, "what was held is given back"


def with_keys(folder: Path, **more: Any) -> ServingSettings:
    (folder / "edge.key").write_text(f"{SECRET}\n")
    return ServingSettings.model_validate({"keys": {"edge": {"secret_file": str(folder / "edge.key")}}, **more})


def test_with_a_key_the_model_answers_and_without_one_it_says_what_is_wanted(tmp_path: Path) -> None:
    server = ModelServer("m", None, timer=iter(range(10**9)).__next__)
    serve(server, 1)
    with at_http(server, with_keys(tmp_path, open=False)) as (url, _, _):
        for path, body in ((INFER, BODY), ("/v2/models/m/outcome", b"{}"), ("/v2/models/m", None), ("/metrics", None),
                           ("/v2/models/m/figures", None), ("/v2", None)):  # fmt: skip
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {SECRET}"}):
                status, told = call(url, path, body, headers)
                assert (status, "Bearer" in told["error"] or "none of serving.keys" in told["error"]) == (401, True)
        assert call(url, "/v2/health/ready") == (200, {"ready": True}), "who watches over it has no key"
        with ModelClient("m", [url], key=SECRET) as client:
            assert label(client.infer([question()])) == 0
        with ModelClient("m", [url]) as client, pytest.raises(ModelAnswerError, match="asked with a key"):
            client.infer([question()])
    assert server.told()["requests"] == 1


def test_elsewhere_than_on_loopback_nobody_asks_without_a_key_unless_that_is_meant(tmp_path: Path) -> None:
    with pytest.raises(ServingSettingsError, match=r"--host 0\.0\.0\.0.*serving\.keys.*serving\.open=true"):
        ModelCallers(ServingSettings(), "0.0.0.0")
    ModelCallers(ServingSettings(open=True), "0.0.0.0").check(None)
    ModelCallers(ServingSettings(), "127.0.0.1").check(None)
    assert ModelCallers(with_keys(tmp_path), "0.0.0.0").check(f"Bearer {SECRET}") == "edge"
    for key, words in (({}, "secret_file and secret"), ({"secret": "short"}, "allowed are 16")):
        with pytest.raises(ServingSettingsError, match=words):
            ModelCallers(ServingSettings.model_validate({"keys": {"edge": key}}), "127.0.0.1")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a certificate for loopback, with its key in the same file."""
    pytest.importorskip("cryptography", reason="the extra `learning` is not installed")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder, key = tmp_path_factory.mktemp("certificate"), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "edge")])
    addresses = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(addresses, critical=False)
        .sign(key, hashes.SHA256())
    )
    form, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "cert").write_bytes(made.public_bytes(form))
    (folder / "key").write_bytes(key.private_bytes(form, pkcs8, serialization.NoEncryption()))
    locked = serialization.BestAvailableEncryption(b"a password")
    (folder / "locked").write_bytes(key.private_bytes(form, pkcs8, locked))
    (folder / "both.pem").write_bytes((folder / "cert").read_bytes() + (folder / "key").read_bytes())
    return folder


def test_over_tls_who_knows_the_authority_is_answered_and_who_does_not_is_not(certificate: Path) -> None:
    server = ModelServer("m", None, timer=iter(range(10**9)).__next__)
    serve(server, 1)
    with at_http(server, ServingSettings(tls_certfile=str(certificate / "both.pem"))) as (url, _, _):
        secure = url.replace("http://", "https://")
        tls = ssl.create_default_context(cafile=certificate / "cert")
        with ModelClient("m", [secure], tls=tls) as client:
            assert label(client.infer([question()])) == 0
        with ModelClient("m", [secure]) as client, pytest.raises(NoServerError, match="certificate"):
            client.infer([question()])


def test_a_certificate_that_cannot_be_used_is_told_before_anything_is_served(certificate: Path) -> None:
    server = ModelServer("m", None, timer=iter(range(10**9)).__next__)
    for file, key, words in (
        ("none", None, "No such file"),
        ("key", None, "PEM"),
        ("cert", "none", "with the key .*none: No such file"),
        ("cert", "locked", "with the key .*locked: .*the key not encrypted"),  # and nobody is asked for its password
    ):
        with pytest.raises(ServingSettingsError, match=words):
            ModelHttp(
                server,
                most_body_bytes=1,
                linger_s=0,
                settings=ServingSettings(
                    tls_certfile=str(certificate / file), tls_keyfile=None if key is None else str(certificate / key)
                ),
                host="127.0.0.1",
            )


def test_prometheus_reads_what_became_of_requests_and_what_serves(tmp_path: Path) -> None:
    def shown(url: str) -> dict[str, float]:
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        return {one.rpartition(" ")[0]: float(one.rpartition(" ")[2]) for one in lines if 'model="watched"' in one}

    server = ModelServer("watched", None, timer=iter(range(10**9)).__next__, cache_bytes=10_000)
    with at_http(server) as (url, _, _):
        path = "/v2/models/watched/infer"
        before = shown(url)
        serve(server, 1)
        serve(server, 2)
        for body, status in ((BODY, 200), (BODY, 200), (b'{"inputs": []}', 400)):
            assert call(url, path, body)[0] == status
        after = shown(url)
        again = shown(url)
    counted = 'thalweg_model_requests_total{model="watched",outcome="%s"}'
    more = {name: after[counted % name] - before[counted % name] for name in ("answered", "refused", "failed", "shed")}
    assert more == {"answered": 2, "refused": 1, "failed": 0, "shed": 0}
    model = '{model="watched"}'
    assert after["thalweg_model_answer_seconds_count" + model] == 2
    assert after["thalweg_model_repeated_total" + model] == 1
    assert after["thalweg_model_swaps_total" + model] == 1
    assert after['thalweg_model_version{model="watched",part="serving"}'] == 2
    assert again == after, "looking changes nothing"
