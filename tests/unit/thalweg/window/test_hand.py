"""Orders, dry runs and suppositions through the door: what is shown before, to whom, and what is refused."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.ledger_rows import START, assigned, happened, ledger, submitted
from tests.unit.cli.test_opportunities import EAST, NEEDS, WEST, held, runs, world
from tests.unit.cli.test_order_commands import ordered
from tests.unit.thalweg.window.conftest import OpenWindow, Serving
from thalweg.query.reports.saved_now import saved_now
from thalweg.query.sql.query import TableReader
from thalweg.streams.broker.deadletter import RefusedRecord
from thalweg.window import reports
from thalweg.window.refused import RefusedTally


@pytest.fixture(scope="module")
def window(serving: Serving, tmp_path_factory: pytest.TempPathFactory) -> OpenWindow:
    """One task that runs in EAST, and one that waits."""
    return serving(str(world(tmp_path_factory.mktemp("hand"), runs("a", EAST, 0), [submitted("w", **NEEDS)])))


def post(window: OpenWindow, path: str, body: Any = None, key: str | None = "all") -> tuple[int, Any]:
    status, found, _ = window.ask(path, method="POST", body=body, key=key)
    return status, found


@pytest.mark.parametrize("query", ["dry_run=yes", "dry_run=2", "dry_run=", "dry-run=1", "dryrun=true"])
def test_what_is_not_understood_beside_an_act_is_refused_and_nothing_is_done(window: OpenWindow, query: str) -> None:
    for path, body in (("/v1/tasks/a/hold", None), ("/v1/orders", {"order": "drain", "region": EAST})):
        status, found = post(window, f"{path}?{query}", body)
        assert status == 422 and ("allowed" in found["error"] or "dry_run is empty" in found["error"])
    assert post(window, "/v1/tasks?dry_run=1", {"task_id": "x"})[0] == 422


def test_a_number_that_is_none_is_refused_with_its_field(window: OpenWindow) -> None:
    status, found = post(window, "/v1/tasks", {"task_id": "x", "max_usd_per_hour": float("inf")})
    assert (status, "max_usd_per_hour inf: allowed are finite numbers" in found["error"]) == (422, True)


def test_a_dry_run_says_what_would_follow_and_sends_nothing(window: OpenWindow) -> None:
    status, found = post(window, "/v1/tasks/a/cancel?dry_run=1")
    assert (status, found["dry_run"], found["freed_gpus"], found["freed_usd_per_hour"]) == (200, True, 1.0, 3.0)
    assert found["words"][-1] == "1 GPU becomes free, and 3.00 USD an hour are not spent any more"
    status, found = post(window, "/v1/orders?dry_run=1", {"order": "drain", "region": EAST})
    assert (status, [one["to"] for one in found["moves"]]) == (200, ["west/A100/on-demand"])
    assert "1 copy moves (1 to west)" in found["words"][1]
    status, found = post(window, "/v1/orders?dry_run=1", {"order": "tenant", "tenant": "default", "quota_gpus": 4})
    assert found["words"][1].startswith("tenant default holds 1 GPU for 3.00 USD an hour now")
    assert (
        "known are east, west" in post(window, "/v1/orders?dry_run=1", {"order": "drain", "region": "x"})[1]["refused"]
    )
    assert post(window, "/v1/orders", {"order": "drain", "region": EAST})[0] == 503, "there is no broker here"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([], "wanted is an order"),
        ({"order": "explode"}, "allowed are drain, undrain, move"),
        ({"order": "drain", "region": EAST, "who": "root"}, "who is not the caller's to say"),
        ({"order": "drain"}, "without region"),
        ({"order": "tenant", "tenant": "a", "quota_gpus": -1}, "quota_gpus"),
    ],
)
def test_a_wrong_order_is_refused_before_it_is_looked_into(window: OpenWindow, body: Any, words: str) -> None:
    status, found = post(window, "/v1/orders?dry_run=1", body)
    assert status == 422
    assert words in found["error"]


def test_orders_are_for_keys_of_all_tenants_that_act(window: OpenWindow) -> None:
    for path in ("/v1/orders", "/v1/orders?dry_run=1"):
        for key in (None, "look", "ads"):
            assert post(window, path, {"order": "hold", "tenant": "ads"}, key)[0] == 403, (path, key)
    assert post(window, "/v1/tasks/a/hold?dry_run=1", key="ads")[0] == 404, "it is another tenant's"
    assert post(window, "/v1/what-if", {}, "ads")[0] == 403
    assert window.get("/v1/me", key="ads")["orders"] == {}
    assert "drain" in window.get("/v1/me", key="all")["orders"]


def test_what_if_needs_no_key_where_reading_needs_none(window: OpenWindow) -> None:
    cheap = {"order": "price", "region": EAST, "gpu_model": "A100", "usd_per_gpu_hour": 0.5}
    status, found = post(window, "/v1/what-if", {"orders": [cheap], "settings": {"weights.move": 0}}, None)
    assert (status, found["elsewhere"]["copies"], found["complete"]) == (200, 1, True)
    assert found["supposed"]["usd_per_hour"] == pytest.approx(3.5)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"colour": 1}, "colour"),
        ({"settings": {"seed": 1}}, "a plan depends on strategy"),
        ({"settings": {"strategy": "luck"}}, "place.strategy"),
        ({"settings": {"weights.move": "much"}}, "place.weights.move"),
        ({"settings": {"strategy.x": 1}}, "a plan depends on"),
        ({"orders": [{"order": "drain"}]}, "nothing was planned: orders[0]: "),
        ({"orders": [{"order": "drain", "region": "x"}]}, "known are east, west"),
        ({"orders": [{}] * 101}, "allowed are 100"),
        (
            {"prices": []},
            "allowed are settings, orders, capacity, afresh, and of each item of capacity region",
        ),
        ({"capacity": [{"pool": "x"}]}, "of each item of capacity region, gpu_model, nodes, spot, gpus"),
        ({"capacity": [{"region": EAST, "gpu_model": "A100", "nodes": 0}]}, "other than 0"),
        ({"capacity": [{"region": "a\x1fb", "gpu_model": "A100", "nodes": 1}]}, "printable"),
        ({"capacity": [{"region": EAST, "gpu_model": "A100", "nodes": -9}]}, "it has 1 that are ready"),
    ],
)
def test_what_cannot_be_supposed_is_refused_with_what_is_allowed(window: OpenWindow, body: Any, words: str) -> None:
    status, found = post(window, "/v1/what-if", body, None)
    assert status == 422
    assert words in found["error"]


def test_a_moment_before_all_times_is_the_beginning(window: OpenWindow) -> None:
    assert window.get("/v1/money?since=0001-01-01T00:00:00Z")["since"].startswith("1970")


def test_refused_records_are_counted_once_and_their_bytes_are_shown(window: OpenWindow) -> None:
    found = window.get("/v1/quality")["refused"]
    assert (found["is_read"], found["newest"]) == (False, [])
    assert "no stack runs here" in found["trouble"]
    letter = RefusedRecord(
        flow="place", rule="request", reason="no JSON", topic="t", partition=0, offset=7, key=b"k",
        value=b"\xff{" + b"x" * 5_000, received_ms=1_000,
    )  # fmt: skip
    tally = RefusedTally()
    for _ in range(2):
        tally.note(letter)
    told = tally.document(2_000)
    ((rule,), (newest,)) = told["rules"], told["newest"]
    assert (rule["flow"], rule["rule"], rule["rows"]) == ("place", "request", 1), "the same place again is the same"
    assert (newest["bytes"], newest["raw"][:5], len(newest["raw"])) == (5_002, "\\xff{", 2_003)
    assert tally.document(3 * 86_400_000)["rules"] == [], "within a day"


def test_a_job_that_is_started_again_is_said_to_be_unwell(
    serving: Serving, window: OpenWindow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def row(name: str, state: str, restarts: int, failure: str = "") -> SimpleNamespace:
        return SimpleNamespace(name=name, state=state, restarts=restarts, last_failure=failure)

    rows = [row("jobs", "starting", 1, "ended by SIGKILL"), row("maintain", "starting", 0), row("broker", "ready", 3)]
    monkeypatch.setattr(reports, "running_in", lambda _: SimpleNamespace(path=tmp_path))
    monkeypatch.setattr(reports, "process_rows", lambda *_, **__: rows)
    monkeypatch.setattr(reports, "stack_troubles", lambda _: [])
    (said,) = [one for one in serving(window.folder).get("/v1/overview")["unwell"] if one["kind"] == "process"]
    assert (said["what"], said["grave"], said["words"]) == ("jobs", True, "is being started again: ended by SIGKILL")


def test_documents_name_what_there_is(window: OpenWindow, tmp_path: Path) -> None:
    document = window.get("/openapi.json")
    assert {"/v1/orders", "/v1/what-if", "/v1/tasks/{task_id}/hold"} <= document["paths"].keys()
    assert {"ControlOrder", "WhatIf", "SupposedNodes"} <= document["components"]["schemas"].keys()
    assert window.get("/v1/settings")["settings"]["strategy"] == "flow"


def test_the_overview_tells_which_copies_moved_and_money_what_placement_saves_now(
    serving: Serving, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    lately = (now - timedelta(minutes=2) - START).total_seconds()
    left = happened("b", "revoked", 2, region=EAST)
    came = assigned("b", 3, WEST, nodes=held(WEST, 0), cost_usd_per_hour=2.0)
    earlier = ledger(*runs("b", EAST, 0), batch_id=1, at_s=lately - 3_600)
    folder = world(tmp_path, runs("a", EAST, 1), more=[earlier, ledger(left, came, batch_id=2, at_s=lately)])
    opened = serving(str(folder))
    overview = opened.get("/v1/overview")
    assert overview["flows"] == [{"region": EAST, "to_region": WEST, "copies": 1}]
    assert {(one["region"], one["dst_region"]) for one in overview["links"]} == {(EAST, WEST), (WEST, EAST)}
    assert opened.get("/v1/overview", key="look")["flows"] == [], "the moves of all tenants are not everybody's"
    # By hand: one GPU at 3 USD and one at 2; evenly, eight at each price, either would cost 2.50.
    saved = opened.get("/v1/money")["compared"]
    assert saved == {"usd_per_hour": 5.0, "evenly_usd_per_hour": 5.0, "saved_usd_per_hour": 0.0}
    assert opened.get("/v1/money", key="look")["compared"]["usd_per_hour"] == 0.0


def test_what_has_no_gpu_or_no_price_is_in_no_comparison(tmp_path: Path) -> None:
    bare = [{"node_id": f"{WEST}-n", "workers": 1, "gpus": 0, "gpu_milli": 0, "devices": []}]
    gone = [{"node_id": "gone", "workers": 1, "gpus": 4, "gpu_milli": 0, "devices": [0, 1, 2, 3]}]
    rows = [
        [submitted(name, **NEEDS), assigned(name, 1, WEST, nodes=nodes, cost_usd_per_hour=7.0)]
        for name, nodes in (("bare", bare), ("gone", gone))
    ]
    with TableReader(str(world(tmp_path, runs("a", WEST, 0), *rows))) as reader:
        saved = saved_now(reader)
    assert (saved.usd_per_hour, saved.evenly_usd_per_hour, saved.saved_usd_per_hour) == (2.0, 2.5, 0.5)


def test_limits_are_those_that_an_order_gave(serving: Serving, tmp_path: Path) -> None:
    said = {"type": "tenant", "tenant": "default", "quota_gpus": 3.0, "most_tasks": 7}
    folder = world(tmp_path, [submitted("t", **NEEDS)], more=[ledger(ordered("tenant/default", said), batch_id=9)])
    (row,) = serving(str(folder)).get("/v1/tenants")["tenants"]
    assert (row["tenant"], row["quota_gpus"], row["most_tasks"], row["weight"]) == ("default", 3.0, 7, 1.0)
    assert row["budget_usd_per_hour"] is None
