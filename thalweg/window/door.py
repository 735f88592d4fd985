"""The door: what is asked over HTTP, who may ask it, and what is answered. Paths and their meaning are in `openapi`."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, Final

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from thalweg.client.client import InvalidRequestError
from thalweg.conf.bearer_keys import KeyNeededError, NoSuchKeyError
from thalweg.conf.environment import ALERTS
from thalweg.conf.settings import WindowSettings
from thalweg.query.reports.account_report import AccountBy
from thalweg.query.reports.task_index import TaskGrouping
from thalweg.query.reports.task_list import TaskFilter, TaskOrder, list_tasks
from thalweg.query.sql.as_of import LogTooShortError, Version, parse_as_of
from thalweg.query.sql.plain import plain
from thalweg.query.sql.query import TableReader, WarehouseUnreadableError
from thalweg.query.sql.sql_statement import QueryRefusedError
from thalweg.scheduling.counted import counted
from thalweg.stack.connection import NoBrokerError
from thalweg.streams.broker.errors import StreamError
from thalweg.streams.contract import finite
from thalweg.streams.contract.decode import words_of
from thalweg.window import metrics
from thalweg.window.acts import ACTS, ORDERS, Acted, ActSender, NotAllowedError, checked_order_of, of_tenant
from thalweg.window.assets import Asset, assets
from thalweg.window.discretion import check_names, without_others
from thalweg.window.feed import Feed, event_id, place_named
from thalweg.window.foresight import CrowdedError, Foresight, StillMakingError
from thalweg.window.keys import Caller, Keys, is_own_name
from thalweg.window.openapi import document, parameters_of
from thalweg.window.reports import Reports
from thalweg.window.told_reasons import classifier_reasons, forecast_reasons
from thalweg.window.watch import LedgerWatch

MOST_ROWS: Final = 1_000
_MOST_BYTES: Final = 4_000_000
_BODY_S: Final = 20.0
"""A request that comes in drops is not waited for any longer."""
_WAIT_S: Final = 5.0
_MOST_WAIT_S: Final = 60.0
_SEVERAL: Final = frozenset({"state", "id"})
"""Parameters that may be said more than once."""
_YES: Final = frozenset({"1", "true"})
_NO: Final = frozenset({"0", "false"})
_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Nothing of ours is older, and the engine's times do not reach much further back."""
_AGAIN_S: Final = 2
_STALE_S: Final = 20.0
_FLOWS_FRESH_S: Final = 10.0
_FLOWS_STALE_S: Final = 60.0
"""Minutes of the ledger are read for them."""
_EXPLAINED_AT_ONCE: Final = 2
"""An explanation takes a core for a good half of a second."""
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SAFE: Final = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_STATES: Final = ("waiting", "assigned", "running", "succeeded", "failed", "cancelled")
_WAYS: Final = ("asc", "desc")

_EXPLANATION: Final = "/explanation"
_STATUS_OF: Final = {"taken": 201, "known": 200, "refused": 409}


_Handler = Callable[[Request, Caller], Awaitable[Response]]


