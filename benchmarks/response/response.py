"""`thalweg bench response`: what a server's answers take, by distance and queue, beside the model of the field.

Where services are placed by latency a response time is often bounded from below by r ≥ α d and r ≥ β b: d is the round
trip between caller and server, b how many requests the server has when one arrives. Here a real server answers real
requests, one at a time, over TCP; callers are as far as a delay makes them. α and β are the largest for which no answer
broke the bounds; beside them stands the sum r = α d + β b + c by least squares.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from thalweg.stack.machine import describe

MS: Final = 1_000.0
Reals = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseSize:
    """How much is measured."""

    requests: int = 1_500
    service_ms: float = 20.0
    """What the server takes for each; it waits, so that other work on the machine disturbs little."""
    busy: float = 0.85
    """Share of the time that the server is to be busy; callers ask at random times."""
    distances_ms: str = "0,20,40,80,160,320"
    """Round trips, milliseconds."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One request: round trip (ms), requests at the server when it came, itself included, and response time (ms)."""

    distance_ms: float
    queue: int
    response_ms: float


def measure(size: ResponseSize) -> dict[str, Any]:
    """Ask, and fit."""
    began = time.perf_counter()
    answered = asyncio.run(_asked(size))
    return {
        "machine": describe(),
        "load_average": round(os.getloadavg()[0], 1),
        "parameters": {name: getattr(size, name) for name in ResponseSize.__dataclass_fields__},
        "seconds": round(time.perf_counter() - began, 1),
        **fitted(answered),
        "by_distance_and_queue": table(answered),
    }


def fitted(answered: Sequence[Answered]) -> dict[str, float]:
    """Fit both models.

    Args:
        answered: at least three, at two distances and two queues or more.
    """
    d = np.array([one.distance_ms for one in answered])
    b = np.array([one.queue for one in answered], dtype=np.float64)
    r = np.array([one.response_ms for one in answered])
    alpha, beta = float((r[d > 0] / d[d > 0]).min()), float((r / b).min())
    bound = np.maximum(alpha * d, beta * b)
    columns = np.stack([d, b, np.ones_like(d)], axis=1)
    (by_distance, by_queue, rest), *_ = np.linalg.lstsq(columns, r, rcond=None)
    return {
        "requests": len(answered),
        "longest_queue": int(b.max()),
        "alpha": round(alpha, 4),
        "beta_ms": round(beta, 3),
        "bound_of_response_median": round(float(np.median(bound / r)), 4),
        "bound_of_response_least": round(float((bound / r).min()), 4),
        "bound_r2": round(_explained(r, bound), 4),
        "sum_alpha": round(float(by_distance), 4),
        "sum_beta_ms": round(float(by_queue), 3),
        "sum_rest_ms": round(float(rest), 3),
        "sum_r2": round(_explained(r, columns @ np.array([by_distance, by_queue, rest])), 4),
        "sum_error_p95_ms": round(
            float(np.quantile(np.abs(r - columns @ np.array([by_distance, by_queue, rest])), 0.95)), 2
        ),
    }


def table(answered: Sequence[Answered]) -> list[dict[str, Any]]:
    """Return mean response times by distance and queue."""
    cells: dict[tuple[float, int], list[float]] = {}
    for one in answered:
        cells.setdefault((one.distance_ms, one.queue), []).append(one.response_ms)
    return [
        {"distance_ms": d, "queue": b, "requests": len(found), "response_ms": round(float(np.mean(found)), 2)}
        for (d, b), found in sorted(cells.items())
    ]


def _explained(r: Reals, said: Reals) -> float:
    return float(1 - ((r - said) ** 2).sum() / ((r - r.mean()) ** 2).sum())


async def _asked(size: ResponseSize) -> list[Answered]:
    rng = np.random.default_rng(size.seed)
    distances = [float(one) for one in size.distances_ms.split(",")]
    waiting: asyncio.Queue[tuple[bytes, int, asyncio.StreamWriter]] = asyncio.Queue()
    held = 0

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal held
        while line := await reader.readline():
            held += 1
            waiting.put_nowait((line.strip(), held, writer))

    async def work() -> None:
        nonlocal held
        while True:
            name, queue, writer = await waiting.get()
            await asyncio.sleep(size.service_ms / MS)
            held -= 1
            writer.write(name + f" {queue}\n".encode())

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    worker = asyncio.create_task(work())
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    answers: dict[bytes, asyncio.Future[int]] = {}

    async def listen() -> None:
        while line := await reader.readline():
            name, queue = line.split()
            answers[name].set_result(int(queue))

    async def ask(number: int, distance_ms: float) -> Answered:
        name = str(number).encode()
        answers[name] = asyncio.get_running_loop().create_future()
        began = time.perf_counter()
        await asyncio.sleep(distance_ms / 2 / MS)
        writer.write(name + b"\n")
        queue = await answers[name]
        await asyncio.sleep(distance_ms / 2 / MS)
        return Answered(distance_ms=distance_ms, queue=queue, response_ms=(time.perf_counter() - began) * MS)

    listener = asyncio.create_task(listen())
    asked = []
    for number in range(size.requests):
        await asyncio.sleep(float(rng.exponential(size.service_ms / size.busy)) / MS)
        asked.append(asyncio.create_task(ask(number, float(rng.choice(distances)))))
    found = list(await asyncio.gather(*asked))
    writer.close()
    await writer.wait_closed()
    await listener
    worker.cancel()
    server.close()
    await server.wait_closed()
    return found
