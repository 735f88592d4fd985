"""What may be asked of the plane through the window: sent by the client library, with its checks and its words.

An act on tasks is an operation of `Client.change`, listed in `ACTS`; what concerns more than a task is an order of the
topic `control`, listed in `ORDERS`. Each carries the name of the key that asked, and becomes a row of `audit` by it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from thalweg.client.client import Client, InvalidRequestError, checked_request, checked_requests
from thalweg.client.orders import checked_order, give_order
from thalweg.conf.settings import KafkaSettings
from thalweg.streams.contract.messages import Answer, ControlOrder, OrderAnswer
from thalweg.sync.clock import Clock
from thalweg.window.answers import AnswerWatch
from thalweg.window.keys import Caller

ACTS: Final[Mapping[str, str]] = {
    "cancel": "It is not placed any more, and stopped where it runs. Nothing that it has left is removed.",
    "hold": "It does not start until it is released. What runs goes on.",
    "release": "It waits again as others do.",
}
"""Operations on a task, with what each does; what it will do to this one is asked of `foresight`."""
ORDERS: Final[Mapping[str, str]] = {
    "drain": "A region or a node takes nothing new, and what runs there moves elsewhere.",
    "undrain": "It takes tasks again.",
    "move": "A copy of a task stops where it is and starts in another region.",
    "hold": "Nothing of a tenant starts; what runs goes on.",
    "release": "The tenant's tasks start again.",
    "tenant": "Weight, quota and budget of a tenant, above the settings.",
    "price": "What a GPU-hour of a pool costs, whatever its region says.",
}
"""Orders of `thalweg drain, undrain, move, tenant, price`: for a key of all tenants."""
_CLOCK_SLACK_MS: Final = 2_000
"""The broker's clock may differ a little from this one."""
_ORDERS_AT_ONCE: Final = 4
"""Each waits for its answer with a connection of its own."""
_OURS: Final = {"who", "order_id", "observed_at"}
_CLIENT_TASKS: Final = 10_000
"""A client remembers what it asked; so it is replaced after so many tasks."""