class _ExplanationRoute(Route):
    """Of a task whose id ends with `/explanation`, which an address writes as `%2Fexplanation`, it is not."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        written = scope.get("raw_path") or scope["path"].encode()
        return super().matches(scope) if written.endswith(_EXPLANATION.encode()) else (Match.NONE, {})


class Door:
    """The routes, and what they share."""

    def __init__(
        self,
        settings: WindowSettings,
        keys: Keys,
        watch: LedgerWatch,
        feed: Feed,
        reports: Reports,
        hands: ActSender,
        foresight: Foresight,
    ) -> None:
        self._settings, self._keys, self._watch, self._feed = settings, keys, watch, feed
        self._reports, self._hands, self._foresight = reports, hands, foresight
        self._acting = 0
        self._explaining = 0

    def app(self) -> ASGIApp:
        """Make the application."""

        @asynccontextmanager
        async def living(_: Starlette) -> AsyncIterator[None]:
            self._feed.bind()
            self._watch.start()
            warming = asyncio.ensure_future(self._reports.read("around", self._reports.around))
            try:
                yield
            finally:
                warming.cancel()
                self._watch.stop()
                self._reports.close()
                self._foresight.close()
                await self._hands.close()

        get: Sequence[tuple[str, _Handler]] = (
            ("/v1/overview", self._overview),
            ("/v1/tasks", self._tasks),
            ("/v1/tasks/{task_id:path}/explanation", self._explanation),
            ("/v1/tasks/{task_id:path}", self._task),
            ("/v1/regions", self._regions),
            ("/v1/nodes", self._nodes),
            ("/v1/plans", self._plans),
            ("/v1/forecasts", self._forecasts),
            ("/v1/classifiers", self._classifiers),
            ("/v1/tenants", self._tenants),
            ("/v1/sync", self._sync),
            ("/v1/quality", self._quality),
            ("/v1/money", self._money),
            ("/v1/audit", self._audit),
            ("/v1/orders", self._orders),
            ("/v1/settings", self._place_settings),
            ("/v1/events", self._events),
            ("/v1/me", self._me),
        )
        post: Sequence[tuple[str, _Handler]] = (
            ("/v1/tasks", self._submit),
            ("/v1/tasks/{task_id:path}/{op}", self._change),
            ("/v1/orders", self._order),
            ("/v1/what-if", self._what_if),
        )
        return Starlette(
            lifespan=living,
            middleware=[
                Middleware(_Guard, settings=self._settings),
                Middleware(GZipMiddleware, minimum_size=1_000, compresslevel=4),
            ],
            routes=[
                Route("/healthz", self._health),
                Route("/openapi.json", _openapi),
                Route("/alerts.yaml", _alerts),
                Route("/metrics", self._answered(self._metrics), methods=["GET"]),
                *(
                    (_ExplanationRoute if path.endswith(_EXPLANATION) else Route)(
                        path, self._answered(_read(path, do)), methods=["GET"]
                    )
                    for path, do in get
                ),
                *(Route(path, self._answered(do), methods=["POST"]) for path, do in post),
                *(Route(path, _given(asset)) for path, asset in assets().items()),
            ],
            exception_handlers={HTTPException: _no_such_page},
        )

    # Every request

    def _answered(self, do: _Handler) -> Callable[[Request], Awaitable[Response]]:
        """Let a caller in, and turn what goes wrong into an answer that says what was seen and what is allowed."""

        async def answer(request: Request) -> Response:
            try:
                return await do(request, self._keys.caller(request.headers.get("authorization")))
            except (NoSuchKeyError, KeyNeededError) as error:
                return wrong(401, str(error), {"WWW-Authenticate": "Bearer"})
            except NotAllowedError as error:
                return wrong(403, str(error))
            except (InvalidRequestError, QueryRefusedError) as error:
                return wrong(422, str(error))
            except StillMakingError as error:
                return _json({"working": str(error)}, 202, {"Retry-After": str(_AGAIN_S)})
            except CrowdedError as error:
                return wrong(429, str(error), {"Retry-After": str(_AGAIN_S)})
            except (StreamError, NoBrokerError, WarehouseUnreadableError, LogTooShortError) as error:
                return wrong(503, str(error), {"Retry-After": str(_AGAIN_S)})

        return answer

    def _whole(self, caller: Caller) -> None:
        """Refuse what tells of all tenants to a key of one."""
        if caller.tenant is not None:
            raise NotAllowedError(f"this tells of all tenants; the key is of tenant {caller.tenant!r}")

    # Reading

    async def _health(self, _: Request) -> Response:
        newest = self._feed.newest
        return _json(
            {
                "ok": self._watch.is_loaded and not self._watch.trouble,
                "loaded": self._watch.is_loaded,
                "position": None if newest is None else event_id(newest, self._feed.ledger),
                "listeners": self._feed.listeners,
                "trouble": self._watch.trouble or None,
            },
            200 if self._watch.is_loaded and not self._watch.trouble else 503,
        )

    async def _metrics(self, _: Request, caller: Caller) -> Response:
        self._whole(caller)
        found = await self._reports.read(("overview", None), lambda: self._reports.overview(None), 0.5)
        around = await self._reports.read("around", self._reports.around, stale_s=_STALE_S)
        text = metrics.shown(
            {one["kind"] for one in around["unwell"]},
            found["by_state"],
            Counter(row["state"] for row in around["regions"]),
            around["nodes"],
            found["usd_per_hour"],
            self._feed.listeners,
            loaded=self._watch.is_loaded,
        )
        return Response(text, media_type=CONTENT_TYPE_LATEST, headers={"Cache-Control": "no-store"})

    async def _me(self, _: Request, caller: Caller) -> Response:
        acts = dict(ACTS) if caller.may_act else {}
        orders = dict(ORDERS) if caller.may_act and caller.tenant is None else {}
        told = {"key": caller.name or None, "tenant": caller.tenant, "may_act": caller.may_act}
        return _json({**told, "acts": acts, "orders": orders})

    async def _overview(self, _: Request, caller: Caller) -> Response:
        tenant = caller.tenant
        found = await self._reports.read(("overview", tenant), lambda: self._reports.overview(tenant), 0.5)
        # What is read from six tables may be some seconds old, so that nobody waits for it who comes again.
        around = await self._reports.read("around", self._reports.around, stale_s=_STALE_S)
        flows = await self._reports.read("flows", self._reports.flows, _FLOWS_FRESH_S, stale_s=_FLOWS_STALE_S)
        if tenant is not None:
            own = await self._own_use(tenant)
            around, flows = {**around, **own, "unwell": None}, {"flows": []}
        recent = [msgspec.json.decode(body) for body in self._feed.recent(30, caller.tenant)]
        told = {**around, **flows, **found, "now": self._reports.now(), "loaded": self._watch.is_loaded}
        return _told({**told, "recent": recent}, caller)

    async def _own_use(self, tenant: str) -> dict[str, Any]:
        """Tell of the regions what a tenant may know: what they are, and what of them it uses itself."""
        found = await self._reports.read(
            ("regions of", tenant), lambda: self._reports.regions(tenant), stale_s=_STALE_S
        )
        return {"regions": found["regions"]}

    async def _tasks(self, request: Request, caller: Caller) -> Response:
        query = request.query_params
        wanted = self._wanted(query, caller, query.getlist("state"), query.getlist("id"))
        limit = _number(query, "limit", 100, 0, MOST_ROWS)
        columns = self._watch.tasks.columns
        answer: dict[str, Any] = {"now": self._reports.now(), "loaded": self._watch.is_loaded}
        if _flag(query, "archived"):
            order = _one_of(query, "sort", [order.value for order in TaskOrder], "changed")
            found = await asyncio.to_thread(self._archived, wanted, TaskOrder(order), query.get("order"), limit)
            return _told({**answer, **found}, caller)
        if "group" in query:
            by = TaskGrouping(_one_of(query, "group", [by.value for by in TaskGrouping], ""))
            return _told({**answer, "by": by, "groups": await asyncio.to_thread(columns.group, wanted, by)}, caller)
        sort = _one_of(query, "sort", [*(order.value for order in TaskOrder), "gpus"], "changed")
        offset = _number(query, "offset", 0, 0, 10**9)
        page = await asyncio.to_thread(
            columns.find,
            wanted,
            "gpus" if sort == "gpus" else TaskOrder(sort),
            turned=_turned(sort, query),
            limit=limit,
            offset=offset,
        )
        return _told(
            {**answer, "matching": page.matching, "by_state": page.by_state, "offset": offset, "tasks": page.tasks},
            caller,
        )

    def _archived(self, wanted: TaskFilter, order: TaskOrder, way: str | None, limit: int) -> dict[str, Any]:
        with TableReader(self._reports.warehouse) as reader:
            found = list_tasks(
                reader,
                replace(wanted, ended_too=True),
                order,
                turned=_turned(order.value, {"order": way} if way else {}),
                limit=limit,
            )
        tasks = [{name: value for name, value in task.items() if name != "request"} for task in found.tasks]
        return {"matching": found.matching, "by_state": found.by_state, "offset": 0, "tasks": tasks}

    def _wanted(
        self, query: Mapping[str, str], caller: Caller, states: Sequence[str], task_ids: Sequence[str]
    ) -> TaskFilter:
        named = tuple(state for listed in states for state in listed.split(",") if state)
        for state in named:
            if state not in _STATES:
                hint = "; of those that are held: held=1" if state == "held" else ""
                raise QueryRefusedError(f"state {state!r}: allowed are {', '.join(_STATES)}{hint}")
        tenant = _tenant(query, caller)
        since = self._since(query["since"]) if query.get("since") else None
        return TaskFilter(
            task_ids=tuple(task_ids),
            states=named,
            tenant=tenant,
            region=query.get("region"),
            name=query.get("name"),
            array=query.get("array"),
            reason=query.get("reason"),
            since=since,
            held=_flag(query, "held"),
        )

    def _since(self, text: str) -> datetime:
        with suppress(QueryRefusedError):
            if not isinstance(moment := parse_as_of(text, self._reports.now(), "since"), Version):
                return max(moment, _BEGINNING)
        raise QueryRefusedError(f"since {text!r}: allowed are an age (7d) or a time (2026-11-21T12:00:00Z)")

    async def _task(self, request: Request, caller: Caller) -> Response:
        task_id = request.path_params["task_id"]
        with_reasons = _flag(request.query_params, "reasons", otherwise=True)
        found = await self._story(task_id, caller)
        if found is None:
            return _no_task(task_id)
        reasons = None
        if with_reasons:
            with suppress(QueryRefusedError):  # the tables follow the ledger within seconds
                reasons = _reasons(await self._explained(task_id))
        return _told({**found, "now": self._reports.now(), "reasons": reasons}, caller)

    async def _explanation(self, request: Request, caller: Caller) -> Response:
        task_id = request.path_params["task_id"]
        # Whose it is comes first: to explain takes a while, and fails otherwise where there is no such task.
        if caller.tenant is not None and await self._story(task_id, caller) is None:
            return _no_task(task_id)
        try:
            found = await self._explained(task_id)
        except QueryRefusedError as error:
            return wrong(404, str(error))
        return _told(_reasons(found), caller)

    async def _story(self, task_id: str, caller: Caller) -> dict[str, Any] | None:
        """Tell a task's life; None where there is none that the caller may know of."""
        story = await self._reports.read(("task", task_id), lambda: {"story": self._reports.story(task_id)}, 0.5)
        found: dict[str, Any] | None = story["story"]
        return None if found is None or not _may_see(found, caller) else found

    async def _explained(self, task_id: str) -> dict[str, Any]:
        if self._explaining >= 4 * _EXPLAINED_AT_ONCE:
            raise CrowdedError(f"{self._explaining} explanations are under way; ask again, or with reasons=0")
        self._explaining += 1
        try:
            return await self._reports.read(("explanation", task_id), lambda: self._reports.explanation(task_id), 5.0)
        finally:
            self._explaining -= 1

    async def _regions(self, _: Request, caller: Caller) -> Response:
        return await self._report(("regions", caller.tenant), lambda: self._reports.regions(caller.tenant))

    async def _nodes(self, request: Request, caller: Caller) -> Response:
        region = request.query_params.get("region")
        tenant = caller.tenant
        return await self._report(("nodes", region, tenant), lambda: self._reports.nodes(region, tenant))

    async def _plans(self, request: Request, caller: Caller) -> Response:
        self._whole(caller)
        limit = _number(request.query_params, "limit", 50, 1, MOST_ROWS)
        return await self._report(("plans", limit), lambda: self._reports.plans(limit))

    async def _forecasts(self, _: Request, caller: Caller) -> Response:
        self._whole(caller)
        return await self._report("forecasts", lambda: forecast_reasons(self._settings.forecasts))

    async def _classifiers(self, _: Request, caller: Caller) -> Response:
        self._whole(caller)
        return await self._report("classifiers", lambda: classifier_reasons(self._settings.classifiers))

    async def _tenants(self, _: Request, caller: Caller) -> Response:
        self._whole(caller)
        return await self._report("tenants", self._reports.tenants)

    async def _sync(self, _: Request, caller: Caller) -> Response:
        self._whole(caller)
        return await self._report("sync", self._reports.sync)

    async def _quality(self, _: Request, caller: Caller) -> Response:
        self._whole(caller)
        return await self._report("quality", self._reports.quality)

    async def _audit(self, request: Request, caller: Caller) -> Response:
        self._whole(caller)
        limit = _number(request.query_params, "limit", 100, 1, MOST_ROWS)
        return await self._report(("audit", limit), lambda: self._reports.audit(limit))

    async def _orders(self, request: Request, caller: Caller) -> Response:
        self._whole(caller)
        return await self._report("orders", self._reports.orders)

    async def _place_settings(self, _: Request, caller: Caller) -> Response:
        self._whole(caller)
        return _json(self._reports.place_settings())

    async def _money(self, request: Request, caller: Caller) -> Response:
        query = request.query_params
        by = AccountBy(_one_of(query, "by", [by.value for by in AccountBy], "tenant"))
        since, tenant = query.get("since", "1d"), _tenant(query, caller)
        limit = _number(query, "limit", 100, 1, MOST_ROWS)
        moment = self._since(since)
        # Of many tasks it takes a second: who looks on is given the sums of some seconds ago, and the fresh ones next.
        return await self._report(
            ("money", by, since, tenant, limit), lambda: self._reports.money(by, moment, tenant, limit), _STALE_S
        )

    async def _report(self, key: object, make: Callable[[], dict[str, Any]], stale_s: float = 0.0) -> Response:
        return _json({**await self._reports.read(key, make, stale_s=stale_s), "now": self._reports.now()})

    async def _events(self, request: Request, caller: Caller) -> Response:
        last = request.headers.get("last-event-id") or request.query_params.get("after")
        after = None if last is None else place_named(last)
        if last is not None and after is None:
            return wrong(422, f"Last-Event-ID {last!r}: wanted is the id of an event, as in 3-1204-17-47a59b30")
        if self._feed.listeners >= self._settings.listeners:
            listen = counted(self._feed.listeners, "client listens", "clients listen")
            raise CrowdedError(f"{listen} already (window.listeners)")
        return StreamingResponse(
            self._feed.follow(after, caller.tenant),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    # Acting

    def _may_act(self, caller: Caller) -> None:
        if not caller.may_act:
            raise NotAllowedError("this only reads; who acts needs a key whose `acts` is true in window.keys")

    @asynccontextmanager
    async def _act(self) -> AsyncIterator[None]:
        if self._acting >= self._settings.acts_at_once:
            acting = counted(self._acting, "request is", "requests are")
            raise CrowdedError(f"{acting} under way (window.acts_at_once); nothing was sent")
        self._acting += 1
        try:
            yield
        finally:
            self._acting -= 1

    async def _submit(self, request: Request, caller: Caller) -> Response:
        self._may_act(caller)
        asked = await _body(request)  # before a place is taken: who sends slowly keeps nobody else out
        async with self._act():
            requests = asked["tasks"] if isinstance(asked, dict) and "tasks" in asked else [asked]
            if not isinstance(requests, list) or not all(isinstance(one, dict) for one in requests) or not requests:
                raise InvalidRequestError('wanted is a task, or {"tasks": [...]}')
            if requests[0] is not asked and (beside := sorted(asked.keys() - {"tasks"})):
                raise InvalidRequestError(f"{beside[0]!r} beside 'tasks': allowed is nothing")
            if caller.tenant is not None:
                for one in requests:
                    check_names(of_tenant(one, caller), caller.tenant, lambda names: self._own(names, caller))
            _check_parameters(request, "wait_s")
            acted = await self._hands.submit(requests, caller, _wait_s(request))
            return _of_acts(acted, alone=asked is requests[0])

    async def _change(self, request: Request, caller: Caller) -> Response:
        op, task_id = request.path_params["op"], request.path_params["task_id"]
        if op not in ACTS:
            return wrong(404, f"{op!r} is nothing that is done to a task; allowed are {', '.join(ACTS)}")
        self._may_act(caller)
        async with self._act():
            if caller.tenant is not None and not self._own([task_id], caller):
                return _no_task(task_id)
            if _is_dry(request):
                return _told({"dry_run": True, **await self._foresight.of_change(op, task_id, caller.tenant)}, caller)
            acted = await self._hands.change(op, [task_id], caller, _wait_s(request))
            return _of_acts(acted, alone=True)

    def _own(self, task_ids: Collection[str], caller: Caller) -> set[str]:
        """Say which tasks are known to be the caller's tenant's."""
        known = self._watch.tasks.columns.states_of(list(task_ids))
        return {task["task_id"] for task in known if task["tenant"] == caller.tenant}

    async def _order(self, request: Request, caller: Caller) -> Response:
        self._may_act(caller)
        self._whole(caller)
        order = checked_order_of(await _body(request), caller)
        async with self._act():
            if _is_dry(request):
                return _json({"dry_run": True, **await self._foresight.of_order(order)})
            answer = await self._hands.order(order, _wait_s(request))
        told: dict[str, Any] = {"order": order.order, "answer": None, "subject": None, "status": 202}
        if answer is not None:
            status = _STATUS_OF[answer.answer]
            told |= {"answer": answer.answer, "subject": answer.subject, "status": status}
            told["error" if status == 409 else "reason"] = answer.reason or None
        return _json(told, told["status"])

    async def _what_if(self, request: Request, caller: Caller) -> Response:
        self._whole(caller)
        return _json(await self._foresight.of_supposition(await _body(request)))


def _read(path: str, do: _Handler) -> _Handler:
    """Let a reading path take the parameters that the OpenAPI document names, and refuse one that is misspelt."""
    allowed = parameters_of(path.replace(":path", ""))

    async def read(request: Request, caller: Caller) -> Response:
        _check_parameters(request, *allowed)
        return await do(request, caller)

    return read


def _of_acts(acted: Sequence[Acted], *, alone: bool) -> Response:
    """Say what became of requests: of one, its answer is the answer's status; of many, each has its own."""
    rows = []
    for one in acted:
        row: dict[str, Any] = {"task_id": one.task_id, "answer": None, "status": 202}
        if one.answer is not None:
            status = _STATUS_OF[one.answer.answer]
            row |= {"answer": one.answer.answer, "status": status, "state": one.answer.state or None}
            row |= {"error" if status == 409 else "reason": one.answer.reason or None}
        rows.append(row)
    if alone:
        return _json(rows[0], rows[0]["status"])
    return _json({"tasks": rows}, 409 if any(row["status"] == 409 for row in rows) else 200)


def _reasons(explanation: Mapping[str, Any]) -> dict[str, Any]:
    return {name: explanation[name] for name in ("placed", "waits", "unread")}


def _may_see(story: Mapping[str, Any], caller: Caller) -> bool:
    return caller.tenant is None or story["task"].get("tenant") == caller.tenant


def _turned(sort: str, query: Mapping[str, str]) -> bool:
    """Tell whether an order is the other way round than the one that `task_list` takes by itself."""
    usual = "asc" if sort in ("task", "state") else "desc"
    return _one_of(query, "order", _WAYS, usual) != usual


def _one_of(query: Mapping[str, str], name: str, allowed: Sequence[str], otherwise: str) -> str:
    found = query.get(name) or otherwise
    if found not in allowed:
        raise QueryRefusedError(f"{name} {found!r}: allowed are {', '.join(allowed)}")
    return found


def _number(query: Mapping[str, str], name: str, otherwise: int, least: int, most: int) -> int:
    text = query.get(name)
    if text is None:
        return otherwise
    if not re.fullmatch(r"\d{1,10}", text) or not least <= int(text) <= most:
        raise QueryRefusedError(f"{name} {text!r}: allowed are whole numbers from {least} to {most}")
    return int(text)


def _flag(query: Mapping[str, str], name: str, *, otherwise: bool = False) -> bool:
    text = query.get(name, "1" if otherwise else "0").lower()
    if text not in _YES and text not in _NO:
        raise QueryRefusedError(f"{name} {text!r}: allowed are true and false (1 and 0)")
    return text in _YES


def _tenant(query: Mapping[str, str], caller: Caller) -> str | None:
    """Whose rows are meant: of a tenant's key its own, whether it is named or not; None means everybody's."""
    named = query.get("tenant")
    if caller.tenant is not None and named not in (None, caller.tenant):
        raise NotAllowedError(f"this key is of tenant {caller.tenant!r}")
    return caller.tenant or named


def _is_dry(request: Request) -> bool:
    """Tell whether an act is only supposed. What is not understood acts on nothing."""
    _check_parameters(request, "dry_run", "wait_s")
    return _flag(request.query_params, "dry_run")


def _check_parameters(request: Request, *allowed: str) -> None:
    if empty := sorted(name for name, value in request.query_params.multi_items() if not value.strip()):
        raise QueryRefusedError(f"{empty[0]} is empty: say what is meant, or leave it out")
    counts = Counter(name for name, _ in request.query_params.multi_items() if name not in _SEVERAL)
    if twice := sorted(name for name, count in counts.items() if count > 1):
        raise QueryRefusedError(f"{twice[0]!r} is said more than once: only one of them could count")
    unknown = sorted(request.query_params.keys() - set(allowed))
    if not unknown:
        return
    near = get_close_matches(unknown[0], allowed, n=1)
    meant = f" (is {near[0]!r} meant?)" if near else ""
    raise QueryRefusedError(f"{unknown[0]!r} is no parameter here{meant}; allowed are {', '.join(allowed) or 'none'}")


def _wait_s(request: Request) -> float:
    text = request.query_params.get("wait_s", str(_WAIT_S))
    if not re.fullmatch(r"\d{1,2}(\.\d{1,3})?", text) or float(text) > _MOST_WAIT_S:
        raise QueryRefusedError(f"wait_s {text!r}: allowed are seconds from 0 to {_MOST_WAIT_S:g}")
    return float(text)


async def _body(request: Request) -> Any:
    """Read a JSON body, of a bounded length."""
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "application/json":
        raise InvalidRequestError(f"Content-Type {kind!r}: allowed is application/json")
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_S):
            async for part in request.stream():
                body += part
                if len(body) > _MOST_BYTES:
                    raise InvalidRequestError(f"it is longer than {_MOST_BYTES:,} bytes")
    except TimeoutError as error:
        raise InvalidRequestError(f"it was not there after {_BODY_S:g} s") from error
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(
            _too_large_number(body) or f"it is no JSON: {words_of(error, bytes(body))}"
        ) from error


