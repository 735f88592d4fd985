"""Replay of the ledger: the planner writes a history, and its replay from any version does the same again."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.ledger_rows import START, assigned, happened, ledger, submitted
from thalweg.conf.settings import PlaceSettings
from thalweg.jobs.placement.settings import plan_settings
from thalweg.query.sql.as_of import Version
from thalweg.query.sql.sql_statement import QueryRefusedError
from thalweg.replay.ledger import ledger_scenario
from thalweg.replay.recorded_tasks import recorded_tasks
from thalweg.scheduling.decisions import decide
from thalweg.scheduling.replay.live import LivePlanner
from thalweg.scheduling.replay.replay import Ending, RegionalSupply, ReplayJob, replay
from thalweg.scheduling.world.tasks import Transition
from thalweg.scheduling.world.world import NodeFacts, World
from thalweg.streams.placement.task_specs import read_spec
from thalweg.sync.delta.contracts import DECISIONS, LINKS, NODES, PRICES, TableContract
from thalweg.sync.delta.store import append, open_or_create
from thalweg.sync.ledger.ledger import Ledger, to_rows

BEGIN_MS = 1_780_000_000_000
FLEET = RegionalSupply(regions=("east", "west"), gpus=(8.0, 8.0))
USD = {"east": 2.0, "west": 3.0}


class Recorder(LivePlanner):
    """The planner, with every row it applies kept batch by batch."""

    def __init__(self, world: World, jobs: Sequence[ReplayJob], requests: Sequence[str]) -> None:
        specs = [read_spec(request) for request in requests]
        settings = plan_settings(PlaceSettings())
        super().__init__(world, jobs, specs, FLEET, settings, name="flow", cycle_s=0.0, begin_ms=BEGIN_MS)
        self.requests = requests
        self.batches: list[list[Transition]] = []

    def submit(self, job: int, now_s: float) -> None:
        task_id, now_ms = self.jobs[job].job_id, self._ms(now_s)
        rows = decide.submit(self.world, task_id, self.specs[job], self.requests[job], "", self._origin(now_s), now_ms)
        assert not isinstance(rows, decide.Refused)
        self._follow(rows)

    def _follow(self, rows: Sequence[Transition]) -> None:
        super()._follow(rows)
        self.batches.append(list(rows))


def put(warehouse: Path, contract: TableContract, rows: list[dict[str, object]]) -> None:
    append(open_or_create(contract, str(warehouse)), contract.schema.empty_table().from_pylist(rows, contract.schema))


def fleet_tables(warehouse: Path) -> None:
    """Write two regions of one machine each."""
    nodes = [
        {"region": region, "node_id": "n1", "gpu_model": "A100", "spot": False, "gpus": 8, "cpus": 96.0,
         "memory_gb": 512.0, "state": "ready", "observed_at": START}
        for region in FLEET.regions
    ]  # fmt: skip
    put(warehouse, NODES, nodes)
    put(warehouse, LINKS, [
        {"region": a, "dst_region": b, "rtt_ms": 60.0, "gbps": 5.0, "usd_per_gb": 0.05, "observed_at": START}
        for a, b in (("east", "west"), ("west", "east"))
    ])  # fmt: skip
    put(warehouse, PRICES, [
        {"region": region, "gpu_model": "A100", "spot": False, "usd_per_gpu_hour": usd, "observed_at": START}
        for region, usd in USD.items()
    ])  # fmt: skip


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recorder]:
    """A warehouse whose ledger holds what the planner did with sixty tasks, one commit a batch."""
    warehouse = tmp_path_factory.mktemp("warehouse")
    rng = random.Random(5)
    jobs, requests = [], []
    at_ms = 0
    for number in range(60):
        gpus, run_s = rng.choice([1, 1, 2, 8]), rng.randrange(5, 60)
        copies = rng.choice([1, 1, 1, 2])
        request = {
            "task_id": f"t{number:02d}", "per_worker": {"gpus": gpus}, "expected_s": run_s, "replicas": copies,
            "data": [{"region": rng.choice(["east", "west"]), "size_gb": rng.randrange(1, 50)}],
        }  # fmt: skip
        jobs.append(
            ReplayJob(job_id=f"t{number:02d}", arrive_s=at_ms / 1000, run_s=run_s, gpus=gpus, home=-1, copies=copies)
        )
        requests.append(json.dumps(request))
        at_ms += rng.randrange(100, 4_000)
    fleet_tables(warehouse)
    world = World()
    world.set_nodes(
        NodeFacts(region=r, node_id="n1", gpu_model="A100", spot=False, gpus=8, cpus=96.0, memory_gb=512.0, ready=True)
        for r in FLEET.regions
    )
    world.set_links({("east", "west"): (60.0, 5.0, 0.05), ("west", "east"): (60.0, 5.0, 0.05)})
    world.set_prices({(region, "A100", False): usd for region, usd in USD.items()})
    for region in FLEET.regions:
        world.hear(region, BEGIN_MS)
    recorder = Recorder(world, jobs, requests)
    done = replay(jobs, FLEET, recorder)
    assert len(set(done.job.tolist())) == 60
    kept = Ledger.claim(str(warehouse))
    for batch_id, rows in enumerate(recorder.batches):
        events = [None] * len(rows)
        table = to_rows(rows, events, query_id="q", batch_id=batch_id, driver_epoch=kept.driver_epoch)
        kept.commit(table, "q", batch_id, batch_id)
    return warehouse, recorder


@pytest.mark.parametrize("share", [None, 0.0, 0.3, 0.5, 0.9])
def test_the_same_settings_from_any_version_do_what_was_done(
    history: tuple[Path, Recorder], share: float | None
) -> None:
    warehouse, recorder = history
    version = None if share is None else 2 + int(share * len(recorder.batches))
    scenario = ledger_scenario(str(warehouse), from_version=version, as_of=None, strategy="flow")
    assert scenario.default == ("recorded", "flow")
    assert scenario.recorded is not None
    runs = [
        replay(
            scenario.jobs,
            scenario.fleet,
            scenario.planner("flow", PlaceSettings(), 0.0),
            begin_s=scenario.begin_s,
            running=scenario.running,
        )
        for _ in range(2)
    ]
    assert runs[0].fingerprint() == runs[1].fingerprint()
    if share == 0.5:
        assert scenario.running, "some tasks ran at that version"
    assert len(scenario.jobs) == 60 or share, "all of them from the beginning"
    for name in ("job", "region", "ending"):
        assert getattr(runs[0], name).tolist() == getattr(scenario.recorded, name).tolist(), name
    for name in ("start_s", "end_s", "usd_per_hour", "egress_usd", "moved_gb"):
        assert getattr(runs[0], name) == pytest.approx(getattr(scenario.recorded, name)), name


def test_other_settings_do_otherwise(history: tuple[Path, Recorder]) -> None:
    scenario = ledger_scenario(str(history[0]), from_version=None, as_of=None, strategy="flow")
    dear = PlaceSettings.model_validate({"strategy": "greedy", "weights": {"balance": 100.0}})
    run = replay(scenario.jobs, scenario.fleet, scenario.planner("greedy", dear, 0.0), begin_s=0.0)
    assert scenario.recorded is not None
    assert run.fingerprint() != scenario.recorded.fingerprint()
    assert len(set(run.job.tolist())) == 60


def test_the_history_ends_where_it_is_asked_to(history: tuple[Path, Recorder]) -> None:
    warehouse, recorder = history
    half = ledger_scenario(
        str(warehouse), from_version=None, as_of=Version(2 + len(recorder.batches) // 2), strategy="flow"
    )
    assert 0 < len(half.jobs) < 60
    with pytest.raises(QueryRefusedError, match="nothing is left to replay"):
        ledger_scenario(str(warehouse), from_version=len(recorder.batches) + 1, as_of=None, strategy="flow")
    with pytest.raises(QueryRefusedError, match="has versions up to"):
        ledger_scenario(str(warehouse), from_version=10_000, as_of=None, strategy="flow")


def test_a_copy_that_was_done_at_the_version_is_not_run_again(tmp_path: Path) -> None:
    fleet_tables(tmp_path)
    batches = [
        [submitted("t", replicas=2, per_worker={"gpus": 1}, expected_s=100)],
        [assigned("t", 1, "east"), assigned("t", 2, "west", copy=1)],
        [happened("t", "succeeded", 1, region="east")],
        [happened("t", "succeeded", 2, region="west", copy=1)],
    ]
    for second, facts in enumerate(batches):
        append(open_or_create(DECISIONS, str(tmp_path)), ledger(*facts, batch_id=second * 10))
    scenario = ledger_scenario(str(tmp_path), from_version=3, as_of=None, strategy="flow")  # version 0 has no rows
    assert [job.copies for job in scenario.jobs] == [1]
    result = replay(
        scenario.jobs,
        scenario.fleet,
        scenario.planner("flow", PlaceSettings(), 0.0),
        begin_s=0.0,
        running=scenario.running,
    )
    assert result.region.tolist() == [1]
    assert (result.start_s.tolist(), result.end_s.tolist()) == ([-10.0], [10.0])


def test_an_empty_ledger_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(QueryRefusedError, match="is empty"):
        ledger_scenario(str(tmp_path), from_version=None, as_of=None, strategy="flow")


def test_lives_tell_observed_run_times_updates_and_cancels() -> None:
    from thalweg.sync.ledger.ledger import from_rows

    tables = [
        ledger(submitted("t", expected_s=100), submitted("u", expected_s=50), submitted("c"), batch_id=0),
        ledger(assigned("t", 1), assigned("u", 1), assigned("c", 1), batch_id=1),
        ledger(happened("t", "running", 1), batch_id=5),
        ledger(
            happened("u", "revoked", 2, region="aws:us-east-1"),
            submitted("u", expected_s=70) | {"transition": "updated"},
            happened("c", "revoked", 2, region="aws:us-east-1"),
            happened("c", "cancelled", 3),
            batch_id=9,
        ),
        ledger(happened("t", "succeeded", 1), batch_id=12),
    ]
    rows = [row for table in tables for row in from_rows(table, read_spec)]
    lives = {life.job_id: life for life in recorded_tasks([], rows)}
    begin_ms = int(START.timestamp() * 1000)
    assert lives["t"].run_s == 7, "from running to success"
    assert lives["t"].stayed_s(lives["t"].stays[0], begin_ms) == 11
    assert (lives["u"].cancel_ms, lives["u"].run_s) == (begin_ms + 9_000, 50)
    assert (lives["u#2"].arrive_ms, lives["u#2"].run_s) == (begin_ms + 9_000, 70)
    assert [stay.ending for life in (lives["u"], lives["c"]) for stay in life.stays] == [Ending.CANCELLED] * 2
    assert lives["c"].cancel_ms == begin_ms + 9_000


def test_a_what_if_of_a_tenants_quota_keeps_to_it(history: tuple[Path, Recorder]) -> None:
    scenario = ledger_scenario(str(history[0]), from_version=None, as_of=None, strategy="flow")
    place = PlaceSettings.model_validate({"tenants": {"default": {"quota_gpus": 8}}})
    most = []
    for settings in (PlaceSettings(), place):
        done = replay(scenario.jobs, scenario.fleet, scenario.planner("flow", settings, 0.0))
        moments = zip(done.start_s.tolist(), done.end_s.tolist(), done.gpus.tolist(), strict=True)
        changes = sorted(change for start, end, gpus in moments for change in ((start, 1, gpus), (end, 0, -gpus)))
        held = peak = 0.0
        for _, _, gpus in changes:
            held += gpus
            peak = max(peak, held)
        most.append(peak)
    assert most[0] > 8
    assert most[1] <= 8
