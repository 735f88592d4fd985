"""The live core: what requests, reports, silence and plans make of the world."""

import numpy as np
import pytest

from tests.unit.scheduling.worlds import ORIGIN, applied, ask, node, placed, planned, spec, where, world_of
from thalweg.scheduling.decisions import decide
from thalweg.scheduling.decisions.decide import Refused
from thalweg.scheduling.world.tasks import Change, DataNeed, TaskState
from thalweg.scheduling.world.world import DatasetFacts, World


def states(world: object, *names: str) -> list[str]:
    return [world.find(name).state.value for name in names]  # type: ignore[attr-defined]


def knew_all(task_id: str, *, for_ms: int) -> bool:
    """Of an inventory that was made when its region had been told everything."""
    return True


def knew_none(task_id: str, *, for_ms: int) -> bool:
    """Of an inventory that was made before its region was told anything."""
    return False


def test_a_task_goes_to_the_cheapest_region() -> None:
    world = world_of(node("east", "n1"), node("west", "n1"), usd={"east": 3.0, "west": 1.0})
    ask(world, "t")
    rows = placed(world)
    assert [(row.change, row.region, row.epoch) for row in rows] == [(Change.ASSIGNED, "west", 1)]
    assert rows[0].usd_per_hour == pytest.approx(1.0)
    assert rows[0].money is not None
    assert rows[0].money.compute_usd == pytest.approx(1.0)


def test_data_pulls_a_task_to_where_it_lies() -> None:
    world = world_of(node("east", "n1"), node("west", "n1"), usd={"east": 3.0, "west": 1.0})
    world.set_datasets({"images": DatasetFacts(regions=("east",), size_gb=500.0)})
    ask(world, "t", spec(data=(DataNeed(dataset="images", region=None, size_gb=0.0),)))
    placed(world)
    assert where(world, "t") == ["east"]
    world.set_datasets({"images": DatasetFacts(regions=("west",), size_gb=500.0)})
    ask(world, "u", spec(data=(DataNeed(dataset="images", region=None, size_gb=0.0),)))
    placed(world)
    assert where(world, "u") == ["west"]


def test_planning_leaves_the_nodes_as_they_were() -> None:
    world = world_of(node("east", "n1"), node("east", "n2"))
    for index in range(5):
        ask(world, f"t{index}", spec(gpus=3))
    before = world.nodes.gpu_milli_free.copy(), world.nodes.cpu_milli_free.copy()
    made = planned(world)
    assert len(made.assignments) == 4
    np.testing.assert_array_equal(world.nodes.gpu_milli_free, before[0])
    np.testing.assert_array_equal(world.nodes.cpu_milli_free, before[1])


def test_equal_worlds_give_equal_plans() -> None:
    plans = []
    for order in (range(12), reversed(range(12))):
        world = world_of(node("east", "n1"), node("west", "n1"), node("west", "n2", 4))
        for index in range(12):
            ask(world, f"t{index:02d}", spec(gpus=1 + index % 3))
        del order
        plans.append(planned(world))
    assert plans[0] == plans[1]


def test_bound_and_gap_are_reported_with_what_waits_on() -> None:
    world = world_of(node("east", "n1", 4))
    for index in range(6):
        ask(world, f"t{index}")
    made = planned(world)
    assert len(made.assignments) == 4
    assert {held.task_id for held in made.held} == {"t4", "t5"}
    assert made.bound <= made.objective
    assert made.gap == pytest.approx(0.0, abs=1e-6)


def test_what_no_node_could_hold_counts_in_the_bound_too() -> None:
    world = world_of(node("east", "n1", 2), node("east", "n2", 2))
    ask(world, "wide", spec(gpus=4))
    ask(world, "fits", spec(gpus=2))
    made = planned(world)
    assert [chosen.task_id for chosen in made.assignments] == ["fits"]
    assert [held.task_id for held in made.held] == ["wide"]
    assert made.held[0].reason.startswith("impossible:")
    assert made.objective < 1e3  # who could never be placed has a price in neither
    assert made.gap == pytest.approx(0.0, abs=1e-9)