def _too_large_number(body: bytearray) -> str | None:
    """Name the number that is too large to be held, such as 1e400; None where that is not what is wrong."""
    try:
        return finite.objection(json.loads(body))
    except (ValueError, RecursionError):
        return None


def _json(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    body = msgspec.json.encode(plain(content))
    return Response(
        body, status, media_type="application/json", headers={"Cache-Control": "no-store", **(headers or {})}
    )


def _told(content: object, caller: Caller) -> Response:
    """Answer; a tenant's key is named no task of others, in no words."""
    return _json(content if caller.tenant is None else without_others(plain(content)))


def _no_task(task_id: str) -> Response:
    """Answer for a task that is not there, or is nothing to the caller: there is no difference."""
    return wrong(404, f"there is no task {task_id!r}")


def wrong(status: int, words: str, headers: Mapping[str, str] | None = None) -> Response:
    """Answer that something is wrong, and what."""
    return _json({"error": words}, status, headers)


async def _openapi(_: Request) -> Response:
    return _json(document())


async def _alerts(_: Request) -> Response:
    return Response(ALERTS.read_bytes(), media_type="application/yaml", headers={"Cache-Control": "no-cache"})


async def _no_such_page(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    allowed = ""
    if error.status_code == 405:
        routes = (route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE)
        allowed = headers["Allow"] = ", ".join(sorted({method for route in routes for method in route.methods}))
    words = {
        404: f"there is no {request.url.path}; /openapi.json lists what there is",
        405: f"{request.method} is nothing that {request.url.path} does; allowed: {allowed}",
    }
    return wrong(error.status_code, words.get(error.status_code, error.detail), headers)


def _given(asset: Asset) -> Callable[[Request], Awaitable[Response]]:
    async def give(request: Request) -> Response:
        headers = {"ETag": asset.tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if request.headers.get("if-none-match") == asset.tag:
            return Response(None, 304, headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(asset.packed, 200, {**headers, "Content-Encoding": "gzip"}, asset.kind)
        return Response(asset.plain, 200, headers, asset.kind)

    return give


def _takes_gzip(accepted: str) -> bool:
    """Tell whether gzip is among the accepted encodings, and not at a weight of nothing."""
    return any(
        name.strip() in ("gzip", "*") and not re.fullmatch(r"q=0(\.0*)?", how.strip())
        for name, _, how in (one.partition(";") for one in accepted.lower().split(","))
    )


class _Guard:
    """Refuses what is asked of another name, and says with every answer what a browser may do with it."""

    def __init__(self, app: ASGIApp, settings: WindowSettings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *_SAFE]}
            await send(message)

        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        if not is_own_name(host, self._settings):
            words = f"this window is not called {host!r}; window.names lists what it is called"
            await wrong(421, words)(scope, receive, safely)
            return
        if not _takes_gzip(dict(scope["headers"]).get(b"accept-encoding", b"").decode("latin-1")):
            # What packs answers looks for the word alone, and packs for `gzip;q=0`, too.
            scope = {**scope, "headers": [one for one in scope["headers"] if one[0] != b"accept-encoding"]}
        await self._app(scope, receive, safely)
