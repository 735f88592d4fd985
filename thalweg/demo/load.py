"""Demand for the demo: tasks whose shapes, popularity and running times are published, arriving at random times.

A pure generator: the same seed gives the same messages at the same moments. Besides ordinary tasks it makes what a real
stream has: repeated requests, cancellations, and messages that are no requests at all.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Any, Final

import msgspec

from thalweg.agent.figures import Figures, TaskShape

_ENCODER: Final = msgspec.json.Encoder()

GEOGRAPHIES: Final = {
    "america": ("us-", "eastus", "westus"),
    "europe": ("eu-", "europe-", "westeurope"),
    "asia": ("ap-", "asia-", "korea"),
}

MALFORMED: Final = (
    b"this is not JSON",
    b'{"task_id": "bad-negative", "per_worker": {"gpus": -4}}',
    b'{"task_id": "bad-op", "op": "explode"}',
    b'{"task_id": "bad-nan", "expected_s": NaN}',
    b'{"task_id": "bad-absurd", "per_worker": {"gpus": 1000000000}}',
    b'{"per_worker": {"gpus": 1}}',
    b'{"task_id": "bad-type", "workers": "two"}',
    b"\xff\xfe\x00",
)


class MessageKind(StrEnum):
    """What a message of the demo is."""

    TASK = "task"
    REPEATED = "repeated"
    CANCEL = "cancel"
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message for the requests topic and when it is due."""

    due_s: float
    kind: MessageKind
    task_id: str
    content: dict[str, Any] | bytes

    def value(self, now_ms: int) -> bytes:
        """Bytes to send; a request says when it was made."""
        return (
            self.content if isinstance(self.content, bytes) else _ENCODER.encode(self.content | {"observed_at": now_ms})
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """Shares of tasks with a property, and rates of what is not a task."""

    near_origin: float = 0.3
    """Must be within some round trip of where its users are."""
    with_data: float = 0.4
    """Reads data that lies in one region."""
    resident: float = 0.15
    """May only run in one geography."""
    replicated: float = 0.03
    gang: float = 0.04
    """Several workers, placed together."""
    spot_ok: float = 0.5
    one_model: float = 0.25
    cancelled: float = 0.02
    repeated: float = 0.01
    malformed: float = 0.005


def messages(
    figures: Figures, regions: Sequence[str], *, rate_per_s: float, seed: int, run: str, mixture: Mixture | None = None
) -> Iterator[Message]:
    """Give messages without end, in order of their time.

    Args:
        figures: shapes and running times.
        regions: where users, data and tasks may be.
        rate_per_s: mean arrivals of tasks; the times between them are exponential.
        seed: same seed, same messages.
        run: first part of every task id.
        mixture: how often tasks have which property; None takes the usual.
    """
    rng = random.Random(seed)
    shares = mixture or Mixture()
    popularity = list(accumulate(shape.count for shape in figures.shapes))
    later: list[Message] = []
    now_s = 0.0
    number = 0
    while True:
        now_s += rng.expovariate(rate_per_s)
        due, later = [m for m in later if m.due_s <= now_s], [m for m in later if m.due_s > now_s]
        yield from sorted(due, key=lambda message: (message.due_s, message.task_id))
        number += 1
        task_id = f"{run}-{number:06d}"
        shape = rng.choices(figures.shapes, cum_weights=popularity)[0]
        content = {"task_id": task_id} | _needs(figures, shape, regions, shares, rng)
        task = Message(due_s=now_s, kind=MessageKind.TASK, task_id=task_id, content=content)
        yield task
        if rng.random() < shares.repeated:
            later.append(
                Message(due_s=now_s + rng.uniform(0, 2), kind=MessageKind.REPEATED, task_id=task_id, content=content)
            )
        if rng.random() < shares.cancelled:
            cancel = {"task_id": task_id, "op": "cancel"}
            later.append(
                Message(due_s=now_s + rng.uniform(1, 5), kind=MessageKind.CANCEL, task_id=task_id, content=cancel)
            )
        if rng.random() < shares.malformed:
            raw = MALFORMED[rng.randrange(len(MALFORMED))]
            yield Message(due_s=now_s, kind=MessageKind.MALFORMED, task_id=f"{run}-bad-{number:06d}", content=raw)


def _needs(
    figures: Figures, shape: TaskShape, regions: Sequence[str], shares: Mixture, rng: random.Random
) -> dict[str, Any]:
    per_worker: dict[str, Any] = {"cpus": shape.cpus, "memory_gb": shape.memory_gb}
    if shape.gpus:
        per_worker["gpus"] = shape.gpus
    elif shape.gpu_milli:
        per_worker["gpu_milli"] = shape.gpu_milli
    models = sorted(
        machine.gpu_model
        for machine in figures.machines.values()
        if machine.gpus >= shape.gpus and machine.cpus >= shape.cpus and machine.memory_gb >= shape.memory_gb
    )
    if (shape.gpus or shape.gpu_milli) and models and rng.random() < shares.one_model:
        per_worker["gpu_models"] = [rng.choice(models)]
    content: dict[str, Any] = {
        "per_worker": per_worker,
        "expected_s": round(duration_s(figures.duration_s, rng.random()), 1),
        "kind": rng.choice(("train", "infer", "batch", "batch")),
        "priority": rng.choice((200, 500, 500, 500, 800)),
        "tenant": rng.choice(("vision", "speech", "search", "research")),
    }
    if rng.random() < shares.spot_ok:
        content["spot_ok"] = True
    if rng.random() < shares.with_data:
        content["data"] = [
            {"region": rng.choice(regions), "size_gb": round(min(500.0, rng.lognormvariate(2.5, 1.2)), 1)}
        ]
    if rng.random() < shares.near_origin:
        content |= {"origin_region": rng.choice(regions), "max_rtt_ms": rng.choice((50, 100, 150, 250))}
    if rng.random() < shares.resident:
        # Where its users are, if they are somewhere: the other way round hardly any region would be left.
        content["allowed_regions"] = _geography(content.get("origin_region") or rng.choice(regions), regions)
    if shape.gpus <= 1 and rng.random() < shares.gang:
        content["workers"] = rng.choice((2, 2, 3, 4))
    elif rng.random() < shares.replicated and len(content.get("allowed_regions", regions)) > 1:
        content |= {"replicas": 2, "kind": "infer"}
    return content


def duration_s(quantiles: Sequence[float], uniform: float) -> float:
    """Draw from a distribution given by quantiles in the middle of equal shares; linear between them."""
    position = min(max(uniform * len(quantiles) - 0.5, 0.0), len(quantiles) - 1.0)
    low = int(position)
    high = min(low + 1, len(quantiles) - 1)
    return quantiles[low] + (position - low) * (quantiles[high] - quantiles[low])


def _geography(region: str, regions: Sequence[str]) -> list[str]:
    place = region.partition(":")[2]
    for prefixes in GEOGRAPHIES.values():
        if place.startswith(prefixes):
            return [other for other in regions if other.partition(":")[2].startswith(prefixes)]
    return [region]
