"""Proposals wait their turn: a few in a batch, and those together that make room for one task."""

from thalweg.conf.settings import PlaceSettings
from thalweg.jobs.placement.again import A_BATCH, LookingAgain
from thalweg.scheduling.again.proposals import Proposal, RunLeft
from thalweg.scheduling.ids import TaskId


def proposal(name: str, for_task: str | None = None) -> Proposal:
    run = RunLeft(left_h=1.0, lost_h=0.0)
    return Proposal(
        held=(TaskId(name), 0),
        assigned_ms=0,
        to=None,
        why="",
        run=run,
        for_task=None if for_task is None else TaskId(for_task),
    )


def test_what_makes_room_for_one_task_is_proved_together_and_nothing_is_left_out() -> None:
    again = LookingAgain(place=PlaceSettings(), looked_ms=0)
    gang = [proposal(f"g{number}", "gang") for number in range(2 * A_BATCH)]
    money = [proposal(f"m{number}") for number in range(A_BATCH + 1)]
    again._proposals = [proposal("a"), *gang, *money]
    turns = []
    while turn := again._next():
        turns.append([one.held[0] for one in turn])
    assert [len(turn) for turn in turns] == [1, 2 * A_BATCH, A_BATCH, 1]
    assert [name for turn in turns for name in turn] == ["a", *(one.held[0] for one in [*gang, *money])]
