"""The OpenAPI document of the door: its meaning by hand, its messages from their types."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final

import msgspec

from thalweg.query.reports.account_report import AccountBy
from thalweg.query.reports.task_index import TaskGrouping
from thalweg.query.reports.task_list import TaskOrder
from thalweg.streams.contract.messages import ControlOrder, TaskRequest
from thalweg.window.acts import ACTS, ORDERS
from thalweg.window.foresight import WhatIf

_TASK: Final[Mapping[str, Any]] = {"name": "task_id", "in": "path", "required": True, "schema": {"type": "string"}}
_WAIT: Final = "Seconds to wait for the place job's answer; 202 where it was not heard. By default 5, at most 60."


def _query(name: str, words: str, kind: str = "string", among: list[str] | None = None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": kind}
    if among is not None:
        schema["enum"] = among
    return {"name": name, "in": "query", "required": False, "description": words, "schema": schema}


def _get(words: str, *parameters: Mapping[str, Any], kind: str = "application/json") -> dict[str, Any]:
    answers = {
        "200": {"description": "What was asked for.", "content": {kind: {}}},
        "401": {"$ref": "#/components/responses/wrong"},
        "422": {"$ref": "#/components/responses/wrong"},
        "429": {"$ref": "#/components/responses/crowded"},
        "503": {"$ref": "#/components/responses/crowded"},
    }
    return {"get": {"summary": words, "parameters": list(parameters), "responses": answers}}


def _body(name: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}
    return {"required": True, "content": content}


def _answers() -> dict[str, Any]:
    said = {
        "200": "It was known already; nothing is new.",
        "201": "Taken.",
        "202": "The broker has it; the place job was not heard in time.",
        "401": "The key is unknown.",
        "403": "The key does not act, or is another tenant's.",
        "409": "The place job refused it; `error` has its words.",
        "422": "It is no valid request; nothing was sent.",
        "429": "Too many are under way; nothing was sent. Retry-After says when to come back.",
        "503": "The broker is not reached; sending again is safe.",
    }
    return {status: {"description": words} for status, words in said.items()}


def document() -> dict[str, Any]:
    """Write the document."""
    _, types = msgspec.json.schema_components(
        [TaskRequest, ControlOrder, WhatIf], ref_template="#/components/schemas/{name}"
    )
    filters = (
        _query("state", "One or several, separated by commas; may be repeated."),
        _query("tenant", "Whose."),
        _query("region", "With a copy there."),
        _query("name", "Name, or id where there is none; * and ? stand for any characters and for one."),
        _query("array", "Elements of this task."),
        _query("reason", "Words in the reason."),
        _query("since", "Changed since: an age (5m, 2h, 7d) or a time."),
        _query("id", "This task; may be repeated."),
        _query("held", "Only those that are held.", "boolean"),
    )
    listing = (
        _query("sort", "What comes first.", among=[*(order.value for order in TaskOrder), "gpus"]),
        _query("order", "asc or desc; by default names ascend and everything else descends.", among=["asc", "desc"]),
        _query("limit", "Tasks given in full, at most 1000.", "integer"),
        _query("offset", "Tasks before them.", "integer"),
        _query("group", "Count by this instead of listing.", among=[by.value for by in TaskGrouping]),
        _query("archived", "Also those that ended long ago: slower, from the tables, without offset.", "boolean"),
    )
    limit = _query("limit", "Rows, at most 1000.", "integer")
    submit = {
        "summary": "Submit a task, or many at once.",
        "description": "Idempotent by `task_id`: the same content again is known, other content is refused.",
        "parameters": [_query("wait_s", _WAIT, "number")],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "oneOf": [
                            {"$ref": "#/components/schemas/TaskRequest"},
                            {
                                "type": "object",
                                "required": ["tasks"],
                                "properties": {
                                    "tasks": {"type": "array", "items": {"$ref": "#/components/schemas/TaskRequest"}}
                                },
                            },
                        ]
                    }
                }
            },
        },
        "responses": _answers(),
        "security": [{"key": []}],
    }
    dry = _query("dry_run", "Only say what it would do, in words and figures; nothing is sent.", "boolean")
    acts = {
        f"/v1/tasks/{{task_id}}/{op}": {
            "post": {
                "summary": f"{op.capitalize()} a task.",
                "description": words,
                "parameters": [_TASK, _query("wait_s", _WAIT, "number"), dry],
                "responses": _answers(),
                "security": [{"key": []}],
            }
        }
        for op, words in ACTS.items()
    }
    order = {
        "summary": "Give an order: drain or undrain, move, hold or release a tenant, its limits, a price.",
        "description": "; ".join(f"`{name}`: {words}" for name, words in ORDERS.items()),
        "parameters": [_query("wait_s", _WAIT, "number"), dry],
        "requestBody": _body("ControlOrder"),
        "responses": _answers(),
        "security": [{"key": []}],
    }
    what_if = {
        "summary": "Plan with other settings, prices, limits or capacity, and compare. Nothing is changed.",
        "requestBody": _body("WhatIf"),
        "responses": _get("")["get"]["responses"],
    }
    reasons = _query("reasons", "0 leaves out why it waits or is where it is, which takes half a second.", "boolean")
    by = _query("by", "What is summed together.", among=[by.value for by in AccountBy])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Thalweg",
            "version": version("thalweg"),
            "description": "Tasks in, what became of them out. Times are UTC, money is in US dollars.",
        },
        "paths": {
            "/healthz": _get("Whether the ledger is read and followed; 503 where it is not."),
            "/v1/me": _get("What the key may do."),
            "/v1/overview": _get("What runs, waits and costs, and what is unwell."),
            "/v1/tasks": {**_get("Find, sort, page, count or group tasks.", *filters, *listing), "post": submit},
            "/v1/tasks/{task_id}": _get("A task's life, its runs, and why it waits or is where it is.", _TASK, reasons),
            "/v1/tasks/{task_id}/explanation": _get("Why a task waits, or what else there was for it.", _TASK),
            **acts,
            "/v1/regions": _get("The regions: capacity, use, prices, links."),
            "/v1/nodes": _get("The nodes and how full they are.", _query("region", "Only those of this one.")),
            "/v1/plans": _get(
                "The newest plans: money, delay, what is placed and waits, prices of pools, timings.", limit
            ),
            "/v1/forecasts": _get("What the forecasts of `window.forecasts` rest on, and how good they were."),
            "/v1/classifiers": _get("What the classifiers of `window.classifiers` rest on, and why of one answer."),
            "/v1/tenants": _get("What each tenant deserves, uses and borrows."),
            "/v1/sync": _get("How far each region's replication is."),
            "/v1/quality": _get("What was quarantined and refused within a day, with the bytes."),
            "/v1/money": _get(
                "What tasks have cost.", by, _query("since", "An age or a time."), _query("tenant", "Whose."), limit
            ),
            "/v1/audit": _get("Who did what to the system itself.", limit),
            "/v1/orders": {**_get("The orders that stand, and who gave them."), "post": order},
            "/v1/settings": _get("The settings that a plan depends on."),
            "/v1/what-if": {"post": what_if},
            "/v1/events": _get(
                "Every row of the ledger as it is committed, as server-sent events. An event's id is its position; "
                "Last-Event-ID goes on behind it and misses nothing.",
                _query("after", "The same as Last-Event-ID, where that header cannot be sent."),
                kind="text/event-stream",
            ),
        },
        "components": {
            "schemas": types,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "responses": {
                "wrong": {"description": "`error` says what was seen and what is allowed."},
                "crowded": {"description": "Come back: Retry-After says when."},
            },
        },
    }


def parameters_of(path: str) -> tuple[str, ...]:
    """Name the query parameters that reading a path takes."""
    listed = document()["paths"][path]["get"]["parameters"]
    return tuple(one["name"] for one in listed if one["in"] == "query")
