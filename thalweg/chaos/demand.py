"""What a chaos asks for: the demo's tasks, and graphs of tasks, each as messages with their moments, from a seed.

A graph's tasks come in any order within two seconds, children before parents too, as producers that do not wait make
them come. Parts of graphs are cancelled, held and released; some wait for a parent that nobody submits. Every task of a
graph finds room on any machine, so in the end each of them must be over.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import merge
from itertools import count
from typing import Any, Final

import msgspec

from thalweg.chaos.troubled import FAILS
from thalweg.demo.load import Message, MessageKind

_ENCODER: Final = msgspec.json.Encoder()
_TABLES: Final = {
    MessageKind.TASK: ("asked",),
    MessageKind.MALFORMED: ("nonsense",),
    MessageKind.CANCEL: ("cancels",),
    MessageKind.REPEATED: (),
}

SIZES: Final = (6, 40)
"""Fewest and most tasks of a graph."""
NEAR: Final = 12
"""A parent is one of so many tasks before its child: long chains, and wide layers."""
SPREAD_S: Final = 2.0
RUNS_S: Final = (0.3, 3.0)
"""Real time of a task: a chain of ten goes on through a few kills."""
WAYS_TO_FAIL: Final = (
    ("exit", 1),
    ("exit", 3),
    ("memory", None),
    ("signal", None),
    ("start", None),
)
"""Cause and exit code, which `troubled` makes of a task's command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosMessage:
    """One message for the topic of requests."""

    due_s: float
    task_id: str
    content: dict[str, Any] | bytes
    tables: tuple[str, ...] = ()
    """Of the evidence, which are told its id once it is acknowledged."""

    @property
    def begins(self) -> bool:
        """Whether it asks for something new, and is not about what was asked for."""
        return isinstance(self.content, bytes) or self.content.get("op", "submit") == "submit"

    def value(self, now_ms: int) -> bytes:
        """Bytes to send; a request says when it was made."""
        if isinstance(self.content, bytes):
            return self.content
        return _ENCODER.encode(self.content | {"observed_at": now_ms})


def demand(tasks: Iterable[Message], graphs: Iterable[ChaosMessage], longest_s: float) -> Iterator[ChaosMessage]:
    """Bring tasks and graphs together, by their moments.

    Args:
        tasks: the demo's.
        graphs: of tasks.
        longest_s: a task of the demo that would take longer takes this: in the end all of them must be over.
    """
    return merge((_shortened(message, longest_s) for message in tasks), graphs, key=lambda message: message.due_s)


def _shortened(message: Message, longest_s: float) -> ChaosMessage:
    content = message.content
    if isinstance(content, dict) and "expected_s" in content:
        content = content | {"expected_s": min(content["expected_s"], longest_s)}
    return ChaosMessage(due_s=message.due_s, task_id=message.task_id, content=content, tables=_TABLES[message.kind])


def graphs(*, rate_per_s: float, seed: int, run: str, time_scale: float) -> Iterator[ChaosMessage]:
    """Give graphs without end, one after the other.

    Args:
        rate_per_s: mean tasks a second, an array's elements counted; 0 gives none.
        seed: same seed, same messages.
        run: first part of every id.
        time_scale: how much faster than their expected time tasks run.
    """
    if not rate_per_s:
        return
    rng = random.Random(f"graphs {seed}")
    begins_s = 0.0
    waiting: list[ChaosMessage] = []
    for number in count():
        made, tasks = _graph(rng, f"{run}-graph-{number:04d}", begins_s, time_scale)
        waiting = sorted([*waiting, *made], key=lambda message: message.due_s)
        begins_s += tasks / rate_per_s
        ready = [message for message in waiting if message.due_s < begins_s]
        waiting = waiting[len(ready) :]
        yield from ready


def _graph(rng: random.Random, name: str, begins_s: float, time_scale: float) -> tuple[list[ChaosMessage], int]:
    """Make one graph; give its messages, and how many tasks it has."""
    messages, tasks = list[ChaosMessage](), 0
    size = rng.randint(*SIZES)
    for index in range(size):
        task_id = f"{name}-{index:02d}"
        due_s = begins_s + SPREAD_S / 2 * index / size + (rng.uniform(0, SPREAD_S / 2) if rng.random() < 0.2 else 0)
        content = {"task_id": task_id, **_graph_task(rng, name, index, time_scale)}
        tasks += content["array"]["count"] if "array" in content else 1
        messages.append(ChaosMessage(due_s=due_s, task_id=task_id, content=content, tables=("asked", "graphed")))
        messages += _meddling(rng, task_id, due_s)
    return messages, tasks


def _meddling(rng: random.Random, task_id: str, due_s: float) -> Iterator[ChaosMessage]:
    def about(op: str, after_s: float, *tables: str) -> ChaosMessage:
        content = {"task_id": task_id, "op": op}
        return ChaosMessage(due_s=due_s + after_s, task_id=task_id, content=content, tables=tables)

    if rng.random() < 0.08:
        yield about("hold", 0.0)
        yield about("release", rng.uniform(2, 8), "releases")
    if rng.random() < 0.05:
        yield about("cancel", rng.uniform(0.2, 6), "cancels")


def _graph_task(rng: random.Random, name: str, index: int, time_scale: float) -> dict[str, Any]:
    expected_s = rng.uniform(*RUNS_S) * time_scale
    per_worker: dict[str, Any] = {"cpus": 1, "memory_gb": 1}
    if rng.random() < 0.5:
        per_worker["gpu_milli"] = 250
    task: dict[str, Any] = {"per_worker": per_worker, "expected_s": expected_s, "spot_ok": True}
    wanted = rng.choice((1, 1, 2, 3)) if rng.random() < 0.9 else 0
    parents = sorted({rng.randrange(max(0, index - NEAR), index) for _ in range(wanted)}) if index else []
    after: list[Any] = [f"{name}-{parent:02d}" for parent in parents]
    if rng.random() < 0.01:
        after.append(f"{name}-{index:02d}-misspelt")
    if after:
        task["after"] = [{"task_id": one, "on": "end"} if rng.random() < 0.4 else one for one in after]
    if rng.random() < 0.06:
        task["array"] = {"count": rng.randint(2, 6)} | ({"at_most": rng.randint(1, 3)} if rng.random() < 0.7 else {})
    if rng.random() < 0.25:
        cause, code = rng.choice(WAYS_TO_FAIL)
        task["command"] = [FAILS, str(rng.choice((0.3, 0.6, 1.0))), cause, *([] if code is None else [str(code)])]
    elif rng.random() < 0.1:
        task["time_limit_s"] = expected_s
    if rng.random() < 0.6:
        limits = {"memory": rng.randint(0, 2), "time_limit": rng.randint(0, 2), "signal": rng.randint(0, 3)}
        task["retries"] = {
            "at_most": rng.choice((0, 1, 2, 5)),
            "back_off_s": rng.choice((0, 0, 0.5)),
            "not_on": [3],
            "by_cause": {cause: most for cause, most in limits.items() if rng.random() < 0.6},
        }
    return task
