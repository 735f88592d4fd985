"""What a request's text says of a task's size and worth; the ledger only holds requests that were checked before.

The defaults are those of a request (`streams.contract.messages.TaskRequest`), which this room does not know; a test
compares what is read here with what placement reads.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec


class _PerWorker(msgspec.Struct):
    gpus: float = 0
    gpu_milli: float = 0


class _Subtask(msgspec.Struct):
    workers: int = 1
    per_worker: _PerWorker = msgspec.field(default_factory=_PerWorker)


class RequestSize(msgspec.Struct):
    """What is read."""

    workers: int = 1
    per_worker: _PerWorker = msgspec.field(default_factory=_PerWorker)
    replicas: int = 1
    kind: str = "batch"
    subtasks: list[_Subtask] = []
    value_usd_per_hour: float | None = None
    array: Any = None

    def gpus(self) -> float:
        """GPUs of all its copies."""
        parts: Sequence[RequestSize | _Subtask] = self.subtasks or [self]
        each = sum(part.workers * (part.per_worker.gpus + part.per_worker.gpu_milli / 1_000) for part in parts)
        return self.replicas * each


_ONE: Final = msgspec.json.Decoder(RequestSize)
_MANY: Final = msgspec.json.Decoder(list[RequestSize])


def size_of(request: str | None) -> RequestSize:
    """Read one request."""
    return _ONE.decode(request) if request else RequestSize()


def sizes_of(requests: Sequence[str | None]) -> list[RequestSize]:
    """Read many at once."""
    return _MANY.decode("[" + ",".join(request or "{}" for request in requests) + "]")
