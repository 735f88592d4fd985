"""The door over a real server: what it tells, to whom, and what it refuses, with which words."""

import http.client
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from deltalake import DeltaTable

from tests.unit.thalweg.window.conftest import OpenWindow, Serving
from tests.unit.thalweg.window.histories import random_batches, write_ledger
from thalweg.query.reports.followed_tasks import events_of
from thalweg.query.sql.query import TableReader
from thalweg.sync.delta.contracts import DECISIONS
from thalweg.sync.ledger.reading import LedgerVersion
from thalweg.window.feed import event_id, ledger_mark


def test_tasks_are_found_sorted_paged_and_grouped(window: OpenWindow) -> None:
    whole = window.get("/v1/tasks?limit=1000&sort=task")
    assert whole["matching"] == len(whole["tasks"]) > 50
    ids = [task["task_id"] for task in whole["tasks"]]
    assert ids == sorted(ids)
    page = window.get("/v1/tasks?limit=5&offset=10&sort=task")
    assert [task["task_id"] for task in page["tasks"]] == ids[10:15]
    turned = window.get("/v1/tasks?limit=5&sort=task&order=desc")
    assert [task["task_id"] for task in turned["tasks"]] == ids[:-6:-1]
    waiting = window.get("/v1/tasks?state=waiting,assigned&tenant=ads&limit=0")
    assert set(waiting["by_state"]) <= {"waiting", "assigned"}
    groups = window.get("/v1/tasks?group=tenant")["groups"]
    assert sum(group["tasks"] for group in groups) == whole["matching"]
    archived = window.get("/v1/tasks?archived=1&limit=1000")
    assert archived["matching"] > 50


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v1/tasks?state=lost", "allowed are waiting, assigned"),
        ("/v1/tasks?sort=colour", "allowed are changed, submitted"),
        ("/v1/tasks?order=up", "allowed are asc, desc"),
        ("/v1/tasks?limit=1001", "from 0 to 1000"),
        ("/v1/tasks?limit=-1", "whole numbers"),
        ("/v1/tasks?group=colour", "allowed are state, tenant"),
        ("/v1/tasks?since=yesterday", "allowed are an age (7d) or a time"),
        ("/v1/tasks?since=17", "allowed are an age"),
        ("/v1/money?by=colour", "allowed are tenant"),
        *((f"/v1/tasks?{name}=", f"{name} is empty") for name in ("tenant", "region", "name", "array", "reason")),
        ("/v1/tasks?since=%20", "since is empty"),
        ("/v1/money?tenant=", "tenant is empty"),
        ("/v1/events?after=now", "wanted is the id of an event"),
        ("/v1/tasks?held=yes", "held 'yes': allowed are true and false"),
        ("/v1/tasks?archived=", "archived is empty"),
        ("/v1/tasks/t1?reasons=no", "reasons 'no': allowed are true and false"),
    ],
)
def test_a_wrong_question_is_answered_with_what_is_allowed(window: OpenWindow, path: str, words: str) -> None:
    status, found, _ = window.ask(path)
    assert status == 422
    assert words in found["error"]


def test_every_page_has_its_document(window: OpenWindow) -> None:
    overview = window.get("/v1/overview")
    assert overview["tasks"] == window.get("/v1/tasks?limit=0")["matching"]
    assert sum(overview["by_state"].values()) == overview["tasks"]
    for path in (
        "regions",
        "nodes",
        "plans",
        "forecasts",
        "classifiers",
        "tenants",
        "sync",
        "quality",
        "money",
        "money?by=day",
        "audit",
        "me",
        "orders",
    ):
        assert isinstance(window.get(f"/v1/{path}"), dict), path
    document = window.get("/openapi.json")
    assert {"/v1/tasks", "/v1/events", "/v1/tasks/{task_id}/cancel"} <= set(document["paths"])
    assert "per_worker" in document["components"]["schemas"]["TaskRequest"]["properties"]
    assert window.ask("/v1/nothing")[0] == 404
    assert "openapi.json" in window.ask("/v1/nothing")[1]["error"]


