"""`thalweg opportunities`: figures that can be checked by hand, and the same as the planner's for one task."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner

from tests.ledger_rows import START, assigned, happened, ledger, submitted
from tests.unit.cli.conftest import put
from thalweg.cli.main import cli
from thalweg.conf.settings import PlaceSettings
from thalweg.query.reports.opportunities import Opportunities, opportunities, why_left
from thalweg.query.sql.query import TableReader
from thalweg.scheduling.again.proposals import CHEAPER, RunLeft, first_words
from thalweg.sync.delta.contracts import DECISIONS, LINKS, NODES, PLACEMENTS, PRICES, TASKS
from thalweg.sync.ledger.folds import fold_ledger

EAST, WEST = "east", "west"
NEEDS = {"per_worker": {"gpus": 1, "gpu_models": ["A100"]}, "expected_s": 36_000}
HALF_AN_HOUR_LATER = START + timedelta(minutes=30)


def held(region: str, *devices: int) -> list[dict[str, Any]]:
    return [
        {"node_id": f"{region}-n", "workers": 1, "gpus": len(devices), "gpu_milli": 0, "devices": list(devices)},
    ]


def runs(task_id: str, region: str, *devices: int, **request: Any) -> list[dict[str, Any]]:
    needs = {**NEEDS, **request}
    rate = 3.0 if region == EAST else 2.0
    return [
        submitted(task_id, **needs),
        assigned(task_id, 1, region, nodes=held(region, *devices), cost_usd_per_hour=rate * len(devices)),
        happened(task_id, "running", 1, region=region),
    ]


def world(
    folder: Path, *rows: list[dict[str, Any]], spot_usd: float | None = None, west_gpus: int = 8, more: Any = ()
) -> Path:
    """EAST at 3 USD a GPU-hour and WEST at 2, eight A100 each unless said; data costs 0.01 USD per GB to move."""
    first = ledger(*(row for one in rows for row in one))
    known = pa.concat_tables([first, *more])
    put(folder, DECISIONS, known)
    for contract, table in zip((TASKS, PLACEMENTS), fold_ledger(known), strict=True):
        put(folder, contract, table)
    nodes = [(EAST, 8, False), (WEST, west_gpus, False)] + ([(EAST, 8, True)] if spot_usd is not None else [])
    put(folder, NODES, [
        {"region": region, "node_id": f"{region}-{'spot' if spot else 'n'}", "gpu_model": "A100", "spot": spot,
         "gpus": gpus, "cpus": 64.0, "memory_gb": 512.0, "state": "ready", "observed_at": START}
        for region, gpus, spot in nodes
    ])  # fmt: skip
    prices = [(EAST, False, 3.0), (WEST, False, 2.0)] + ([(EAST, True, spot_usd)] if spot_usd is not None else [])
    put(folder, PRICES, [
        {"region": region, "gpu_model": "A100", "spot": spot, "usd_per_gpu_hour": usd, "observed_at": START}
        for region, spot, usd in prices
    ])  # fmt: skip
    put(folder, LINKS, [
        {"region": a, "dst_region": b, "rtt_ms": 10.0, "gbps": float("inf"), "usd_per_gb": 0.01, "observed_at": START}
        for a, b in ((EAST, WEST), (WEST, EAST))
    ])  # fmt: skip
    return folder


def looked(
    folder: Path, now: datetime = HALF_AN_HOUR_LATER, since: datetime = START, groups: int = 100
) -> Opportunities:
    with TableReader(str(folder)) as reader:
        return opportunities(reader, PlaceSettings(), now, since, most_groups=groups)


def test_what_is_cheaper_elsewhere_is_told_with_what_a_move_would_save_now(tmp_path: Path) -> None:
    folder = world(tmp_path, runs("a", EAST, 0), runs("b", EAST, 1), runs("c", WEST, 0))
    found = looked(folder)
    (one,) = found.found
    assert (one.tasks, one.pool_id, one.to_pool_id) == (2, "east/A100/on-demand", "west/A100/on-demand")
    # By hand: 10 h at 3 and at 2 USD. Of the 10 h, 9.5 are left: 28.50 to stay, 20 to begin anew, 1 for the move.
    assert (one.here_usd, one.there_usd, one.cheaper_usd) == pytest.approx((30.0, 20.0, 10.0))
    assert one.moving_saves_usd == pytest.approx(7.5)
    assert (found.copies, found.not_asked, found.no_price) == (3, 0, 0)


def test_late_in_its_run_a_move_costs_though_it_is_cheaper_there(tmp_path: Path) -> None:
    folder = world(tmp_path, runs("a", EAST, 0))
    (late,) = looked(folder, START + timedelta(hours=9)).found
    assert late.moving_saves_usd == pytest.approx(3.0 - 20.0 - 1.0)
    (over,) = looked(folder, START + timedelta(hours=11)).found
    assert over.moving_saves_usd == pytest.approx(-21.0)


def test_data_is_paid_for_where_it_is_not_and_no_more_where_it_was_brought(tmp_path: Path) -> None:
    # 500 GB from WEST: 5 USD in EAST, where they are now; nothing in WEST.
    folder = world(tmp_path, runs("a", EAST, 0, data=[{"region": WEST, "size_gb": 500}]))
    (one,) = looked(folder).found
    assert (one.here_usd, one.there_usd) == pytest.approx((35.0, 20.0))
    assert one.moving_saves_usd == pytest.approx(28.5 - 20.0 - 1.0)


def test_the_figures_are_those_of_explain(tmp_path: Path) -> None:
    folder = world(tmp_path, runs("a", EAST, 0, data=[{"region": EAST, "size_gb": 300}]))
    (one,) = looked(folder).found
    answer = CliRunner().invoke(cli, ["explain", "a", "--warehouse", str(folder), "--json"])
    (copy,) = json.loads(answer.stdout)["placed"]
    assert (one.here_usd, one.there_usd) == pytest.approx((copy["here_now_usd"], copy["next_best"]["usd"]))


@pytest.mark.parametrize(
    ("request_fields", "west_gpus"),
    [
        ({"allowed_regions": [EAST]}, 8),
        ({"max_usd_per_hour": 1.0}, 8),
        ({}, 1),  # which `c` holds
        ({"data": [{"region": EAST, "size_gb": 2_000}]}, 8),
    ],
)
def test_what_may_not_or_cannot_go_or_is_dearer_there_is_no_opportunity(
    tmp_path: Path, request_fields: dict[str, Any], west_gpus: int
) -> None:
    folder = world(tmp_path, runs("a", EAST, 0, **request_fields), runs("c", WEST, 0), west_gpus=west_gpus)
    assert looked(folder).found == []


def test_another_pool_of_the_same_region_counts(tmp_path: Path) -> None:
    folder = world(tmp_path, runs("a", EAST, 0, spot_ok=True), spot_usd=0.5, west_gpus=0)
    (one,) = looked(folder).found
    assert one.to_pool_id == "east/A100/spot"
    assert one.there_usd < one.here_usd


def test_no_copy_moves_to_where_another_copy_of_its_task_is(tmp_path: Path) -> None:
    both = [
        submitted("a", **NEEDS, replicas=2),
        assigned("a", 1, EAST, nodes=held(EAST, 0), cost_usd_per_hour=3.0),
        assigned("a", 1, WEST, copy=1, nodes=held(WEST, 0), cost_usd_per_hour=2.0),
    ]
    assert looked(world(tmp_path, both)).found == []


def test_the_dearest_are_looked_at_and_the_others_are_counted(tmp_path: Path) -> None:
    large = {"per_worker": {"gpus": 4, "gpu_models": ["A100"]}}
    folder = world(tmp_path, runs("small", EAST, 0), runs("large", EAST, 1, 2, 3, 4, **large))
    found = looked(folder, groups=1)
    assert [one.example for one in found.found] == ["large"]
    assert (found.copies, found.not_asked) == (1, 1)


def test_moves_are_told_by_their_reason_with_what_they_changed(tmp_path: Path) -> None:
    at_one = ledger(
        happened("a", "lost", 1, region=EAST),
        assigned("a", 2, WEST, nodes=held(WEST, 0), cost_usd_per_hour=2.0),
        happened("b", "failed", 1, region=EAST),
        assigned("b", 2, EAST, nodes=held(EAST, 1), cost_usd_per_hour=3.0),  # tried again where it was: no move
        batch_id=1,
        at_s=600,
    )
    folder = world(tmp_path, runs("a", EAST, 0), runs("b", EAST, 1), more=[at_one])
    (move,) = looked(folder).moves
    assert (move.why, move.moves, move.pool_id, move.to_pool_id) == (
        "lost", 1, "east/A100/on-demand", "west/A100/on-demand",
    )  # fmt: skip
    assert (move.usd_per_hour_before, move.usd_per_hour_after) == (3.0, 2.0)
    assert looked(folder, since=START + timedelta(seconds=601)).moves == []


def test_what_a_look_was_to_save_is_compared_with_what_it_has_saved(tmp_path: Path) -> None:
    later = START + timedelta(hours=1)

    def moved(task_id: str, device: int, why: str) -> list[dict[str, Any]]:
        # 9 h are left and 1 h is done again: 27 to stay, 20 to go, 1 for the move.
        run = RunLeft(left_h=9.0, lost_h=1.0)
        reason = f"{first_words(why, 6.0, run)}: from {EAST} of {EAST}, +1.00 USD an hour saved, 4.00 USD lost"
        rows = [
            happened(task_id, "revoked", 2, region=EAST),
            assigned(task_id, 3, WEST, nodes=held(WEST, device), cost_usd_per_hour=2.0, reason=reason),
        ]
        return [*runs(task_id, EAST, device), *({**row, "decided_at": later} for row in rows)]

    ended = happened("a", "succeeded", 3, region=WEST, decided_at=later + timedelta(hours=10))
    folder = world(
        tmp_path, [*moved("a", 0, CHEAPER), ended], moved("b", 1, CHEAPER), moved("c", 2, "makes room for big")
    )
    cheaper, room = looked(folder, now=later + timedelta(hours=12)).looked_again
    assert (cheaper.why, cheaper.moves, cheaper.running, cheaper.expected_usd) == (CHEAPER, 2, 1, 12.0)
    # The first ran its ten hours: 10 - 4, as expected. The other runs for twelve: 12 - 4.
    assert cheaper.realised_usd == pytest.approx(6.0 + 8.0)
    assert (room.why, room.moves, room.realised_usd) == ("makes room", 1, pytest.approx(8.0))
    shown = CliRunner().invoke(cli, ["opportunities", "--warehouse", str(folder), "--since", "2020-01-01T00:00:00Z"])
    assert "saved so far" in shown.stdout, shown.output


def test_the_command_tells_people_and_programs(tmp_path: Path) -> None:
    folder = world(tmp_path, runs("a", EAST, 0), runs("b", EAST, 1))
    shown = CliRunner().invoke(cli, ["opportunities", "--warehouse", str(folder)])
    assert shown.exit_code == 0, shown.output
    assert "30.00" in shown.stdout
    assert "Of 2 placed copies 2 would cost less elsewhere." in shown.stdout
    assert "No copy has moved to another pool since 1d ago." in shown.stdout
    told = CliRunner().invoke(cli, ["opportunities", "--warehouse", str(folder), "--json"])
    document = json.loads(told.stdout)
    assert document["opportunities"][0]["all_cheaper_usd"] == pytest.approx(20.0)
    assert (document["copies"], document["moves"]) == (2, [])
    refused = CliRunner().invoke(cli, ["opportunities", "--warehouse", str(folder), "--as-of", "1h ago"])
    assert refused.exit_code == 2


@pytest.mark.parametrize(
    ("transition", "reason", "why"),
    [
        ("revoked", "moved by ops: to b/A100/on-demand of b, 0.00 USD of work and transfer lost", "moved by a person"),
        ("revoked", "looked again: it is cheaper there, saves 1.0000 USD in 2.0000 h: to b", "moved by looking again"),
        ("revoked", "drained: to b/A100/on-demand of b, 0.00 USD of work", "its place was drained"),
        ("revoked", "a/n1 is drained, to be empty by 2026: its moment has come", "its place was drained"),
        ("revoked", "its request was updated", "its request was updated"),
        ("revoked", "", "revoked"),
        ("lost", "region a was silent for 12.0 s", "its region was lost"),
        ("lost", "its node is gone", "its node was lost"),
        ("lost", "region a does not hold it", "its region did not hold it"),
        ("preempted", "preempted by t (priority 9 over 1)", "gave way to another"),
        ("evicted", "no room", "its region gave it back"),
        ("failed", "exit 1", "it failed"),
    ],
)
def test_why_a_copy_left_says_who_moved_it(transition: str, reason: str, why: str) -> None:
    assert why_left(transition, reason) == why
