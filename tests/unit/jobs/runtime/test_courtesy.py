"""Work beside the stream rests while a micro-batch is under way, and never for ever."""

import threading
import time

from thalweg.jobs.runtime.courtesy import LONGEST_REST_S, Courtesy


def rested_s(courtesy: Courtesy) -> float:
    began = time.monotonic()
    courtesy.rest()
    return time.monotonic() - began


def test_nobody_rests_between_batches() -> None:
    courtesy = Courtesy()
    assert rested_s(courtesy) < LONGEST_REST_S
    with courtesy.batch():
        pass
    assert rested_s(courtesy) < LONGEST_REST_S


def test_a_rest_lasts_until_the_batch_ends_or_long_enough() -> None:
    courtesy = Courtesy()
    with courtesy.batch():
        assert rested_s(courtesy) >= LONGEST_REST_S
        threading.Timer(0.02, courtesy._idle.set).start()
        assert rested_s(courtesy) >= 0.015