def test_a_task_tells_its_life_and_why_it_waits(window: OpenWindow) -> None:
    task = window.get("/v1/tasks?state=waiting&limit=1")["tasks"][0]
    found = window.get(f"/v1/tasks/{quote(task['task_id'], safe='')}?reasons=0")
    assert found["task"]["state"] == "waiting"
    assert found["history"][0]["transition"] == "submitted"
    assert found["request"]["per_worker"]["gpus"] == task["gpus"] / found["request"].get("replicas", 1)
    with TableReader(window.folder) as reader:
        known = {row["task_id"] for row in reader.dicts("SELECT task_id FROM tasks WHERE state = 'waiting'")}
    explained = window.get(f"/v1/tasks/{quote(sorted(known)[0], safe='')}")
    assert explained["reasons"] is None or {"placed", "waits"} <= set(explained["reasons"])
    status, wrong, _ = window.ask("/v1/tasks/nobody%20knows")
    assert (status, wrong) == (404, {"error": "there is no task 'nobody knows'"})


def listen(window: OpenWindow, count: int, *, key: str | None = None, last: str | None = None) -> list[dict[str, Any]]:
    """Give the first events that come."""
    connection = http.client.HTTPConnection("127.0.0.1", window.port, timeout=900)
    headers = {} if last is None else {"Last-Event-ID": last}
    connection.request("GET", "/v1/events", headers=headers)
    answer = connection.getresponse()
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    found: list[dict[str, Any]] = []
    text = b""
    while len(found) < count:
        text += answer.read1(65_536)
        *parts, text = text.split(b"\n\n")
        for part in parts:
            if found_id := re.search(rb"^id: (.*)\nevent: change\ndata: (.*)", part, re.M):
                found.append({"id": found_id[1].decode(), **json.loads(found_id[2])})
    connection.close()
    return found


def test_events_come_as_they_are_committed_and_go_on_where_one_was(serving: Serving, tmp_path: Path) -> None:
    batches = random_batches(9, 6, 40)
    write_ledger(str(tmp_path), batches[:2])
    window = serving(str(tmp_path), batches)
    ledger = ledger_mark(LedgerVersion(DeltaTable(str(tmp_path / DECISIONS.name))).ledger_id)
    assert ledger, "an id says of which ledger it is"
    expected = [event_id(event.position, ledger) for rows in batches for event in events_of(rows)]
    with ThreadPoolExecutor() as beside:
        listening = beside.submit(listen, window, len(expected) - 1, last=expected[0])
        for former, rows in pairwise(batches[1:]):
            last = event_id(list(events_of(former))[-1].position, ledger)
            while window.get("/healthz")["position"] != last:
                time.sleep(0.01)
            write_ledger(str(tmp_path), [rows])
        heard = listening.result()
    assert [event["id"] for event in heard] == expected[1:]
    assert "task" in heard[-1], "who is told of a change is told how the task is now"
    assert [event["id"] for event in listen(window, 5, last=expected[-6])] == expected[-5:]


def test_a_method_that_is_not_done_is_told_with_those_that_are(window: OpenWindow) -> None:
    for method in ("DELETE", "OPTIONS", "PUT"):
        status, found, headers = window.ask("/v1/tasks", method=method)
        assert (status, headers["Allow"]) == (405, "GET, HEAD, POST")
        assert f"{method} is nothing that /v1/tasks does" in found["error"]
    assert window.ask("/v1/events", method="POST")[2]["Allow"] == "GET, HEAD"


def test_who_takes_no_gzip_gets_none(window: OpenWindow) -> None:
    for accepted, packed in (("gzip", "gzip"), ("br, gzip;q=0.5", "gzip"), ("gzip;q=0", None), ("identity", None)):
        assert window.ask("/app.js", Accept_Encoding=accepted)[2]["Content-Encoding"] == packed


def test_a_task_whose_id_ends_as_the_address_of_an_explanation_is_a_task(window: OpenWindow) -> None:
    words = [window.ask(f"/v1/tasks/research{slash}explanation")[1]["error"] for slash in ("%2F", "/")]
    assert words[0] == "there is no task 'research/explanation'"
    assert words[1].startswith("there is no task 'research'")


