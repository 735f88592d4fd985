"""Agents' files that are lost, put back, copied or doubled: nothing runs twice, and one agent remains."""

import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec
import pytest

from tests.unit.thalweg.agents import PREFIX, REGION, World, assign, revoke
from thalweg.agent.assigned import AssignedTasks
from thalweg.agent.runners import Ended
from thalweg.agent.simulate_runner import SimulateRunner
from thalweg.agent.store import AgentStore
from thalweg.agent.tenure import LEASE_MS, SupersededError
from thalweg.scheduling.ids import RegionId
from thalweg.streams.broker.errors import NotAcknowledgedError
from thalweg.streams.broker.memory import MemoryBroker
from thalweg.streams.broker.publish import OutgoingRecord
from thalweg.streams.contract.messages import StatusEvent
from thalweg.streams.contract.topics import STATUS, topic_name


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(folder=tmp_path / "agent")


def beside(world: World, folder: Path, agent_id: str = "agent-2") -> World:
    """Start another agent of the same region, on another folder."""
    other = World.__new__(World)
    other.folder, other.clock, other.runner, other.broker = folder, world.clock, SimulateRunner(), world.broker
    other.agent_id, other.ended, other.announced = agent_id, "", []
    other.preparation, other.taken_away_by = None, lambda: None
    other.start()
    return other


def started(*worlds: World) -> list[tuple[str, int]]:
    """Every run that was started, by whichever agent."""
    query = "SELECT task_id, epoch FROM agent_runs WHERE outcome IS NOT 'refused' ORDER BY 1, 2"
    return sorted(row for world in worlds for row in world.store.fence.connection.execute(query).fetchall())


def both(first: World, second: World, rounds: int, advance_ms: int = 500) -> None:
    """Let both do rounds in turn until one ends."""
    for _ in range(rounds):
        for agent in (first, second):
            if agent.ended:
                continue
            try:
                agent.agent.step(0)
            except SupersededError as error:
                agent.ended = str(error)
        first.clock.now_ms += advance_ms


def test_of_a_lost_file_nothing_runs_again_and_news_does(world: World) -> None:
    world.send(assign("done", expected_s=1), assign("runs", expected_s=10_000))
    world.steps(2)
    world.steps(2, advance_ms=2_000)
    assert world.told("done")[-1] == "succeeded"
    told = len(world.told("done")), len(world.told("runs"))
    world.store.close()
    shutil.rmtree(world.folder)
    world.start()
    world.steps(20, advance_ms=500)
    assert (len(world.told("done")), len(world.told("runs"))) == told, "a new file takes what comes from now on"
    assert [r.tasks for r in world.reports() if r.type == "inventory"][-1] == []
    world.send(assign("runs", 2), assign("new"))  # what the place job says when it finds them missing
    world.steps(3, advance_ms=500)
    assert world.told("new")[:2] == ["accepted", "running"]
    assert started(world) == [("new", 1), ("runs", 2)]


def test_a_region_nobody_ever_spoke_in_is_read_from_its_beginning(tmp_path: Path) -> None:
    world = World(folder=tmp_path / "first")
    for records in world.broker.topics.values():
        records.clear()
    world.send(assign("t"))
    other = beside(world, tmp_path / "second")
    other.steps(3)
    assert other.told("t")[:2] == ["accepted", "running"]


def test_a_file_put_back_from_a_copy_gives_back_what_it_holds_and_repeats_nothing(world: World, tmp_path: Path) -> None:
    world.send(assign("held", expected_s=10_000))
    world.steps(3)
    world.store.close()
    shutil.copytree(world.folder, tmp_path / "copy")
    world.start()
    world.send(assign("later", expected_s=0.1))
    world.steps(60)
    assert world.told("later") == ["accepted", "running", "succeeded"]
    world.store.close()
    for name in ("agent.sqlite", "agent.sqlite-wal", "agent.sqlite-shm"):
        (world.folder / name).unlink(missing_ok=True)
    for file in (tmp_path / "copy").iterdir():
        shutil.copy(file, world.folder / file.name)
    world.runner = SimulateRunner()
    world.start()
    both(world, world, 12)
    assert world.told("held")[-1] == "evicted"
    assert world.told("later") == ["accepted", "running", "succeeded"]
    assert world.held() == {}


