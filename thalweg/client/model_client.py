"""Ask a model that several servers serve: each request goes to one that is near and not busy (`serving.router`).

    with ModelClient("digits", ["http://10.0.0.7:8000", "http://10.1.0.9:8000"]) as model:
        answer = model.infer([{"name": "x", "shape": [1, 64], "datatype": "FP32", "data": pixels}])

A model's answer changes nothing, so what one server does not answer another one is asked.
"""

import http.client
import json
import random
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote, urlsplit

from thalweg.serving.router import Router

MOST_TRIES: Final = 4
"""Servers that one request is taken to, one after the other."""
_KEPT_CONNECTIONS: Final = 64
_LOAD: Final = "Thalweg-In-Flight"
_OTHERS_MAY: Final = frozenset({408, 429, 500, 502, 503, 504})
"""Answers that say nothing against the request itself."""


class ModelAnswerError(Exception):
    """A server refused the request for what it is; `status` is HTTP's."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class NoServerError(Exception):
    """No server has answered; the text says what the last one said."""


class ModelClient:
    """Of one model. Threads may share it."""

    def __init__(
        self,
        model: str,
        servers: Iterable[str] | Callable[[], Iterable[str]],
        *,
        timeout_s: float = 10.0,
        key: str | None = None,
        tls: ssl.SSLContext | None = None,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Know the servers; nothing is sent yet.

        Args:
            model: its name.
            servers: their addresses, or what returns them, which is asked before each request.
            timeout_s: how long one server is waited for.
            key: secret that the servers ask for (serving.keys); None sends none.
            tls: how servers with https are known; None takes the system's authorities.
            rng: draws servers.
            clock: steady, in seconds.
        """
        self._path = f"/v2/models/{quote(model, safe='')}/infer"
        self._model = model
        self._servers = servers if callable(servers) else _always(tuple(servers))
        self._timeout_s = timeout_s
        self._tls = tls
        self._headers = {"Content-Type": "application/json"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"
        self._clock = clock
        self._router = Router(rng or random.Random())
        self._lock = threading.Lock()
        self._idle: dict[str, list[http.client.HTTPConnection]] = defaultdict(list)

    def infer(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[str] = (), id: str = "") -> dict[str, Any]:
        """Ask, and return the answer as the Open Inference Protocol has it.

        Args:
            inputs: tensors: name, shape, datatype, data.
            outputs: names of outputs that are wanted; none for all.
            id: comes back with the answer.

        Raises:
            ModelAnswerError: the request is refused for what it is.
            NoServerError: nobody has answered.
        """
        asked: dict[str, Any] = {"inputs": list(inputs)}
        if outputs:
            asked["outputs"] = [{"name": name} for name in outputs]
        if id:
            asked["id"] = id
        try:
            body = json.dumps(asked).encode()
        except RecursionError as error:
            raise ModelAnswerError(400, "the request is nested too deeply") from error
        return self._ask(body)

    def close(self) -> None:
        """Give the connections up."""
        with self._lock:
            for connections in self._idle.values():
                for connection in connections:
                    connection.close()
            self._idle.clear()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close."""
        self.close()

    def _ask(self, body: bytes) -> dict[str, Any]:
        addresses = list(self._servers())
        words = "no server of the model is known" if not addresses else ""
        failed: set[str] = set()
        for _ in range(MOST_TRIES):
            with self._lock:
                self._router.servers(addresses)
                address = self._router.choose(self._clock(), frozenset(failed))
            if address is None:
                break
            began = self._clock()
            try:
                status, load, answer = self._post(address, body)
            except (OSError, http.client.HTTPException) as error:
                words = f"{address}: {type(error).__name__}: {error}"
                status, load, answer = 503, None, b""
            else:
                found = _read(status, answer)
                if status not in _OTHERS_MAY and found is not None:
                    now = self._clock()
                    with self._lock:
                        self._router.answered(address, now - began, now, load)
                    if status != 200:
                        raise ModelAnswerError(status, str(found["error"]))
                    return found
                words = f"{address}: {status} {_words(found, answer)}"
            failed.add(address)
            with self._lock:
                self._router.failed(address, self._clock())
        raise NoServerError(f"{self._model}: nobody has answered; {words}")

    def _post(self, address: str, body: bytes) -> tuple[int, int | None, bytes]:
        """Send a request, over a connection that is open where there is one."""
        with self._lock:
            idle = self._idle[address]
            connection = idle.pop() if idle else None
        if connection is not None:
            try:
                return self._over(connection, address, body)
            except (ConnectionError, http.client.RemoteDisconnected, http.client.CannotSendRequest):
                pass  # the server has closed it meanwhile, which says nothing of how it is
        return self._over(self._connected(address), address, body)

    def _over(self, connection: http.client.HTTPConnection, address: str, body: bytes) -> tuple[int, int | None, bytes]:
        try:
            connection.request("POST", urlsplit(address).path.rstrip("/") + self._path, body, self._headers)
            answer = connection.getresponse()
            content = answer.read()
        except BaseException:
            connection.close()
            raise
        load = answer.headers.get(_LOAD, "")
        with self._lock:
            if not answer.will_close and len(self._idle[address]) < _KEPT_CONNECTIONS:
                self._idle[address].append(connection)
            else:
                connection.close()
        return answer.status, int(load) if load.isdecimal() else None, content

    def _connected(self, address: str) -> http.client.HTTPConnection:
        try:
            parts = urlsplit(address)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise OSError(f"{address!r} is no address: {error}; allowed is http://HOST:PORT") from error
        if parts.scheme not in ("http", "https") or not host:
            raise OSError(f"{address!r} is no address: allowed is http://HOST:PORT")
        if parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=self._tls)
        return http.client.HTTPConnection(host, port, timeout=self._timeout_s)


def _always(servers: tuple[str, ...]) -> Callable[[], Iterable[str]]:
    return lambda: servers


def _read(status: int, answer: bytes) -> dict[str, Any] | None:
    """Read what a model server says; None where it is none that speaks: any page may answer at an address."""
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    wanted = "outputs" if status == 200 else "error"
    return found if isinstance(found, dict) and wanted in found else None


def _words(found: dict[str, Any] | None, answer: bytes) -> str:
    if found is not None:
        return str(found["error"])
    return f"and no answer of a model server: {' '.join(answer[:200].decode(errors='replace').split())}"