def test_a_task_that_nobody_knows_has_no_explanation(window: OpenWindow) -> None:
    status, found, _ = window.ask("/v1/tasks/nobody/explanation")
    assert status == 404
    assert "there is no task 'nobody'" in found["error"]


def test_a_key_of_one_tenant_sees_that_tenant(window: OpenWindow) -> None:
    mine = window.get("/v1/tasks?limit=1000", key="look")
    assert {task["tenant"] for task in mine["tasks"]} == {"research"}
    assert window.ask("/v1/tasks?tenant=ads", key="look")[0] == 403
    others = window.get("/v1/tasks?tenant=ads&limit=1")["tasks"][0]["task_id"]
    assert window.ask(f"/v1/tasks/{quote(others, safe='')}?reasons=0", key="look")[0] == 404
    assert window.ask("/v1/money?tenant=ads", key="look")[0] == 403
    assert window.get("/v1/money?tenant=research", key="look")["rows"] == window.get("/v1/money", key="look")["rows"]
    for path in ("plans", "forecasts", "classifiers", "tenants", "sync", "quality", "audit", "orders", "settings"):
        assert window.ask(f"/v1/{path}", key="look")[0] == 403, path
    mine_to_do = {"may_act": False, "acts": {}, "orders": {}}
    assert window.get("/v1/me", key="look") == {"key": "look", "tenant": "research", **mine_to_do}
    assert window.get("/v1/overview", key="look")["tasks"] == mine["matching"]
    assert window.ask("/v1/tasks", key="nonsense-of-some-length")[0] == 401


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v1/tasks?stat=waiting", "'stat' is no parameter here (is 'state' meant?)"),
        ("/v1/tasks?tenants=ads", "(is 'tenant' meant?)"),
        ("/v1/tasks/t1?reason=0", "(is 'reasons' meant?); allowed are reasons"),
        ("/v1/plans?limits=3", "(is 'limit' meant?)"),
        ("/v1/money?tennant=ads", "(is 'tenant' meant?)"),
        ("/v1/tasks?limit=1&limit=2", "'limit' is said more than once"),
        ("/v1/me?x=1", "'x' is no parameter here; allowed are none"),
        ("/v1/events?last=3-1-1", "allowed are after"),
    ],
)
def test_a_parameter_that_nobody_reads_is_refused_with_the_one_that_was_probably_meant(
    window: OpenWindow, path: str, words: str
) -> None:
    status, found, _ = window.ask(path)
    assert (status, words in found["error"]) == (422, True), found


def test_every_reading_path_is_in_the_document_with_its_parameters(window: OpenWindow) -> None:
    for path, said in window.get("/openapi.json")["paths"].items():
        if path.startswith("/v1/") and "get" in said:
            assert window.ask(path.replace("{task_id}", "nobody") + "?nonsense=1")[0] == 422, path


def test_an_event_that_is_none_is_refused_with_one_as_it_is(window: OpenWindow) -> None:
    status, found, _ = window.ask("/v1/events", Last_Event_ID="nonsense")
    assert (status, found["error"]) == (
        422, "Last-Event-ID 'nonsense': wanted is the id of an event, as in 3-1204-17-47a59b30"
    )  # fmt: skip