class NotAllowedError(Exception):
    """The caller may not ask for this; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acted:
    """What became of one request."""

    task_id: str
    answer: Answer | None
    """None where the place job was not heard in time: the broker has the request."""


class ActSender:
    """Sends requests, many at once by one thread, and waits for their answers."""

    def __init__(self, connect: Callable[[], KafkaSettings], clock: Clock) -> None:
        """Prepare; the connection is made by the first act.

        Args:
            connect: finds the broker.
            clock: milliseconds since 1970.
        """
        self._connect, self._clock = connect, clock
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="window-hands")
        self._orders = ThreadPoolExecutor(max_workers=_ORDERS_AT_ONCE, thread_name_prefix="window-orders")
        self._client: Client | None = None
        self._answers: AnswerWatch | None = None
        self._sent = 0
        self._asked_ms = 0

    async def submit(self, requests: Sequence[Mapping[str, Any]], caller: Caller, wait_s: float) -> list[Acted]:
        """Submit tasks: all are checked before one is sent.

        Raises:
            InvalidRequestError: one is not a valid request; nothing was sent.
            NotAllowedError: the caller's key is another tenant's.
            StreamError: the broker was not reached; sending again is safe.
        """
        asked_ms = self._moment()
        contents = [{"observed_at": asked_ms, **of_tenant(request, caller)} for request in requests]
        checked = [request for request, _ in checked_requests(contents, "submit")]
        if len({request.task_id for request in checked}) < len(checked):
            raise InvalidRequestError("a task is named twice")
        moments = {str(request.task_id): request.observed_at or 0 for request in checked}
        return await self._asked("submit", moments, wait_s, lambda client: client.submit_all(contents))

    async def change(self, op: str, task_ids: Sequence[str], caller: Caller, wait_s: float) -> list[Acted]:
        """Do one of `ACTS` to tasks. Raises as `submit`."""
        checked_request({"task_ids": list(task_ids)}, op)
        moments = dict.fromkeys(task_ids, self._moment())
        return await self._asked(op, moments, wait_s, lambda client: client.change(op, task_ids, who_of(caller)))

    async def order(self, order: ControlOrder, wait_s: float) -> OrderAnswer | None:
        """Give an order, and wait for what becomes of it.

        Returns:
            The answer; None where the place job was not heard in time: the broker has the order.

        Raises:
            StreamError: the broker was not reached; sending again is safe.
        """
        kafka = self._connect()
        give = partial(give_order, kafka, order, self._moment(), wait_s)
        return await asyncio.get_running_loop().run_in_executor(self._orders, give)

    async def _asked(
        self, op: str, moments: Mapping[str, int], wait_s: float, send: Callable[[Client], Any]
    ) -> list[Acted]:
        loop = asyncio.get_running_loop()
        answers = await loop.run_in_executor(self._thread, self._hearing)

        async def one(task_id: str, sent: Awaitable[None]) -> Acted:
            with answers.expected((op, task_id), moments[task_id]) as future:
                await sent
                done, _ = await asyncio.wait([asyncio.wrap_future(future)], timeout=wait_s)
                return Acted(task_id=task_id, answer=done.pop().result() if done else None)

        begun = loop.create_future()

        async def sending() -> None:
            await begun
            await loop.run_in_executor(self._thread, self._send, send, len(moments))

        sent = asyncio.ensure_future(sending())
        waiting = [asyncio.ensure_future(one(task_id, asyncio.shield(sent))) for task_id in moments]
        await asyncio.sleep(0)  # all of them listen before anything is sent
        begun.set_result(None)
        return list(await asyncio.gather(*waiting))

    def _moment(self) -> int:
        """Give a moment that no other act of this window has: by it answers are told apart."""
        self._asked_ms = max(self._clock(), self._asked_ms + 1)
        return self._asked_ms

    def _hearing(self) -> AnswerWatch:
        if self._answers is None:
            self._connected()
            kafka = self._connect()
            self._answers = AnswerWatch(kafka, self._clock() - _CLOCK_SLACK_MS)
            self._answers.wait_until_it_listens(kafka.request_timeout_ms / 1_000)
        return self._answers

    def _connected(self) -> Client:
        if self._client is None or self._sent > _CLIENT_TASKS:
            former, self._client = self._client, Client(kafka=self._connect(), clock=self._clock)
            self._sent = 0
            if former is not None:
                former.close()
        return self._client

    def _send(self, send: Callable[[Client], Any], tasks: int) -> None:
        client = self._connected()
        self._sent += tasks
        try:
            send(client)
        except Exception:
            client.close()
            self._client = None  # the broker may be elsewhere when it is back
            raise

    async def close(self) -> None:
        """Close the connections."""

        def end() -> None:
            if self._client is not None:
                self._client.close()
            if self._answers is not None:
                self._answers.close()

        await asyncio.get_running_loop().run_in_executor(self._thread, end)
        self._thread.shutdown(wait=False)
        self._orders.shutdown(wait=False, cancel_futures=True)


def checked_order_of(content: object, caller: Caller) -> ControlOrder:
    """Make an order of what a caller asks for.

    Raises:
        InvalidRequestError: a field is missing, unknown, of a wrong type or out of range.
    """
    if not isinstance(content, dict):
        raise InvalidRequestError('wanted is an order, as in {"order": "drain", "region": "aws:us-east-1"}')
    if (said := sorted(content.keys() & _OURS)) != []:
        raise InvalidRequestError(f"{said[0]} is not the caller's to say")
    if content.get("order") not in ORDERS:
        raise InvalidRequestError(f"order {content.get('order')!r}: allowed are {', '.join(ORDERS)}")
    return checked_order({**content, "who": who_of(caller)})


def who_of(caller: Caller) -> str:
    """Name whoever asks, for `audit`."""
    return f"{caller.name} (window)"


def of_tenant(request: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
    """Give a request as its caller may make it: a tenant's key asks for that tenant."""
    if caller.tenant is None:
        return dict(request)
    named = request.get("tenant", caller.tenant)
    if named != caller.tenant:
        raise NotAllowedError(f"this key is of tenant {caller.tenant!r}; it submits no task of {named!r}")
    return {**request, "tenant": caller.tenant}
