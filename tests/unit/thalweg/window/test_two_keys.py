"""Two tenants' keys on every route: neither learns anything of the other's tasks, not even that they are there."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.ledger_rows import assigned, happened, ledger, submitted
from tests.unit.thalweg.window.conftest import OpenWindow, Serving
from tests.unit.thalweg.window.histories import write_ledger, write_tables
from thalweg.client.client import InvalidRequestError
from thalweg.window.discretion import check_names, namespace, without_others
from thalweg.window.door import Door

THEIRS, MINE, GHOST = "their-run", "my-run", "no-such-run"
"""Of research, of ads, of nobody."""
CHILD = "their-child"
BY = f"preempted by {THEIRS} (priority 900 over 100): 0.10 USD of work lost, (priority 1 over it)"
ROOM = f"looked again: makes room for {THEIRS}: from a/A100/on-demand of a, +0.00 USD an hour saved, 0.00 USD lost"


@pytest.fixture(scope="module")
def window(serving: Serving, tmp_path_factory: pytest.TempPathFactory) -> OpenWindow:
    folder = str(tmp_path_factory.mktemp("warehouse"))
    batches = [
        ledger(
            submitted(THEIRS, tenant="research", priority=900),
            submitted(MINE, tenant="ads"),
            submitted(CHILD, tenant="research", after=[MINE]),
            assigned(THEIRS, 1),
            assigned(MINE, 1),
            happened(MINE, "preempted", epoch=2, reason=BY),
            assigned(MINE, 3) | {"reason": ROOM},
        )
    ]
    write_ledger(folder, batches)
    write_tables(folder, batches)
    return serving(folder, batches)


PATHS = [
    "/v1/overview", "/v1/tasks", "/v1/tasks?archived=1", "/v1/tasks?group=state", "/v1/tasks?group=array",
    f"/v1/tasks?id={THEIRS}", f"/v1/tasks?name={THEIRS}", f"/v1/tasks?array={THEIRS}", f"/v1/tasks/{MINE}?reasons=0",
    f"/v1/tasks/{MINE}", f"/v1/tasks/{MINE}/explanation", "/v1/regions", "/v1/nodes", "/v1/plans", "/v1/tenants",
    "/v1/sync", "/v1/quality", "/v1/money?by=task", "/v1/money?tenant=research", "/v1/audit", "/v1/orders",
    "/v1/settings", "/v1/forecasts", "/v1/classifiers", "/v1/me", "/healthz", "/metrics", "/openapi.json",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_no_document_names_another_tenants_task(window: OpenWindow, path: str) -> None:
    status, found, _ = window.ask(path, key="ads")
    told = found.decode() if isinstance(found, bytes) else json.dumps(found)
    assert status in (200, 403), (status, told)
    for name in (THEIRS, CHILD):
        assert name not in told.replace(f"id={THEIRS}", "")


def test_every_route_is_among_those_that_are_tried() -> None:
    """A route that comes later is tried here, too."""
    tried = {path.partition("?")[0].replace(MINE, "{task_id:path}") for path in PATHS} | {"/v1/events", "/v1/what-if"}
    tried |= {"/v1/tasks/{task_id:path}/{op}", "/alerts.yaml"}
    source = Path(Door.app.__code__.co_filename).read_text()
    named = {part.partition('"')[0] for part in source.split('("/')[1:]} | {
        part.partition('"')[0] for part in source.split('Route("/')[1:]
    }
    assert {f"/{name}" for name in named} - tried == set()


def test_the_overview_counts_ones_own_tasks_alone(window: OpenWindow) -> None:
    for path in ("/v1/overview", "/v1/regions"):
        (region,) = [row for row in window.get(path, key="ads")["regions"] if row["assigned"] + row["running"]]
        assert region["assigned"] + region["running"] == 1
        (region,) = [row for row in window.get(path, key="all")["regions"] if row["assigned"] + row["running"]]
        assert region["assigned"] + region["running"] == 2
    assert window.get("/v1/overview", key="ads")["unwell"] is None, "it is not told that all is well either"
    assert "tasks" not in window.get("/healthz")


@pytest.mark.parametrize("way", ["", "?reasons=0", "/explanation"])
def test_of_anothers_task_the_same_is_said_as_of_none(window: OpenWindow, way: str) -> None:
    answers = [window.ask(f"/v1/tasks/{name}{way}", key="ads")[:2] for name in (THEIRS, GHOST)]
    assert [status for status, _ in answers] == [404, 404]
    theirs, ghost = (found["error"] for _, found in answers)
    assert theirs.replace(THEIRS, GHOST) == ghost


@pytest.mark.parametrize("op", ["cancel", "hold", "release", "rerun"])
@pytest.mark.parametrize("dry", ["", "?dry_run=1"])
def test_nothing_is_done_to_anothers_task_and_nothing_said_of_it(window: OpenWindow, op: str, dry: str) -> None:
    answers = [
        window.ask(f"/v1/tasks/{name}/{op}{dry}", method="POST", key="ads")[:2] for name in (THEIRS, CHILD, GHOST)
    ]
    assert {status for status, _ in answers} == {404}
    assert len({json.dumps(found).replace(THEIRS, GHOST).replace(CHILD, GHOST) for _, found in answers}) == 1


def test_what_would_follow_is_told_of_ones_own_tasks(window: OpenWindow) -> None:
    asked = f"/v1/tasks/{MINE}/cancel?dry_run=1"
    status, found, _ = window.ask(asked, method="POST", key="ads")
    assert (status, found["others"]) == (200, [])
    assert CHILD not in json.dumps(found)
    assert window.ask(asked, method="POST", key="all")[1]["others"] == [CHILD]


def submit(window: OpenWindow, **request: Any) -> tuple[int, str]:
    status, found, _ = window.ask("/v1/tasks", method="POST", body=request, key="ads")
    return status, found["error"]


@pytest.mark.parametrize("after", [[THEIRS], [{"task_id": THEIRS, "on": "end"}], ["ads/a", THEIRS], [f"{THEIRS}[0]"]])
def test_waiting_for_anothers_task_says_what_waiting_for_none_says(window: OpenWindow, after: list[Any]) -> None:
    ghost = json.loads(json.dumps(after).replace(THEIRS, GHOST))
    answers = [submit(window, task_id="ads/new", after=parents) for parents in (after, ghost)]
    assert answers[0][0] == 422
    assert answers[0][1].replace(THEIRS, GHOST) == answers[1][1]


@pytest.mark.parametrize("after", [[], [MINE], ["ads/not-yet"], [{"task_id": MINE, "on": "end"}]])
def test_ones_own_are_waited_for(window: OpenWindow, after: list[Any]) -> None:
    assert submit(window, task_id="ads/new", after=after)[0] == 503, "all is right but that no stack runs"


def test_an_id_that_is_taken_says_what_a_free_one_says(window: OpenWindow) -> None:
    answers = [submit(window, task_id=name) for name in (THEIRS, GHOST)]
    assert [status for status, _ in answers] == [422, 422]
    assert answers[0][1].replace(THEIRS, GHOST) == answers[1][1]
    assert "as in 'ads/no-such-run'" in answers[1][1]
    many = {"tasks": [{"task_id": "ads/a"}, {"task_id": THEIRS}]}
    assert window.ask("/v1/tasks", method="POST", body=many, key="ads")[0] == 422


def test_no_tenants_ids_begin_with_anothers() -> None:
    names = ["a", "a/b", "a%2Fb", "a b", "ü", "/", "a/"]
    spaces = [namespace(name) for name in names]
    assert not [(one, two) for one in spaces for two in spaces if one is not two and one.startswith(two)]


@pytest.mark.parametrize(
    "request_", [{}, {"task_id": 7}, {"task_id": "ads/", "after": 3}, {"task_id": "ads/a", "after": [7]}]
)
def test_what_is_wrong_otherwise_is_said_by_who_checks_requests(request_: dict[str, Any]) -> None:
    if request_.get("task_id") == "ads/":
        with pytest.raises(InvalidRequestError, match="begin with 'ads/'"):
            check_names(request_, "ads", lambda _: [])
    else:
        check_names(request_, "ads", lambda _: [])


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (BY.replace(THEIRS, "x (priority 1 over 2): y"), None),
        (ROOM.replace(THEIRS, "x: from b: to c"), None),
        ("drained: to a/A100/on-demand of a, 0.00 USD lost", "drained: to a/A100/on-demand of a, 0.00 USD lost"),
    ],
)
def test_whatever_an_id_holds_its_end_is_not_left(said: str, told: str | None) -> None:
    shown = without_others([{"reason": said}])[0]["reason"]
    assert shown == told if told is not None else "x" not in shown.replace("next", "")


def test_events_of_ones_own_tasks_name_nobody_else(window: OpenWindow) -> None:
    recent = window.get("/v1/overview", key="ads")["recent"]
    assert {event["task_id"] for event in recent} <= {MINE}
    assert THEIRS not in json.dumps(recent)
    assert quote(MINE) == MINE
