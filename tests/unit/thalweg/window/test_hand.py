"""Orders, dry runs and suppositions through the door: what is shown before, to whom, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from tests.ledger_rows import submitted
from tests.unit.cli.test_opportunities import EAST, NEEDS, runs, world
from tests.unit.thalweg.window.conftest import OpenWindow, Serving
from thalweg.streams.broker.deadletter import RefusedRecord
from thalweg.window.refused import RefusedTally


@pytest.fixture(scope="module")
def window(serving: Serving, tmp_path_factory: pytest.TempPathFactory) -> OpenWindow:
    """One task that runs in EAST, and one that waits."""
    return serving(str(world(tmp_path_factory.mktemp("hand"), runs("a", EAST, 0), [submitted("w", **NEEDS)])))


def post(window: OpenWindow, path: str, body: Any = None, key: str | None = "all") -> tuple[int, Any]:
    status, found, _ = window.ask(path, method="POST", body=body, key=key)
    return status, found


def test_a_dry_run_says_what_would_follow_and_sends_nothing(window: OpenWindow) -> None:
    status, found = post(window, "/v1/tasks/a/cancel?dry_run=1")
    assert (status, found["dry_run"], found["freed_gpus"], found["freed_usd_per_hour"]) == (200, True, 1.0, 3.0)
    assert found["words"][-1] == "1 GPU becomes free, and 3.00 USD an hour are not spent any more"
    status, found = post(window, "/v1/orders?dry_run=1", {"order": "drain", "region": EAST})
    assert (status, [one["to"] for one in found["moves"]]) == (200, ["west/A100/on-demand"])
    assert "1 copies move (1 to west)" in found["words"][1]
    status, found = post(window, "/v1/orders?dry_run=1", {"order": "tenant", "tenant": "default", "quota_gpus": 4})
    assert found["words"][1].startswith("tenant default holds 1 GPUs for 3.00 USD an hour now")
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
        ({"orders": [{"order": "drain"}]}, "without region"),
        ({"orders": [{"order": "drain", "region": "x"}]}, "known are east, west"),
        ({"orders": [{}] * 101}, "allowed are 100"),
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


def test_documents_name_what_there_is(window: OpenWindow, tmp_path: Path) -> None:
    document = window.get("/openapi.json")
    assert {"/v1/orders", "/v1/what-if", "/v1/tasks/{task_id}/hold"} <= document["paths"].keys()
    assert {"ControlOrder", "WhatIf", "SupposedNodes"} <= document["components"]["schemas"].keys()
    assert window.get("/v1/settings")["settings"]["strategy"] == "flow"
