"""Tasks that have ended are known for good, whatever number of them there is."""

import random
from unittest.mock import patch

import numpy as np
import pytest

from thalweg.scheduling.world import ended
from thalweg.scheduling.world.ended import EndedTasks
from thalweg.scheduling.world.tasks import TaskState

STATES = (TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED)


@pytest.mark.parametrize("run", [1, 2, 7, 100])
def test_what_is_added_spent_and_taken_back_is_what_a_dictionary_would_say(run: int) -> None:
    rnd, told, tasks = random.Random(run), dict[str, tuple[TaskState, int, str]](), EndedTasks()
    with patch.object(ended, "RUN", run):
        for _ in range(600):
            name = f"t{rnd.randrange(120)}"
            known = tasks.get(name)
            assert (None if known is None else (known.state, known.epoch)) == (told[name][:2] if name in told else None)
            if known is None:
                told[name] = rnd.choice(STATES), rnd.randint(0, 2**40), rnd.choice(["", "ff", "0" * 64])
                tasks.add(name, *told[name])
            elif rnd.random() < 0.5:
                assert known.has_content(told[name][2])
                assert not known.has_content("other")
                told[name] = (told[name][0], told[name][1] + 1, told[name][2])
                tasks.spend(name, known, told[name][1])
            else:
                del told[name]
                tasks.forget(name)
        again = EndedTasks()
        again.take(tasks.columns())
    for each in (tasks, again):
        assert {name for name in (f"t{index}" for index in range(120)) if each.get(name) is not None} == told.keys()
        for name, (state, epoch, content) in told.items():
            found = each.get(name)
            assert found is not None
            assert (found.state, found.epoch, found.has_content(content)) == (state, epoch, True)
    counts = again.columns().count_by_state()
    assert counts == {state: sum(one[0] is state for one in told.values()) for state in STATES}


def test_a_million_of_them_take_few_runs_and_forty_odd_bytes_each() -> None:
    tasks = EndedTasks()
    for index in range(300_000):
        tasks.add(f"task-{index}", TaskState.SUCCEEDED, index, "0" * 64)
    assert len(tasks._runs) <= 3
    assert sum(column.nbytes for column in tasks.columns()) <= 45 * 300_000
    assert not np.diff(tasks.columns().id_high.astype(np.float64)).min() < 0
    found = tasks.get("task-123456")
    assert found is not None
    assert found.epoch == 123_456
