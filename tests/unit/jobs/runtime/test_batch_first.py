"""Work beside the stream rests while a micro-batch is under way, and never for ever."""

import threading
import time

from thalweg.jobs.runtime.batch_first import LONGEST_REST_S, BatchFirst


def rested_s(batch_first: BatchFirst) -> float:
    began = time.monotonic()
    batch_first.rest()
    return time.monotonic() - began


def test_nobody_rests_between_batches() -> None:
    batch_first = BatchFirst()
    assert rested_s(batch_first) < LONGEST_REST_S
    with batch_first.batch():
        pass
    assert rested_s(batch_first) < LONGEST_REST_S


def test_a_rest_lasts_until_the_batch_ends_or_long_enough() -> None:
    batch_first = BatchFirst()
    with batch_first.batch():
        assert rested_s(batch_first) >= LONGEST_REST_S
        threading.Timer(0.02, batch_first._idle.set).start()
        assert rested_s(batch_first) >= 0.015