def test_a_waiting_task_records_its_reason_once() -> None:
    world = world_of(node("east", "n1", 1))
    ask(world, "a")
    ask(world, "b")
    rows = placed(world)
    assert [(row.task_id, row.change) for row in rows] == [("a", Change.ASSIGNED), ("b", Change.WAITING)]
    assert (rows[1].reason or "").startswith("capacity")
    ask(world, "c")
    assert [(row.task_id, row.change) for row in placed(world)] == [("c", Change.WAITING)]


def test_a_full_world_is_not_planned_again_until_something_loosens() -> None:
    world = world_of(node("east", "n1", 1))
    ask(world, "a")
    ask(world, "b")
    placed(world)
    assert world.waiting.window(world.loosened, 100, 100) == []
    applied(world, decide.report(world, "east", "succeeded", "a", 1, "", 3, 10))
    assert [row.task_id for row in placed(world)] == ["b"]


def test_the_same_request_again_is_nothing_new_and_other_content_is_refused() -> None:
    world = world_of(node("east", "n1"))
    ask(world, "t")
    assert decide.submit(world, "t", spec(), "{}", "hash of t", ORIGIN, 1) == []
    refused = decide.submit(world, "t", spec(gpus=2), "{}", "another hash", ORIGIN, 1)
    assert isinstance(refused, Refused)
    assert "submitted before with other content" in refused.reason


def test_a_failed_task_is_placed_elsewhere_first_and_given_up_in_the_end() -> None:
    world = world_of(node("east", "n1"), node("west", "n1"), usd={"east": 1.0, "west": 5.0})
    ask(world, "t")
    placed(world)
    assert where(world, "t") == ["east"]
    applied(world, decide.report(world, "east", "failed", "t", 1, "exit code 1", 3, 1))
    placed(world)
    assert where(world, "t") == ["west"]
    assert world.tasks["t"].copies[0].epoch == 2
    applied(world, decide.report(world, "west", "failed", "t", 2, "exit code 1", 3, 2))
    placed(world)  # both regions failed it: the cheapest may have it again
    assert where(world, "t") == ["east"]
    rows = applied(world, decide.report(world, "east", "failed", "t", 3, "exit code 9", 3, 3))
    assert rows[0].reason == "gave up after 3 attempts, the last: exit code 9"
    assert states(world, "t") == ["failed"]
    assert "t" not in world.waiting


def test_a_report_of_an_older_epoch_changes_nothing() -> None:
    world = world_of(node("east", "n1"), node("west", "n1"))
    ask(world, "t")
    placed(world)
    region = where(world, "t")[0]
    assert decide.report(world, region, "succeeded", "t", 0, "", 3, 1) == []
    assert decide.report(world, "elsewhere", "succeeded", "t", 1, "", 3, 1) == []
    assert states(world, "t") == ["assigned"]


def test_a_silent_region_is_lost_and_its_tasks_go_elsewhere_with_the_next_epoch() -> None:
    world = world_of(node("east", "n1"), node("west", "n1"), usd={"east": 1.0, "west": 5.0})
    ask(world, "t")
    placed(world)
    world.hear("west", 20_000)
    world.lose_region("east")
    applied(world, decide.lose_region(world, "east", 20_000, 20_000))
    placed(world)
    assert where(world, "t") == ["west"]
    assert world.tasks["t"].copies[0].epoch == 2

    # The region returns and still holds the old epoch: revoked above everything the task has seen.
    world.hear("east", 30_000)
    repairs = decide.reconcile(world, "east", {"t": 1}, knew_all, 15_000, 30_000)
    assert [(row.change, row.region, row.epoch) for row in repairs.transitions] == [(Change.REPAIRED, "east", 3)]
    applied(world, repairs.transitions)
    assert where(world, "t") == ["west"]
    applied(world, decide.report(world, "west", "evicted", "t", 2, "", 3, 31_000))
    placed(world)
    assert world.tasks["t"].copies[0].epoch == 4, "an epoch spent on a repair is never used again"


