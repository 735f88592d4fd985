from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.thalweg.agents import PREFIX, REGION, Clock, World, assign, revoke
from thalweg.agent.runners import CommandNotFoundError, Ended, RunKey, RunnerError, RunOutputs, RunProgress
from thalweg.agent.simulate_runner import SimulateRunner
from thalweg.agent.store import AgentStore
from thalweg.scheduling.decisions.tries import NOT_FOUND
from thalweg.streams.broker.errors import FenceError
from thalweg.streams.contract.messages import AssignmentEvent, HeldTask, NodeShare, StatusEvent
from thalweg.streams.contract.topics import DEADLETTER, STATUS, topic_name


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(folder=tmp_path / "agent")


def runs(world: World) -> list[tuple[str, int, str | None]]:
    rows = world.store.fence.connection.execute("SELECT task_id, epoch, outcome FROM agent_runs ORDER BY 1, 2")
    return [tuple(row) for row in rows]


def test_an_assigned_task_is_accepted_runs_for_its_time_and_succeeds(world: World) -> None:
    world.send(assign("t", expected_s=1))
    world.steps(2)
    assert world.told("t") == ["accepted", "running"]
    world.steps(1, advance_ms=700)
    world.steps(1)
    assert world.told("t") == ["accepted", "running"]
    world.clock.now_ms += 500
    world.steps(1)
    assert world.told("t") == ["accepted", "running", "succeeded"]
    assert world.held() == {}
    assert runs(world) == [("t", 1, "succeeded")]


def test_a_repeated_assignment_changes_nothing(world: World) -> None:
    world.send(assign("t"), assign("t"))
    world.steps()
    world.send(assign("t"))
    world.steps()
    assert world.told("t") == ["accepted", "running"]
    assert world.store.fence.counts(REGION).repeated == 2


def test_a_revoked_task_stops_and_says_so_and_does_not_succeed_later(world: World) -> None:
    world.send(assign("t"))
    world.steps()
    world.send(revoke("t", 2))
    world.steps()
    world.clock.now_ms += 10_000
    world.steps()
    assert world.told("t") == ["accepted", "running", "revoked"]
    assert world.held() == {}


def test_an_assignment_and_its_revocation_read_together_start_nothing(world: World) -> None:
    world.send(assign("t"), revoke("t", 2))
    world.steps()
    assert world.told("t") == ["accepted", "revoked"]
    assert runs(world) == []


def test_a_revocation_of_a_task_that_is_not_held_is_answered(world: World) -> None:
    world.send(revoke("t", 2))
    world.steps()
    assert world.told("t") == ["revoked"]


def test_a_newer_epoch_replaces_the_older_run(world: World) -> None:
    world.send(assign("t", 1))
    world.steps()
    world.send(assign("t", 3))
    world.steps()
    assert world.held() == {"t": 3}
    assert world.told("t") == ["accepted", "running", "revoked", "accepted", "running"]
    assert [(r.type, r.epoch) for r in world.reports() if r.type == "revoked"] == [("revoked", 1)]


def test_an_assignment_that_its_node_cannot_hold_is_refused_as_evicted(world: World) -> None:
    world.send(assign("a", devices=[0, 1, 2]), assign("b", devices=[2, 3]))
    world.steps()
    assert world.told("a") == ["accepted", "running"]
    assert world.told("b") == ["evicted"]
    (refusal,) = [r for r in world.reports() if r.type == "evicted"]
    assert refusal.detail == "GPU 2 of node n1 has 0 of 1000 thousandths free, asked for 1000"
    assert runs(world)[1] == ("b", 1, "refused")


def test_a_gpu_is_free_again_when_its_task_has_ended(world: World) -> None:
    world.send(assign("a", devices=[0, 1, 2, 3], expected_s=0.1))
    world.steps(10)
    world.send(assign("b", devices=[0]))
    world.steps()
    assert world.told("b") == ["accepted", "running"]


def test_nodes_and_devices_that_are_not_there_are_refused(world: World) -> None:
    world.send(assign("a", devices=[4]))
    world.steps()
    assert world.told("a") == ["evicted"]