def test_of_two_agents_the_older_ends_and_no_task_runs_twice(world: World, tmp_path: Path) -> None:
    world.send(assign("a", expected_s=10_000))
    world.steps(3)
    other = beside(world, tmp_path / "other")
    world.send(assign("b", expected_s=10_000))
    both(world, other, 2 * LEASE_MS // 500)
    assert "agent-2 has begun to host region" in world.ended
    assert world.told("a")[-1] == "evicted"
    started_before = started(other)
    assert started_before == []
    world.send(assign("a", 2, expected_s=10_000), assign("b", 2, expected_s=10_000))
    other.steps(4, advance_ms=500)
    assert started(other) == [("a", 2), ("b", 2)]
    assert other.held() == {"a": 2, "b": 2}


def test_a_younger_agent_waits_until_an_older_one_that_does_not_answer_may_start_nothing(
    world: World, tmp_path: Path
) -> None:
    world.steps(2)
    other = beside(world, tmp_path / "other")  # the older one is suspended from here on
    world.send(assign("t", expected_s=10_000))
    other.steps(LEASE_MS // 500 - 1, advance_ms=500)
    assert started(other) == []
    other.steps(4, advance_ms=500)
    world.send(assign("u", expected_s=10_000))
    other.steps(4, advance_ms=500)
    assert started(other) == [("u", 1)], "what came before it began is for the place job to find missing"
    with pytest.raises(SupersededError):
        world.steps(1)  # it wakes up, and reads of the assignments and of the younger agent at once
    assert "t" not in {task for task, _ in started(other)}


def test_an_agent_that_cannot_hear_itself_starts_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.steps(2)
    world.clock.now_ms += LEASE_MS + 1
    world.send(assign("t"))
    monkeypatch.setattr(MemoryBroker, "publish", lambda self, records: None)  # what it says reaches nobody
    world.steps(10)
    assert started(world) == []
    assert world.held() == {"t": 1}


def test_after_a_goodbye_the_next_agent_begins_at_once(world: World, tmp_path: Path) -> None:
    world.send(assign("t"))
    world.steps(3)
    world.agent.stop()
    other = beside(world, tmp_path / "other")
    world.send(assign("u"))
    other.steps(3)
    assert started(other) == [("u", 1)]


def test_a_killed_agent_goes_on_at_once_on_its_own_file(world: World) -> None:
    world.send(assign("t", expected_s=10_000))
    world.steps(2)
    world.restart()
    world.send(assign("u"))
    world.steps(2)
    assert world.told("t")[-1] == "running"
    assert world.told("u")[:2] == ["accepted", "running"]


def test_killed_before_it_has_begun_for_the_first_time_it_takes_what_was_told_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World.__new__(World)
    with monkeypatch.context() as patch:
        patch.setattr(AgentStore, "settle", killed)  # in the transaction in which it begins
        with pytest.raises(KeyboardInterrupt):
            World.__init__(world, folder=tmp_path / "new")
    world.send(assign("t", expected_s=10_000))
    world.clock.now_ms, world.agent_id = world.clock.now_ms + 500, "agent-2"
    world.restart()
    world.steps(10, advance_ms=LEASE_MS // 4)
    assert started(world) == [("t", 1)]


def test_a_new_file_that_was_killed_before_it_began_is_new_still_where_others_have_been(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.send(assign("t", expected_s=10_000))
    world.steps(3)
    world.store.close()
    other = beside(world, tmp_path / "other")
    with monkeypatch.context() as patch:
        patch.setattr(AgentStore, "settle", killed)
        with pytest.raises(KeyboardInterrupt):
            other.steps(20, advance_ms=500)
    other.agent_id = "agent-3"
    other.restart()
    other.steps(10, advance_ms=LEASE_MS // 4)
    assert started(other) == []


@pytest.mark.parametrize("said_by", ["", "spot-notifier"])
def test_a_notice_about_its_machines_tells_nothing_of_who_hosts_the_region(world: World, said_by: str) -> None:
    world.send(assign("t", expected_s=10_000))
    world.steps(3)
    world.store.close()
    notice = StatusEvent(type="notice", region=REGION, nodes=["n1"], by=world.clock.now_ms + 60_000, agent_id=said_by)
    status = topic_name(STATUS, PREFIX, REGION)
    world.broker.publish([OutgoingRecord(topic=status, key=REGION.encode(), value=msgspec.json.encode(notice))])
    world.send(assign("u"))
    world.start()
    world.steps(3)
    assert world.told("t")[-1] == "running", "it goes on"
    assert world.told("u")[:2] == ["accepted", "running"], "nothing is passed over"


def test_a_claim_that_was_not_acknowledged_is_made_again_under_another_id(world: World) -> None:
    world.store.close()
    world.broker.down = True
    world.start()
    world.steps(3)
    world.broker.down = False
    world.steps(3)
    claims = [r.agent_id for r in world.reports() if r.claim]
    assert len(claims) == len(set(claims)) == 2
    world.send(assign("t"))
    world.steps(3)
    assert world.told("t")[:2] == ["accepted", "running"]


def test_an_epoch_decided_again_with_other_nodes_is_given_back(world: World) -> None:
    world.send(assign("t", devices=[0], expected_s=10_000))
    world.steps(3)
    world.send(assign("t", devices=[2, 3], event_id="another", expected_s=10_000))
    world.steps(3)
    assert world.told("t") == ["accepted", "running", "evicted"]
    world.send(assign("t", 2, devices=[2, 3]), assign("u", devices=[0]))
    world.steps(3)
    assert world.held() == {"t": 2, "u": 1}
    assert [list(h.event.nodes[0].devices) for h in world.agent.tasks.held(REGION)] == [[2, 3], [0]]
    world.send(assign("t", 2, devices=[2, 3]), revoke("u", 2))
    world.steps(3)
    assert world.told("t")[-1] == "running", "the same decision again is a repetition"


def test_an_agent_whose_claim_went_unheard_is_not_superseded_by_itself(world: World) -> None:
    """Found by `thalweg place-sim`: it claimed again under another name, and took that for a younger agent's."""
    world.steps(1)
    world.store.close()
    publish, unheard = MemoryBroker.publish, [True]

    class Unheard:
        def publish(self, records: list[OutgoingRecord]) -> None:
            publish(world.broker, records)
            if unheard:
                unheard.clear()
                raise NotAcknowledgedError(len(records), len(records), 0, [], "no answer")

        def close(self) -> None:
            pass

    world.start(publisher=Unheard())
    world.send(assign("t"))
    for _ in range(20):
        world.agent.step(0)
        world.clock.now_ms += 500
    assert world.told("t")[:2] == ["accepted", "running"]
    claims = [r for r in world.reports() if r.type == "heartbeat" and r.claim]
    assert len(claims) == 2, "one of each start: who has begun claims no more"


# What comes again


def killed(*_: object) -> None:
    """Die here."""
    raise KeyboardInterrupt


def lose_file(world: World) -> None:
    world.store.close()
    world.folder.rename(world.folder.with_name("lost"))  # not deleted: its place on the disk would be used again
    world.runner = SimulateRunner()


def test_events_of_before_that_come_again_are_known_to_a_new_file(world: World) -> None:
    """Found by `thalweg place-sim`: what was passed over was not remembered, and ran when it was delivered again."""
    world.send(assign("done", expected_s=0.1), assign("gone", expected_s=0.1), revoke("gone", 2))
    world.steps(20)
    lose_file(world)
    world.start()
    world.steps(20, advance_ms=500)
    told = len(world.reports())
    world.send(assign("done"), assign("gone"), revoke("gone", 2), assign("new", expected_s=0.1))
    world.steps(20)
    assert started(world) == [("new", 1)]
    assert {report.task_id for report in world.reports()[told:]} == {None, "new"}


def test_killed_before_it_has_passed_over_what_was_before_it_passes_over_it_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.send(assign("held", expected_s=10_000))
    world.steps(3)
    world.store.close()
    shutil.copytree(world.folder, world.folder.with_name("copy"))
    world.start()
    world.send(assign("later", expected_s=0.1))
    world.steps(20)
    lose_file(world)
    shutil.copytree(world.folder.with_name("copy"), world.folder)
    world.start()

    with monkeypatch.context() as patch:
        patch.setattr(AssignedTasks, "advance", killed)  # in the first transaction after it has begun
        with pytest.raises(KeyboardInterrupt):
            world.steps(20, advance_ms=500)
    world.restart()
    world.steps(20, advance_ms=500)
    assert world.told("held")[-1] == "evicted"
    assert world.told("later") == ["accepted", "running", "succeeded"]
    assert "later" not in {task for task, _ in started(world)}


def test_killed_while_it_waits_to_begin_a_copy_is_a_copy_still(world: World, tmp_path: Path) -> None:
    world.send(assign("held", expected_s=10_000))
    world.steps(3)
    world.store.close()
    shutil.copytree(world.folder, tmp_path / "copy")
    lose_file(world)
    shutil.copytree(tmp_path / "copy", world.folder)
    for _ in range(2):
        world.start()
        world.steps(2)
        world.store.close()
    world.start()
    world.steps(20, advance_ms=500)
    assert world.told("held")[-1] == "evicted"


def test_an_older_agents_claim_that_comes_again_ends_nobody(world: World, tmp_path: Path) -> None:
    world.steps(2)
    topic = topic_name(STATUS, PREFIX, REGION)
    claim = world.broker.topics[topic][0]
    world.agent.stop()
    other = beside(world, tmp_path / "other")
    other.steps(3)
    world.broker.publish([OutgoingRecord(topic=topic, key=claim.key, value=claim.value)])
    other.steps(3)
    world.send(assign("t"))
    other.steps(3)
    assert started(other) == [("t", 1)]


def test_what_is_given_back_is_stopped(world: World, tmp_path: Path) -> None:
    """Found by `thalweg place-sim`: its processes outlived the agent, and sat on GPUs that others were given."""
    world.send(assign("held", devices=[0], expected_s=10_000))
    world.steps(3)
    (held,) = world.agent.tasks.held(REGION)
    assert world.runner.progress(held.key, world.clock.now_ms) is not None
    world.store.close()
    shutil.copytree(world.folder, tmp_path / "copy")
    world.folder.rename(tmp_path / "lost")
    shutil.copytree(tmp_path / "copy", world.folder)
    world.start()
    world.steps(20, advance_ms=500)
    assert world.told("held")[-1] == "evicted"
    assert world.runner.progress(held.key, world.clock.now_ms) is None


class Watched(SimulateRunner):
    """Says what it is told to, and remembers what it was asked."""

    left: Sequence[int] = ()
    over: Sequence[Ended] = ()
    closed: bool | None = None

    def take_over(self, installation: str, regions: Collection[RegionId], now_ms: int) -> int:
        left, self.left = (self.left[0], self.left[1:]) if self.left else (0, ())
        return left

    def close(self, *, give_up_all: bool = False) -> list[Ended]:
        self.closed = give_up_all
        return list(self.over)


def test_nothing_is_started_while_what_others_started_still_runs_here(tmp_path: Path) -> None:
    runner = Watched()
    runner.left = (3, 2, 1)
    world = World(folder=tmp_path / "agent", runner=runner)
    world.send(assign("t", expected_s=10_000))
    told = []
    while runner.left:
        assert started(world) == []
        world.steps(1, advance_ms=2_000)
        told.append(len(world.reports()))
    assert told[-1] > told[0], "it is there, and says so"
    world.steps(3, advance_ms=500)
    assert started(world) == [("t", 1)]


def test_an_older_agent_stops_what_would_survive_it_and_what_was_killed_under_it_has_not_failed(tmp_path: Path) -> None:
    """Found by `thalweg place-sim`: it gave its tasks back and ended, and their processes went on without anybody."""
    runner = Watched()
    world = World(folder=tmp_path / "agent", runner=runner)
    world.send(
        assign("killed", expected_s=10_000), assign("well", expected_s=10_000), assign("runs", expected_s=10_000)
    )
    world.steps(3)
    keys = {held.key[1]: held.key for held in world.agent.tasks.held(REGION)}
    runner.over = [Ended(key=keys["killed"], succeeded=False, exit_code=-9), Ended(key=keys["well"], succeeded=True)]
    other = beside(world, tmp_path / "other")
    both(world, other, 2 * LEASE_MS // 500)
    assert "agent-2 has begun to host region" in world.ended
    assert runner.closed is True
    assert [world.told(task)[-1] for task in ("killed", "well", "runs")] == ["evicted", "succeeded", "evicted"]
