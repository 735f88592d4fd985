"""A damaged file of an agent: it is met with words that say what to do, at the start and later, or the agent works."""

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.damage import overwrite
from tests.unit.thalweg.agents import REGION, World, assign
from thalweg.agent.store import FILE_NAME
from thalweg.streams.broker.errors import FenceError

SEEDS = 250
WORDS = "Move the file away and start again"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A region in which tasks wait, run and have ended, with a file of some dozen pages."""
    world = World(folder=tmp_path / "agent")
    world.send(*(assign(f"short-{number}", expected_s=0.1) for number in range(150)))
    world.steps(20)
    world.send(*(assign(f"long-{number}", expected_s=1_000) for number in range(80)))
    world.steps(5)
    world.store.close()
    return world


def changed(world: World, how: str) -> None:
    with sqlite3.connect(world.folder / FILE_NAME) as db:
        db.executescript(how)
    db.close()


def start_and_work(world: World) -> None:
    """Begin anew on the file, go on, take something new, and end."""
    try:
        world.start()
        world.send(assign("new", random.getrandbits(30), expected_s=0.1))
        world.clock.now_ms += 120_000  # what is long over is forgotten
        world.steps(4, advance_ms=1_000)
        world.agent.stop()
    finally:
        world.store.close()


def test_whatever_is_damaged_is_told_in_words_or_the_agent_works(world: World) -> None:
    file = world.folder / FILE_NAME
    whole, told = file.read_bytes(), 0
    for seed in range(SEEDS):
        overwrite(file, whole, random.Random(seed))
        try:
            start_and_work(world)
        except FenceError as error:
            told += 1
            assert WORDS in str(error) and str(file) in str(error), seed
    assert told > SEEDS // 3


@pytest.mark.parametrize("first, last", [(4096, 12288), (0, 4096), (100, 200)])
def test_pages_that_were_overwritten_are_found_at_the_start(world: World, first: int, last: int) -> None:
    file = world.folder / FILE_NAME
    whole = file.read_bytes()
    file.write_bytes(whole[:first] + b"\xff" * (last - first) + whole[last:])
    with pytest.raises(FenceError, match=WORDS):
        world.start()


@pytest.mark.parametrize(
    "how",
    [
        "DROP TABLE fence_points",
        "DROP INDEX fence_over; ALTER TABLE fence_points DROP COLUMN decided_at",
        "ALTER TABLE agent_held DROP COLUMN pid",
        "ALTER TABLE agent_runs ADD COLUMN more TEXT",
        "UPDATE agent_held SET event = 'text'",
        "UPDATE agent_held SET event = x'7b'",
        "UPDATE agent_held SET state = 'unheard of'",
        "UPDATE fence_points SET epoch = 'text'",
        "UPDATE fence_points SET task_id = CAST(x'ff' AS TEXT) WHERE task_id = 'long-1'",
        "PRAGMA user_version = 99",
        "PRAGMA user_version = -1",
    ],
)
def test_a_file_of_another_kind_is_told_as_a_damaged_one(world: World, how: str) -> None:
    changed(world, how)
    if "CAST" in how:
        world.start()  # it is met only where it is read
        return
    with pytest.raises(FenceError, match=WORDS):
        world.start()


@pytest.mark.parametrize("after", [lambda world: world.steps(4, advance_ms=70_000), lambda world: world.agent.stop()])
def test_damage_while_it_runs_ends_the_agent_in_words(world: World, after: Callable[[World], None]) -> None:
    world.start()
    world.steps(3)
    db, file = world.store.fence.connection, world.folder / FILE_NAME
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.execute("PRAGMA cache_size = 1")
    file.write_bytes(file.read_bytes()[:4096] + b"\xff" * (file.stat().st_size - 4096))
    world.send(assign("new"))
    with pytest.raises(FenceError, match=WORDS):
        after(world)


def test_a_run_that_would_be_one_too_many_ends_the_agent_in_words(world: World) -> None:
    world.start()
    with world.store.fence.transaction():
        (held, *_) = world.agent.tasks.held(REGION)
        with pytest.raises(FenceError, match="UNIQUE"):
            world.store.begin_run(held, 0)


def test_a_file_that_somebody_else_writes_to_is_not_called_damaged(world: World) -> None:
    world.start()
    world.store.fence.connection.execute("PRAGMA busy_timeout = 10")
    other = sqlite3.connect(world.folder / FILE_NAME, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(FenceError, match="Another program writes to it") as told:
        world.steps(1)
    assert "Move" not in str(told.value)
    other.close()
