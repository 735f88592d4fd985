"""How long an S3 server takes for a small object: the floor under everything that is kept there."""

import http.client
import math
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from thalweg.benchmarks.clusters.requests import PROBE
from thalweg.processes.ports import LOOPBACK
from thalweg.stack.s3_server import S3Server

SIZE_BYTES: Final = 600
"""A file of a checkpoint or an entry of a table's log has some hundred bytes."""

IDLE_ROUNDS: Final = 200
EVERY_S: Final = 0.5
"""Beside a load: seldom enough not to be one."""

_KEY: Final = f"{PROBE}/object"

# What is asked without a name is refused; whose name it is, the server does not look.
_SIGNED: Final = {"Authorization": "AWS a:b"}

# By one connection that stays: nothing of a client's own time but a few lines of Python.
_ROUND: Final = (
    ("put", "PUT", f"/{_KEY}"),
    ("head", "HEAD", f"/{_KEY}"),
    ("get", "GET", f"/{_KEY}"),
    ("list", "GET", f"?list-type=2&prefix={PROBE}/"),
    ("delete", "DELETE", f"/{_KEY}"),
)


class RoundTrips:
    """Requests by kind: when, in seconds of the epoch, and how many milliseconds each took."""

    def __init__(self, store: S3Server) -> None:
        self._bucket = store.bucket
        self._connection = http.client.HTTPConnection(LOOPBACK, store.port)
        self.took_ms: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def round(self) -> None:
        """Ask once for each kind."""
        for kind, method, path in _ROUND:
            began = time.perf_counter()
            body = b"x" * SIZE_BYTES if kind == "put" else None
            self._connection.request(method, f"/{self._bucket}{path}", body=body, headers=_SIGNED)
            answer = self._connection.getresponse()
            answer.read()
            self.took_ms[kind].append((time.time(), (time.perf_counter() - began) * 1000))
            if answer.status >= http.client.BAD_REQUEST:
                raise RuntimeError(f"the store refuses a {kind}: {answer.status} {answer.reason}")

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def figures(self, from_s: float = 0.0, to_s: float = math.inf) -> dict[str, dict[str, float]]:
        """Return the percentiles of each kind within a time; of a kind that nobody asked for, none."""
        return {
            kind: {f"p{part}_ms": round(float(np.percentile(within, part)), 2) for part in (50, 99)}
            for kind, took in self.took_ms.items()
            if (within := [took_ms for at_s, took_ms in took if from_s <= at_s <= to_s])
        }


def idle(store: S3Server) -> dict[str, dict[str, float]]:
    """Measure a server that nobody else asks."""
    trips = RoundTrips(store)
    for _ in range(IDLE_ROUNDS):
        trips.round()
    trips.close()
    return trips.figures()


@contextmanager
def beside(store: S3Server) -> Iterator[RoundTrips]:
    """Measure a server while others ask it, by a thread that asks seldom."""
    trips, ended = RoundTrips(store), threading.Event()

    def ask() -> None:
        while not ended.wait(EVERY_S):
            trips.round()

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    try:
        yield trips
    finally:
        ended.set()
        asking.join()
        trips.close()


def medians(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the median of each kind."""
    return {kind: float(one["p50_ms"]) for kind, one in figures.items()}