def test_replicas_lie_in_distinct_regions_and_one_lost_is_made_again_elsewhere() -> None:
    world = world_of(node("a", "n1"), node("b", "n1"), node("c", "n1"), usd={"a": 1.0, "b": 2.0, "c": 3.0})
    ask(world, "t", spec(replicas=2))
    placed(world)
    assert where(world, "t") == ["a", "b"]
    assert sorted(copy.epoch for copy in world.tasks["t"].copies.values()) == [1, 2]
    world.lose_region("a")
    applied(world, decide.lose_region(world, "a", 99_000, 99_000))
    assert states(world, "t") == ["waiting"]
    placed(world)
    assert where(world, "t") == ["b", "c"]


def test_a_task_with_replicas_succeeds_when_every_copy_has() -> None:
    world = world_of(node("a", "n1"), node("b", "n1"))
    ask(world, "t", spec(replicas=2))
    placed(world)
    first, second = sorted(world.tasks["t"].copies.values(), key=lambda copy: copy.index)
    applied(world, decide.report(world, first.region, "succeeded", "t", first.epoch, "", 3, 1))
    assert states(world, "t") == ["assigned"]
    assert placed(world) == []
    applied(world, decide.report(world, second.region, "succeeded", "t", second.epoch, "", 3, 2))
    assert states(world, "t") == ["succeeded"]


def test_cancelling_revokes_and_frees() -> None:
    world = world_of(node("east", "n1", 1))
    ask(world, "a")
    ask(world, "b")
    placed(world)
    rows = applied(world, decide.cancel(world, "a", ORIGIN, 5))
    assert [(row.change, row.epoch) for row in rows] == [(Change.REVOKED, 2), (Change.CANCELLED, 2)]
    assert states(world, "a") == ["cancelled"]
    assert decide.cancel(world, "a", ORIGIN, 6) == []
    assert isinstance(decide.cancel(world, "nobody", ORIGIN, 6), Refused)
    assert [row.task_id for row in placed(world)] == ["b"]


def test_an_update_of_needs_places_again_and_of_nothing_changes_nothing() -> None:
    world = world_of(node("east", "n1", 4))
    ask(world, "t")
    placed(world)
    assert decide.update(world, "t", spec(), "{}", "hash of t", ORIGIN, 1) == []
    rows = applied(world, decide.update(world, "t", spec(gpus=2), "{}", "new", ORIGIN, 1))
    assert [row.change for row in rows] == [Change.REVOKED, Change.UPDATED]
    placed(world)
    assert world.tasks["t"].copies[0].epoch == 3
    assert world.nodes.gpu_milli_free.sum() == 2_000


def test_a_gang_is_placed_whole_or_not_at_all() -> None:
    world = world_of(node("east", "n1", 4), node("east", "n2", 4), node("west", "n1", 4))
    ask(world, "big", spec(gpus=4, workers=3))
    assert [row.change for row in placed(world)] == [Change.WAITING]
    ask(world, "fits", spec(gpus=4, workers=2))
    placed(world)
    assert where(world, "fits") == ["east"]
    assert [share.node_id for share in world.tasks["fits"].copies[0].shares] == ["n1", "n2"]


def test_a_task_whose_pool_is_fragmented_takes_the_next_cheapest() -> None:
    world = world_of(
        node("east", "n1", 2), node("east", "n2", 2), node("west", "n1", 4), usd={"east": 1.0, "west": 5.0}
    )
    ask(world, "t", spec(gpus=4))
    placed(world)
    assert where(world, "t") == ["west"]


