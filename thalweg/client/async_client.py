"""The client for asyncio: the calls for tasks, with the same meaning, none of which holds up the event loop.

    async with AsyncClient() as client:
        await client.submit({"task_id": "train-1", "per_worker": {"gpus": 2}})
        print((await client.wait("train-1", timeout_s=3600)).result)

It is the client of `thalweg.client.client` on a thread of its own. Any number of coroutines may use one; what they wait
for is looked at in turns, so that nobody waits behind another's wait.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Self, TypeVar

from thalweg.client.client import DEFAULT_ATTEMPTS, Client, Outcome, WaitTimeoutError
from thalweg.streams.contract.messages import Answer, TaskRequest

Got = TypeVar("Got")

_TURN_S: Final = 0.05
"""A look of one waiting coroutine; a cancelled one frees the thread within it."""


class AsyncClient:
    """See the module's words. Arguments and errors are those of `Client`."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """Prepare; the connection is made on entering, with what `Client` takes."""
        self._connect: Callable[[], Client] = lambda: Client(*arguments, **named)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="thalweg-client")
        self._client: Client | None = None

    async def __aenter__(self) -> Self:
        """Connect."""
        try:
            self._client = await self._run(self._connect)
        except BaseException:
            self._thread.shutdown(wait=False)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection, after what is under way."""
        await self._run(self._connected.close)
        self._thread.shutdown(wait=False)

    async def submit(self, request: TaskRequest | Mapping[str, Any], *, keep_unknown: bool = False) -> str:
        """Submit a task; see `Client.submit`. One that is cancelled meanwhile may have been sent: send it again."""
        return await self._run(lambda: self._connected.submit(request, keep_unknown=keep_unknown))

    async def submit_all(
        self, requests: Sequence[TaskRequest | Mapping[str, Any]], *, keep_unknown: bool = False
    ) -> list[str]:
        """Submit many tasks at once; see `Client.submit_all`."""
        return await self._run(lambda: self._connected.submit_all(requests, keep_unknown=keep_unknown))

    async def update(self, request: TaskRequest | Mapping[str, Any], *, keep_unknown: bool = False) -> None:
        """Replace the request of a live task; see `Client.update`."""
        await self._run(lambda: self._connected.update(request, keep_unknown=keep_unknown))

    async def change(self, op: str, task_ids: Sequence[str], who: str = "") -> None:
        """Ask for one operation on tasks; see `Client.change`."""
        await self._run(lambda: self._connected.change(op, task_ids, who))

    async def cancel(self, task_id: str) -> None:
        """Cancel a task; see `Client.cancel`."""
        await self.cancel_all([task_id])

    async def cancel_all(self, task_ids: Sequence[str]) -> None:
        """Cancel many tasks at once; see `Client.cancel_all`."""
        await self.change("cancel", task_ids)

    async def hold(self, task_ids: Sequence[str]) -> None:
        """Hold tasks; see `Client.hold`."""
        await self.change("hold", task_ids)

    async def release(self, task_ids: Sequence[str]) -> None:
        """Release tasks that are held; see `Client.release`."""
        await self.change("release", task_ids)

    async def rerun(self, task_ids: Sequence[str]) -> None:
        """Run tasks that have ended once more; see `Client.rerun`."""
        await self.change("rerun", task_ids)

    async def answered(
        self, task_ids: Sequence[str], op: str = "submit", *, timeout_s: float = 5.0
    ) -> dict[str, Answer]:
        """Wait for the answers there are; see `Client.answered`."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            turn_s = min(_TURN_S, max(deadline - asyncio.get_running_loop().time(), 0.0))
            found = await self._run(lambda: self._connected.answered(task_ids, op, timeout_s=turn_s))  # noqa: B023
            if len(found) == len(set(task_ids)) or asyncio.get_running_loop().time() >= deadline:
                return found

    async def wait(self, task_id: str, timeout_s: float, *, attempts: int = DEFAULT_ATTEMPTS) -> Outcome:
        """Wait until a task has ended; see `Client.wait`. Cancelling it changes nothing of the task."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            turn_s = min(_TURN_S, max(deadline - asyncio.get_running_loop().time(), 0.0))
            try:
                return await self._run(lambda: self._connected.wait(task_id, turn_s, attempts=attempts))  # noqa: B023
            except WaitTimeoutError as error:
                if asyncio.get_running_loop().time() >= deadline:
                    raise WaitTimeoutError(task_id, timeout_s, error.last) from None

    @property
    def _connected(self) -> Client:
        if self._client is None:
            raise RuntimeError("not connected: use it as `async with AsyncClient() as client`")
        return self._client

    async def _run(self, call: Callable[[], Got]) -> Got:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)
