"""A request, a sample and a state change are followed through the files: docs/reference/rooms.md draws what is seen."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from tests.ledger_rows import submitted
from tests.unit.jobs.stages import Frame, JobStage, ObserveStage, PlaceStage, ReplicateStage
from thalweg.conf.environment import PROJECT_ROOT
from thalweg.reference.walks import WALKS, Walk


def one_request(folder: Path) -> tuple[JobStage, Frame]:
    stage = PlaceStage(folder)
    heartbeat, request = (stage.frame().records.slice(at, 1) for at in range(2))
    stage.batches(Frame(heartbeat), 6)
    return stage, Frame(request)


def one_sample(folder: Path) -> tuple[JobStage, Frame]:
    stage = ObserveStage(folder)
    return stage, Frame(stage.frame().records.slice(1, 1))


def one_change(folder: Path) -> tuple[JobStage, Frame]:
    stage = ReplicateStage(folder)
    return stage, Frame(stage.records[:1])


MAKE: dict[str, Callable[[Path], tuple[JobStage, Frame]]] = {
    "A request": one_request,
    "A sample": one_sample,
    "A state change": one_change,
}


def visits(act: Callable[[], object], files: set[str]) -> list[str]:
    """Name the files of interest in the order in which they are entered, whatever is entered between two of them.

    A file is entered when one of its functions is called and none of its functions is waiting for an answer.
    """
    names: dict[str, str | None] = {}
    known: set[FrameType] = set()  # a generator is entered once, however often it is gone on with
    entered: list[str] = []

    def name_of(frame: FrameType) -> str | None:
        code = frame.f_code.co_filename
        if code not in names:
            path = Path(code).resolve()
            name = str(path.relative_to(PROJECT_ROOT)) if path.is_relative_to(PROJECT_ROOT) else None
            names[code] = name if name in files else None
        return names[code]

    def see(frame: FrameType, event: str, _: object) -> None:
        if event != "call" or (name := name_of(frame)) is None or frame in known:
            return
        known.add(frame)
        caller = frame.f_back
        while caller is not None and name_of(caller) != name:
            caller = caller.f_back
        if caller is None and entered[-1:] != [name]:
            entered.append(name)

    sys.setprofile(see)
    try:
        act()
    finally:
        sys.setprofile(None)
    return entered


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.title)
def test_a_record_walks_as_drawn_and_what_it_enters_again_is_said(walk: Walk, tmp_path: Path) -> None:
    stage, frame = MAKE[walk.title](tmp_path)
    seen = visits(lambda: stage.batches(frame, 7), {*walk.files})
    assert list(dict.fromkeys(seen)) == list(walk.files)
    assert {file for file in seen if seen.count(file) > 1} == walk.again.keys()


def test_a_file_that_is_entered_again_is_seen_and_one_that_is_called_on_is_not() -> None:
    frame, there, elsewhere = Frame([]), "tests/unit/jobs/stages.py", "tests/ledger_rows.py"

    def ask() -> str:
        return frame.getLocalProperty("")

    assert visits(lambda: (ask(), submitted("t"), ask()), {there, elsewhere}) == [there, elsewhere, there]
    assert visits(lambda: (ask(), submitted("t"), ask()), {there}) == [there]
