"""A copy of a large world takes long: who asks is told how far it is, joins who asks the same, and harms nobody."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ledger_rows import submitted
from tests.unit.cli.test_opportunities import EAST, NEEDS, runs, world
from thalweg.conf.settings import PlaceSettings
from thalweg.scheduling.world.world import World
from thalweg.sync.clock import system_clock
from thalweg.window import foresight
from thalweg.window.foresight import CrowdedError, Foresight, StillMakingError


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(world(tmp_path, runs("a", EAST, 0), [submitted("w", **NEEDS)]))


def test_what_takes_long_is_told_and_the_answer_is_there_for_who_asks_again(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foresight, "_ANSWER_S", 0.01)
    going, copies = threading.Event(), list[int]()
    make = Foresight._copy

    def slow(self: Foresight, now_ms: int) -> World:
        copies.append(now_ms)
        going.wait()
        return make(self, now_ms)

    monkeypatch.setattr(Foresight, "_copy", slow)

    async def scene() -> None:
        ahead = Foresight(folder, PlaceSettings(), system_clock)
        for _ in range(3):
            with pytest.raises(StillMakingError, match="rows of the ledger read; ask the same again"):
                await ahead.of_change("cancel", "a")
        going.set()
        while True:
            try:
                found = await ahead.of_change("cancel", "a")
                break
            except StillMakingError:
                continue
        assert found["freed_gpus"] == 1.0
        assert len(copies) == 1, "who asks the same waits for the same"
        assert not ahead._making
        ahead.close()

    asyncio.run(scene())


def test_a_copy_that_would_take_the_memory_of_others_is_refused_with_figures(folder: str) -> None:
    def asked(tasks: Callable[[], int]) -> None:
        ahead = Foresight(folder, PlaceSettings(), system_clock, tasks)
        asyncio.run(ahead.of_change("cancel", "a"))

    asked(lambda: 10)
    with pytest.raises(CrowdedError, match=r"would take some 50000\.0 GB, and [0-9.]+ GB are free"):
        asked(lambda: 10_000_000_000)