def test_after_a_crash_a_task_goes_on_where_it_was_and_is_not_run_again(world: World) -> None:
    world.send(assign("t", expected_s=10))
    world.steps()
    world.clock.now_ms += 6_000
    world.restart()
    world.steps()
    assert world.held() == {"t": 1}
    world.clock.now_ms += 7_000  # 13 s after the start, not 7: the longest run of 10 s takes 12
    world.steps()
    assert world.told("t") == ["accepted", "running", "succeeded"]
    assert runs(world) == [("t", 1, "succeeded")]


def test_reports_that_the_broker_did_not_take_are_sent_after_a_restart(world: World) -> None:
    world.send(assign("t", expected_s=0.1))
    world.steps(1)
    world.broker.down = True
    world.steps(20)
    world.restart()
    world.steps(2)
    assert world.told("t") == ["accepted"]
    world.broker.down = False
    world.steps(2)
    assert world.told("t") == ["accepted", "running", "succeeded"]


def test_a_crash_between_commit_and_start_starts_the_task_once(world: World) -> None:
    # The runner is never reached: as if the agent died right after its commit.
    class DyingRunner(SimulateRunner):
        def start(self, event: object, now_ms: int) -> int | None:
            raise KeyboardInterrupt

    world.restart(DyingRunner())
    world.send(assign("t", expected_s=1))
    with pytest.raises(KeyboardInterrupt):
        world.steps(1)
    world.restart()
    world.steps(3)
    world.clock.now_ms += 2_000
    world.steps(2)
    assert world.told("t") == ["accepted", "running", "succeeded"]
    assert runs(world) == [("t", 1, "succeeded")]


def test_a_runner_that_does_not_survive_reports_its_tasks_failed_after_a_crash(world: World) -> None:
    class MortalRunner(SimulateRunner):
        survives_restart = False

    world.restart(MortalRunner())
    world.send(assign("t", expected_s=100))
    world.steps()
    world.restart(MortalRunner())
    world.steps()
    assert world.told("t") == ["accepted", "running", "failed"]
    assert world.reports()[-1].detail == "its agent ended while it ran" or any(
        r.detail == "its agent ended while it ran" for r in world.reports()
    )
    world.send(assign("t", 1))
    world.steps()
    assert world.told("t")[-1] == "failed"  # the same epoch is over for good


def test_an_orderly_stop_gives_back_what_would_not_survive(world: World) -> None:
    class MortalRunner(SimulateRunner):
        survives_restart = False

    world.restart(MortalRunner())
    world.send(assign("t", expected_s=100))
    world.steps()
    world.agent.stop()
    assert world.told("t") == ["accepted", "running", "evicted"]


@pytest.mark.parametrize("needs", [False, True])
def test_heartbeats_say_whether_anything_but_a_command_can_be_started(world: World, needs: bool) -> None:
    class Starting(SimulateRunner):
        needs_command = needs

    world.restart(Starting())
    before = len(world.reports())
    world.steps(200)
    later = [report for report in world.reports()[before:] if report.type == "heartbeat"]
    assert later and {report.needs_command for report in later} == {needs}


def test_heartbeats_come_every_second_and_inventories_at_the_start_and_every_ten(world: World) -> None:
    world.send(assign("t", expected_s=10_000))
    world.steps(1_000, advance_ms=20)  # 20 seconds
    kinds = [r.type for r in world.reports()]
    assert 19 <= kinds.count("heartbeat") <= 21
    inventories = [r for r in world.reports() if r.type == "inventory"]
    assert len(inventories) in (2, 3)
    assert [(task.task_id, task.epoch) for task in inventories[-1].tasks] == [("t", 1)]
    assert {r.agent_id for r in inventories} == {"agent-1"}


def test_an_inventory_comes_after_the_reports_it_takes_for_granted(world: World) -> None:
    world.send(assign("t", expected_s=0.1))
    world.steps(600)
    kinds = [r.type for r in world.reports()]
    later = [index for index, kind in enumerate(kinds) if kind == "inventory"][1]
    assert kinds.index("succeeded") < later


