"""Garbage is looked for after batches, beside them, and never again once the job stops."""

import gc
import time
import weakref
from collections.abc import Iterator

import pytest

from thalweg.jobs.runtime.garbage import BATCHES_BETWEEN, Garbage, without_collections
from thalweg.jobs.runtime.job import Stop


class Knot:
    """Something that only the collector can free."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture
def stop() -> Iterator[Stop]:
    before, made = gc.get_threshold(), Stop()
    yield made
    made.finish()
    gc.set_threshold(*before)
    gc.unfreeze()


def test_a_cycle_is_freed_after_a_few_batches_and_what_lives_is_out_of_sight(stop: Stop) -> None:
    garbage, knot = Garbage(stop), Knot()
    freed = weakref.ref(knot)
    del knot
    for _ in range(BATCHES_BETWEEN):
        assert freed() is not None
        with garbage.batch():
            assert not gc.isenabled()
        assert gc.isenabled()
    deadline = time.monotonic() + 10
    while (freed() is not None or gc.get_freeze_count() == 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert freed() is None
    assert gc.get_freeze_count() > 0


def test_a_second_job_in_the_process_leaves_the_timetable_to_the_first(stop: Stop) -> None:
    first, second, knot = Garbage(stop), Garbage(stop), Knot()
    freed = weakref.ref(knot)
    del knot
    for _ in range(BATCHES_BETWEEN):
        with second.batch():
            pass
    time.sleep(0.3)
    assert freed() is not None
    for _ in range(BATCHES_BETWEEN):
        with first.batch():
            pass
    deadline = time.monotonic() + 10
    while freed() is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert freed() is None


def test_what_was_made_without_collections_is_out_of_sight_at_once(stop: Stop) -> None:
    with without_collections():
        made = [[number] for number in range(1_000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= len(made)