def test_nobody_acts_without_a_key_that_may(window: OpenWindow) -> None:
    request = {"task_id": "new", "tenant": "ads"}
    for key in (None, "look"):
        status, found, _ = window.ask("/v1/tasks", method="POST", body=request, key=key)
        assert status == 403, found
        assert "acts" in found["error"]
    assert window.ask("/v1/tasks/t1/cancel", method="POST", key="look")[0] == 403
    assert window.ask("/v1/tasks/t1/explode", method="POST", key="all")[0] == 404
    assert window.ask("/v1/tasks", method="POST", body={**request, "tenant": "vision"}, key="ads")[0] == 403
    theirs = window.get("/v1/tasks?tenant=vision&limit=1")["tasks"][0]["task_id"]
    assert window.ask(f"/v1/tasks/{quote(theirs, safe='')}/cancel", method="POST", key="ads")[0] == 404


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"task_id": "a", "workers": "two"}, "workers"),
        ({"task_id": "a", "gpus": 8}, "is 'per_worker.gpus' meant?"),
        ({}, "exactly one of the two is allowed"),
        ([], "wanted is a task"),
        ({"tasks": []}, "wanted is a task"),
        ({"tasks": [{"task_id": "a"}, {"task_id": "a"}]}, "named twice"),
        ({"tasks": [{"task_id": "a"}], "wait_s": 2}, "'wait_s' beside 'tasks': allowed is nothing"),
        (
            {"tasks": [{"task_id": "a"}, {"task_id": "b", "gpus": 1}]},
            "not sent: 2 of 2, task_id 'b': unknown field 'gpus'",
        ),
        ({"task_id": ".."}, "task_id '..': no address can name it"),
        (b"{", "it is no JSON"),
        (b"[" * 100_000, "it is no JSON"),
        (b'{"task_id": "' + b"a" * 4_100_000 + b'"}', "longer than 4,000,000 bytes"),
    ],
)
def test_a_wrong_request_is_refused_with_the_clients_words(window: OpenWindow, body: object, words: str) -> None:
    status, found, _ = window.ask("/v1/tasks", method="POST", body=body, key="all")
    assert status == 422
    assert words in found["error"]


def test_the_kind_of_a_body_is_said_in_any_case_and_another_is_refused_with_what_it_is(window: OpenWindow) -> None:
    def sent(kind: str) -> tuple[int, str]:
        status, found, _ = window.ask("/v1/tasks", method="POST", body=b"{}", key="all", Content_Type=kind)
        return status, found["error"]

    assert "task_id and task_ids" in sent("Application/JSON; charset=utf-8")[1]
    assert sent("text/plain")[1].startswith("the request was not sent: Content-Type 'text/plain': allowed is")


def test_without_a_broker_nothing_is_sent_and_it_is_said_when_to_come_back(window: OpenWindow) -> None:
    status, found, headers = window.ask("/v1/tasks", method="POST", body={"task_id": "new"}, key="all")
    assert (status, headers["Retry-After"]) == (503, "2")
    assert "no stack runs here" in found["error"]


def test_a_full_house_says_when_to_come_back(serving: Serving, window: OpenWindow) -> None:
    small = serving(window.folder, listeners=1)
    connection = http.client.HTTPConnection("127.0.0.1", small.port, timeout=900)
    connection.request("GET", "/v1/events")
    assert connection.getresponse().read1(10)
    status, found, headers = small.ask("/v1/events")
    assert (status, headers["Retry-After"]) == (429, "2")
    assert "window.listeners" in found["error"]
    connection.close()


def test_browsers_are_told_what_they_may_do_and_other_names_nothing(window: OpenWindow) -> None:
    for path in ("/", "/v1/overview", "/nothing"):
        _, _, headers = window.ask(path)
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert "Access-Control-Allow-Origin" not in headers
    status, found, _ = window.ask("/v1/overview", Host="evil.example")
    assert status == 421
    assert "evil.example" in found["error"]


def test_the_page_is_small_and_asks_nobody_else(window: OpenWindow) -> None:
    status, page, headers = window.ask("/", Accept_Encoding="gzip")
    assert (status, headers["Content-Encoding"]) == (200, "gzip")
    assert window.ask("/", If_None_Match=headers["ETag"])[0] == 304
    folder = Path(__file__).parents[4] / "thalweg" / "window" / "page"
    packed = len(page)
    for file in folder.iterdir():
        if file.suffix != ".html":
            packed += len(window.ask(f"/{file.name}", Accept_Encoding="gzip")[1])
        outside = set(re.findall(r"https?://[^\s\"'`)]+", file.read_text())) - {"http://www.w3.org/2000/svg"}
        assert not outside, file.name
        assert "innerHTML" not in file.read_text(), "text is set as text"
    assert packed <= 150_000