def test_stamps_of_reports_rise_and_are_dense_across_restarts(world: World) -> None:
    for number in range(5):
        world.send(assign(f"t{number}", expected_s=0.1))
        world.steps(10)
        world.clock.now_ms -= 3_000  # a wall clock set back
        world.restart()
        world.steps(2)
    stamps = [r.stamp for r in world.reports() if r.task_id is not None]
    assert all(stamp is not None for stamp in stamps)
    readings = [(stamp.ms, stamp.counter) for stamp in stamps if stamp]
    assert readings == sorted(set(readings))
    assert [stamp.seq for stamp in stamps if stamp] == list(range(1, len(stamps) + 1))
    assert len({stamp.epoch for stamp in stamps if stamp}) == 1


def test_telemetry_says_how_much_of_a_node_is_taken(world: World) -> None:
    world.send(assign("t", devices=[0], expected_s=100))
    world.steps(120)
    (node,) = [sample for sample in world.telemetry()[-1].samples if sample.kind == "node"]
    assert (node.node_id, node.gpus, node.gpu_utilisation) == ("n1", 4, 0.25)
    prices = [s for record in world.telemetry() for s in record.samples if s.kind == "price"]
    assert prices[0].usd_per_gpu_hour == 1.0


def test_a_record_that_is_no_assignment_goes_to_the_dead_letters_and_the_stream_goes_on(world: World) -> None:
    world.send_raw(b"not json")
    world.send_raw(b'{"event_id":"e","type":"assign","task_id":"x","epoch":1,"region":"elsewhere"}')
    world.send(assign("t"))
    world.steps()
    letters = world.broker.topics[topic_name(DEADLETTER, PREFIX)]
    assert [dict(letter.headers)["offset"] for letter in letters] == [b"0", b"1"]
    assert b"elsewhere" in dict(letters[1].headers)["reason"]
    assert world.told("t") == ["accepted", "running"]


def test_two_agents_on_one_folder_are_refused(world: World) -> None:
    with pytest.raises(FenceError, match="another agent uses this folder"):
        AgentStore(world.folder)


def test_progress_of_a_long_task_is_reported(world: World) -> None:
    world.send(assign("t", expected_s=100))
    world.steps(1_100, advance_ms=20)
    shares = [r.progress for r in world.reports() if r.type == "progress" and r.progress]
    assert len(shares) >= 2
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-1] < 1


def test_a_task_that_ended_may_be_forgotten_by_the_fence(world: World) -> None:
    world.send(assign("done", expected_s=0.1), assign("runs", expected_s=1_000))
    world.steps(10)
    assert world.store.fence.point(REGION, "done") == (1, "finished")
    assert world.store.fence.point(REGION, "runs") == (1, "assigned")


