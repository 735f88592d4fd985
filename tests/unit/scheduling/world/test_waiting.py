"""Who comes before a task that waits: more urgent classes, older ones that are as urgent, and those of its own."""

import numpy as np

from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.scheduling.world.waiting import ClassKey, WaitingQueue
from thalweg.streams.placement.task_specs import read_spec

POOLS = np.ones(1, bool)


def key(gpus: int, priority: int = 500) -> ClassKey:
    spec = read_spec(f'{{"task_id": "t", "priority": {priority}, "per_worker": {{"gpus": {gpus}}}}}')
    return ClassKey(spec=spec, missing=1, taken=frozenset[RegionId](), avoid=frozenset[RegionId]())


def test_gpus_before_a_task_are_of_its_own_class_too_and_of_nobody_behind_it() -> None:
    queue = WaitingQueue(lambda _: POOLS)
    ask = {"urgent": key(8, 900), "one": key(1), "two": key(2)}
    for order, (name, wanted) in enumerate(
        [("a", "two"), ("b", "one"), ("c", "one"), ("d", "one"), ("e", "two"), ("f", "urgent"), ("g", "one")]
    ):
        queue.enqueue(TaskId(name), ask[wanted], order, 0)
    queue.leave(TaskId("c"))

    def before(name: str) -> float:
        return queue.gpus_ahead(TaskId(name), POOLS, 0)

    assert before("b") == 8 + 2 * 2, "classes go as their oldest: both of two GPUs, and the urgent one"
    assert before("d") == before("b") + 1, "and b; c has left"
    assert before("g") == before("b") + 2
    assert before("a") == 8
    assert queue.gpus_ahead(TaskId("a"), ~POOLS, 0) == 0, "elsewhere nobody is before it"