def test_a_node_that_goes_takes_its_tasks_with_it() -> None:
    world = world_of(node("east", "n1"), node("east", "n2"))
    ask(world, "t")
    placed(world)
    home = world.tasks["t"].copies[0].shares[0].node_id
    hit = world.set_nodes([node("east", name, ready=name != home) for name in ("n1", "n2")])
    assert hit == [("t", 0)]
    applied(world, decide.lose_copies(world, hit, "its node is gone", 9))
    placed(world)
    assert world.tasks["t"].copies[0].shares[0].node_id != home


def test_a_world_rebuilt_from_rows_before_any_sample_takes_up_where_it_was() -> None:
    world = world_of(node("east", "n1", 4), node("west", "n1", 4))
    rows = [*ask(world, "a", spec(gpus=3)), *ask(world, "b", spec(gpus=3)), *ask(world, "c", spec(gpus=3))]
    rows += placed(world)
    again = World()
    for row in rows:
        again.follow(row)
    again.set_nodes([node("east", "n1", 4), node("west", "n1", 4)])
    assert [where(again, name) for name in "abc"] == [where(world, name) for name in "abc"]
    np.testing.assert_array_equal(np.sort(again.nodes.gpu_milli_free.sum(axis=1)), [1_000, 1_000])
    assert len(again.waiting) == len(world.waiting) == 1


def test_an_assignment_that_never_arrived_is_placed_anew_and_its_epoch_is_not_used_again() -> None:
    """Found by `thalweg place-sim`: sent again, it ran twice in one epoch where an agent's file was lost in between."""
    world = world_of(node("east", "n1"))
    ask(world, "t")
    placed(world)
    early = decide.reconcile(world, "east", {}, knew_none, 15_000, 10_000)
    assert early.transitions == [], "a list made before the assignment came says nothing of it"
    assert decide.reconcile(world, "east", {}, knew_all, 15_000, 20_000).transitions == []
    lost = applied(world, decide.reconcile(world, "east", {}, knew_all, 15_000, 30_000).transitions)
    assert [row.change for row in lost] == [Change.LOST]
    placed(world, now_ms=30_000)
    assert world.tasks["t"].copies[0].epoch == 2


def test_unknown_regions_in_requests_wait_with_a_reason_and_do_not_grow_the_network() -> None:
    world = world_of(node("east", "n1"))
    for index in range(50):
        ask(world, f"t{index}", spec(allowed_regions=(f"mars-{index}",)))
    ask(world, "near", spec(origin_region="mars", max_rtt_ms=10.0))
    ask(world, "data", spec(data=(DataNeed(dataset=None, region="mars", size_gb=1.0),)))
    rows = placed(world)
    reasons = {row.task_id: (row.reason or "").partition(":")[0] for row in rows}
    assert reasons["t0"] == "residency"
    assert reasons["near"] == "latency"
    assert reasons["data"] == "data"
    assert len(world.region_names) == 2


def test_priority_goes_first_when_room_is_short() -> None:
    world = world_of(node("east", "n1", 1))
    ask(world, "low", spec(priority=100))
    ask(world, "high", spec(priority=900))
    rows = placed(world)
    assert [row.task_id for row in rows if row.change is Change.ASSIGNED] == ["high"]


def test_tenants_that_compete_before_any_region_is_heard_wait_for_one() -> None:
    world = world_of(node("eu", "n1"), heard=False)
    ask(world, "t1", spec(tenant="one"))
    ask(world, "t2", spec(tenant="two"))
    held = planned(world).held
    assert [one.task_id for one in held] == ["t1", "t2"]
    assert all("their regions are silent" in one.reason for one in held)
    world.hear("eu", 1)
    assert {row.task_id for row in placed(world, 1) if row.change is Change.ASSIGNED} == {"t1", "t2"}


def test_a_region_without_price_or_heartbeat_takes_nothing() -> None:
    world = world_of(node("east", "n1"))
    world.set_prices({})
    ask(world, "t")
    assert [row.change for row in placed(world)] == [Change.WAITING]
    world.set_prices({("east", "A100", False): 1.0})
    assert [row.change for row in placed(world)] == [Change.ASSIGNED]
    assert world.tasks["t"].state is TaskState.ASSIGNED