def test_an_inventory_waits_until_all_reports_before_it_are_published(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thalweg.agent.agent.OUTBOX_BATCH", 3)
    world.restart()
    world.broker.topics[topic_name(STATUS, PREFIX, REGION)].clear()
    world.send(*(assign(f"t{number}", expected_s=1_000) for number in range(4)))
    world.steps(1)
    assert [r.type for r in world.reports()] == ["accepted"] * 3
    world.steps(3)
    kinds = [r.type for r in world.reports() if r.type != "heartbeat"]
    assert kinds[-1] == "inventory"
    assert kinds.count("accepted") == 4


def test_an_inventory_that_fits_into_no_message_is_said_and_not_sent_and_the_agent_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    held = [HeldTask(task_id=f"{number:0100}", epoch=1) for number in range(80_000)]
    monkeypatch.setattr("thalweg.agent.agent.inventory", lambda _: held)
    world.send(assign("a", devices=[0]))
    world.steps(600)  # twelve seconds: an inventory is due twice
    assert [report for report in world.reports() if report.type == "inventory"] == []
    assert "the inventory does not fit into one message" in caplog.text
    assert world.told("a") == ["accepted", "running", "succeeded"]
    assert sum(report.type == "heartbeat" for report in world.reports()) > 10


class Lingering(SimulateRunner):
    """Runs whose processes go on for a while after they are told to stop."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: set[RunKey] = set()
        self.gone: list[Ended] = []

    def start(self, event: AssignmentEvent, now_ms: int) -> int | None:
        self.alive.add((event.region, event.task_id, event.epoch))
        return super().start(event, now_ms)

    def stop(self, key: RunKey, now_ms: int) -> bool:
        return False

    def ended(self, now_ms: int) -> list[Ended]:
        gone, self.gone = self.gone, []
        return gone

    def die(self, task_id: str, epoch: int) -> None:
        self.alive.discard((REGION, task_id, epoch))
        self.gone.append(Ended(key=(REGION, task_id, epoch), succeeded=False))


def test_a_gpu_is_given_on_only_when_the_process_that_sat_on_it_is_gone(tmp_path: Path) -> None:
    runner = Lingering()
    world = World(folder=tmp_path, runner=runner)
    world.send(assign("victim", devices=[0, 1]))
    world.steps()
    world.send(revoke("victim", 2), assign("new", devices=[1]), assign("beside", devices=[2]))
    world.steps(5)
    assert world.told("new") == ["accepted"]
    assert world.told("beside") == ["accepted", "running"]
    assert runner.alive == {(REGION, "victim", 1), (REGION, "beside", 1)}
    runner.die("victim", 1)
    world.steps(3)
    assert world.told("victim") == ["accepted", "running", "revoked"]
    assert world.told("new") == ["accepted", "running"]


class Mortal(Lingering):
    """Runs that do not outlive their agent."""

    survives_restart = False


def test_an_orderly_stop_evicts_what_runs_and_calls_revoked_what_was_taken_back_already(tmp_path: Path) -> None:
    world = World(folder=tmp_path, runner=Mortal())
    world.send(assign("taken back", devices=[0]), assign("runs", devices=[1]))
    world.steps()
    world.send(revoke("taken back", 2))
    world.steps()
    world.agent.stop()
    assert world.told("taken back") == ["accepted", "running", "revoked"]
    assert world.told("runs") == ["accepted", "running", "evicted"]
    causes = {report.task_id: report.cause for report in world.reports() if report.type in ("revoked", "evicted")}
    assert causes == {"taken back": None, "runs": "agent"}


def test_of_two_that_were_given_one_gpu_in_turn_the_last_runs_alone(tmp_path: Path) -> None:
    runner = Lingering()
    world = World(folder=tmp_path, runner=runner)
    world.send(assign("a", devices=[0]))
    world.steps()
    world.send(revoke("a", 2), assign("b", devices=[0]))
    world.steps()
    world.send(revoke("b", 2), assign("c", devices=[0]))
    world.steps()
    assert (world.told("b"), world.told("c")) == (["accepted", "revoked"], ["accepted"])
    runner.die("a", 1)
    world.steps()
    assert world.told("c") == ["accepted", "running"]


def test_cpus_and_memory_are_counted_too(world: World) -> None:
    def taking(task_id: str, cpus: float, memory_gb: float) -> AssignmentEvent:
        return assign(task_id, nodes=[NodeShare(node_id="n1", cpus=cpus, memory_gb=memory_gb)], expected_s=1_000)

    world.send(taking("a", 40, 1), taking("b", 9, 1), taking("c", 8, 191), taking("d", 0.1, 0.3))
    world.steps(3)
    assert set(world.held()) == {"a", "c"}
    detail = {r.task_id: r.detail for r in world.reports() if r.type == "evicted"}
    assert detail["b"] == "node n1 has 8 of 48 CPUs free, asked for 9"
    assert detail["d"] == "node n1 has 0 of 48 CPUs free, asked for 0.1"
    world.send(revoke("c", 2), taking("e", 8, 192))
    world.steps(3)
    assert "GB of memory" in [r.detail for r in world.reports() if r.task_id == "e"][-1]
    world.send(taking("f", 8, 191))
    world.steps(3)
    assert set(world.held()) == {"a", "f"}


def test_what_a_worker_takes_may_be_rounded_by_the_plan(world: World) -> None:
    shares = [NodeShare(node_id="n1", workers=100, cpus=48.0004, memory_gb=192.05)]
    world.send(assign("t", nodes=shares, expected_s=1_000))
    world.steps(3)
    assert set(world.held()) == {"t"}


class Finished(SimulateRunner):
    """A run that ended by itself just before its agent is told to stop."""

    survives_restart = False

    def close(self, *, give_up_all: bool = False) -> list[Ended]:
        return [Ended(key=(REGION, "done", 1), succeeded=True, exit_code=0)]


def test_an_orderly_stop_reports_what_had_ended_by_itself(tmp_path: Path) -> None:
    world = World(folder=tmp_path, runner=Finished())
    world.send(assign("done", expected_s=1_000), assign("runs", expected_s=1_000))
    world.steps(3)
    world.agent.stop()
    assert (world.told("done")[-1], world.told("runs")[-1]) == ("succeeded", "evicted")


@pytest.mark.parametrize(
    "value",
    [
        b'{"event_id":"e","deep":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"event_id":"e","type":"assign","task_id":"x","epoch":1e400,"region":"r"}',
        b'{"event_id":"e","type":"assign","task_id":"x","epoch":' + b"9" * 5_000 + b"}",
        b'{"event_id":"\xff"}',
        b'{"event_id":"\\ud800"}',
        b"",
    ],
    ids=["deep", "overflow", "digits", "no text", "surrogate", "empty"],
)
def test_no_bytes_on_its_topic_stop_an_agent(world: World, value: bytes) -> None:
    world.send_raw(value)
    world.send(assign("t"))
    world.steps()
    assert world.told("t")[:2] == ["accepted", "running"]
    assert len(world.broker.topics[topic_name(DEADLETTER, PREFIX)]) == 1


@pytest.mark.parametrize("step_ms", [-3 * 3_600_000, -600_000, 30_000, 3 * 3_600_000])
def test_a_wall_clock_that_is_set_neither_silences_the_agent_nor_ends_its_runs(world: World, step_ms: int) -> None:
    world.clock.now_ms = 1_790_000_000_000
    steady = Clock()
    world.store.close()
    world.start(steady)
    world.send(assign("t", expected_s=10_000))
    for second in range(60):
        if second == 20:
            world.clock.now_ms += step_ms
        world.steps(1, advance_ms=1_000)
        steady.now_ms += 1_000
    assert sum(r.type == "heartbeat" and not r.claim for r in world.reports()) == 59
    assert len(world.telemetry()) >= 60
    assert world.told("t") == ["accepted", "running"]


def test_a_clock_that_was_ahead_and_is_right_again_stamps_the_truth(world: World) -> None:
    world.steps(1)
    world.clock.now_ms += 86_400_000
    world.steps(2, advance_ms=1_000)
    ahead = world.telemetry()[-1].stamp
    world.clock.now_ms -= 86_400_000
    world.restart()
    world.steps(2, advance_ms=1_000)
    stamp = world.telemetry()[-1].stamp
    assert ahead is not None and stamp is not None
    assert abs(stamp.ms - world.clock.now_ms) < 5_000
    assert stamp.epoch > ahead.epoch, "another life: its sequence begins anew"


def test_an_inventory_says_how_far_the_assignments_were_read(world: World) -> None:
    world.steps(1)
    assert [r.read_to for r in world.reports() if r.type == "inventory"] == [[]]
    world.send(assign("t"), assign("u"))
    world.steps(600)
    inventories = [r for r in world.reports() if r.type == "inventory"]
    assert inventories[-1].read_to == [2]
    world.restart()
    world.steps(1)
    assert [r for r in world.reports() if r.type == "inventory"][-1].read_to == [2]


def test_an_orderly_stop_says_goodbye_last(world: World) -> None:
    world.send(assign("t", expected_s=100))
    world.steps()
    world.agent.stop()
    assert world.reports()[-1].type == "goodbye"


def test_a_stop_while_the_broker_is_away_goes_without_a_goodbye(world: World) -> None:
    world.steps()
    world.broker.down = True
    world.agent.stop()
    assert world.reports()[-1].type != "goodbye"


class Giving(SimulateRunner):
    """Runs that give what a process may give."""

    outputs = RunOutputs(
        log="file://h/output.log",
        metrics={"loss": 0.5},
        result={"accuracy": 0.9},
        artefacts={"w": "file://h/w"},
        checkpointed_ms=2_000_000_000_000,
    )

    def progress(self, key: RunKey, now_ms: int) -> RunProgress | None:
        return RunProgress(share=0.5, outputs=self.outputs)

    def ended(self, now_ms: int) -> list[Ended]:
        return [replace(end, outputs=self.outputs) for end in super().ended(now_ms)]


def report(world: World, kind: str, task_id: str = "t") -> StatusEvent:
    return next(r for r in world.reports() if r.type == kind and r.task_id == task_id)


def test_reports_tell_what_a_run_gives_when_it_gives_it(tmp_path: Path) -> None:
    world = World(folder=tmp_path, runner=Giving())
    started = world.clock.now_ms
    world.send(assign("t", expected_s=20))
    world.steps(1_300)
    running, progress, end = (report(world, kind) for kind in ("running", "progress", "succeeded"))
    assert (running.log, running.started_at, running.metrics) == ("file://h/output.log", started, {})
    assert (progress.metrics, progress.result, progress.artefacts) == ({"loss": 0.5}, None, {})
    assert progress.checkpointed_at == progress.observed_at  # no task makes a checkpoint in the future
    assert (end.result, end.metrics, end.artefacts) == ({"accuracy": 0.9}, {"loss": 0.5}, {"w": "file://h/w"})
    assert (end.cause, end.started_at, end.exit_code, end.log) == (None, started, 0, "file://h/output.log")


def test_every_report_of_progress_has_an_id_of_its_own_also_where_the_share_stands_still(tmp_path: Path) -> None:
    world = World(folder=tmp_path, runner=Giving())
    world.send(assign("t", expected_s=100))
    world.steps(1_600)
    headers = [dict(record.headers) for record in world.broker.topics[topic_name(STATUS, PREFIX, REGION)]]
    ids = [header["ce_id"] for header in headers if header["ce_type"].endswith(b"progress")]
    assert len(ids) >= 3
    assert len(set(ids)) == len(ids)


def test_failures_and_evictions_name_their_cause(world: World) -> None:
    class Refusing(SimulateRunner):
        survives_restart = False

        def start(self, event: AssignmentEvent, now_ms: int) -> int | None:
            if event.task_id == "secret":
                raise RunnerError("secret 'TOKEN' was not found")
            if event.task_id == "absent":
                raise CommandNotFoundError("prog")
            return super().start(event, now_ms)

    world.restart(Refusing(failure_share=1.0))
    world.send(assign("secret"), assign("absent"), assign("fails", expected_s=0.1), assign("long", expected_s=100))
    world.send(assign("nowhere", devices=[9]))
    world.steps(10)
    world.agent.stop()
    causes = {r.task_id: (r.type, r.cause) for r in world.reports() if r.type in ("failed", "evicted")}
    assert causes == {
        "secret": ("failed", "start"),
        "absent": ("failed", "start"),
        "fails": ("failed", "exit"),
        "long": ("evicted", "agent"),
        "nowhere": ("evicted", "start"),
    }
    assert report(world, "failed", "secret").detail == "secret 'TOKEN' was not found"
    assert report(world, "failed", "secret").exit_code is None
    # As a shell would end, so that the place job knows it (`scheduling.decisions.tries`).
    assert report(world, "failed", "absent").exit_code == NOT_FOUND


def test_no_more_runs_are_started_at_once_than_the_runner_bears(world: World) -> None:
    class Slow(SimulateRunner):
        starts_at_once = 3

    world.restart(Slow())
    world.send(*(assign(f"t{number}", expected_s=100) for number in range(10)))
    running = []
    for _ in range(6):
        world.steps(1)
        running.append(sum(r.type == "running" for r in world.reports()))
    assert running == [0, 3, 6, 9, 10, 10]


def test_words_without_end_are_cut(world: World) -> None:
    class Wordy(SimulateRunner):
        def start(self, event: AssignmentEvent, now_ms: int) -> int | None:
            raise RunnerError("x" * 100_000)

    world.restart(Wordy())
    world.send(assign("t"))
    world.steps()
    assert len(report(world, "failed").detail) == 2_000
