"""The demand of a chaos has all that may go wrong with graphs, in messages that are well formed."""

import json
from collections import Counter
from itertools import takewhile

from thalweg.chaos.demand import ChaosMessage, demand, graphs
from thalweg.demo.load import Message, MessageKind
from thalweg.streams.placement.requests import read_request
from thalweg.streams.placement.task_specs import parents_of

SECONDS = 90.0
SCALE = 60.0


def drawn(seed: int) -> list[ChaosMessage]:
    made = graphs(rate_per_s=12, seed=seed, run="c", time_scale=SCALE)
    return list(takewhile(lambda message: message.due_s < SECONDS, made))


def test_graphs_have_everything_that_may_happen_to_them() -> None:
    messages = drawn(11)
    assert [message.due_s for message in messages] == sorted(message.due_s for message in messages)
    requests = [read_request(message.value(1)) for message in messages]
    tasks = [request for request in requests if request.op == "submit"]
    assert 900 < sum(1 if task.array is None else task.array.count for task in tasks) < 1_300
    at = {task.task_id: place for place, task in enumerate(tasks)}
    parents = [(at.get(parent), place) for place, task in enumerate(tasks) for parent in parents_of(task)]
    assert any(parent is None for parent, _ in parents), "parents that nobody submits"
    assert any(parent is not None and parent > place for parent, place in parents), "children before their parents"
    ops = Counter(request.op for request in requests)
    assert min(ops[op] for op in ("cancel", "hold", "release")) > 10
    assert ops["hold"] >= ops["release"]
    causes = {task.command[2] for task in tasks if task.command is not None}
    assert causes == {"exit", "memory", "signal", "start"}
    assert any(task.time_limit_s for task in tasks)
    assert {task.retries is None for task in tasks} == {True, False}


def test_what_is_about_a_task_comes_after_it_and_the_same_seed_gives_the_same() -> None:
    begun: set[str] = set()
    for message in drawn(3):
        assert message.begins or message.task_id in begun
        begun.add(message.task_id)
    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)
    assert list(graphs(rate_per_s=0, seed=3, run="c", time_scale=SCALE)) == []


def test_the_demos_tasks_are_shortened_and_come_among_the_graphs() -> None:
    kinds = (MessageKind.TASK, MessageKind.REPEATED, MessageKind.CANCEL, MessageKind.MALFORMED)
    told = [
        Message(due_s=place + 0.5, kind=kind, task_id="t", content=b"{" if kind is MessageKind.MALFORMED else {
            "task_id": "t", "expected_s": 9e9 if kind is MessageKind.TASK else 1.0})
        for place, kind in enumerate(kinds)
    ]  # fmt: skip
    mixed = list(takewhile(lambda message: message.due_s < 4, demand(told, iter(drawn(3)), 7.0)))
    assert [message.due_s for message in mixed] == sorted(message.due_s for message in mixed)
    plain = [message for message in mixed if message.task_id == "t"]
    assert len(mixed) > len(plain)
    assert [message.tables for message in plain] == [("asked",), (), ("cancels",), ("nonsense",)]
    assert json.loads(plain[0].value(5)) == {"task_id": "t", "expected_s": 7.0, "observed_at": 5}
