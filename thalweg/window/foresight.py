"""What would follow from an act, an order or a supposition: worked out in copies of the world, one at a time.

A copy of a large world takes seconds of a core and some memory, so that one thread makes them and few may wait for it.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import msgspec
import psutil
from pydantic import ValidationError

from thalweg.client.client import InvalidRequestError
from thalweg.client.orders import checked_order
from thalweg.conf.settings import PlaceSettings
from thalweg.jobs.placement.settings import plan_settings
from thalweg.query.questions.foreseen_change import change_document, change_in_words, foreseen_change
from thalweg.query.questions.foreseen_words import as_document, in_words
from thalweg.query.questions.what_if import CannotSupposeError, CapacityChange, Supposed, what_if
from thalweg.query.questions.world_copy import WorldSource, foreseen
from thalweg.scheduling.counted import counted
from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.scheduling.live.warm_up import warm_up
from thalweg.scheduling.world.world import World
from thalweg.streams.contract.messages import ControlOrder
from thalweg.sync.clock import Clock

_MOST_WAITING: Final = 4
_ANSWER_S: Final = 20.0
"""So long a question is kept waiting; who asks the same again waits for the same answer."""
_KEPT_S: Final = 60.0
"""So long an answer is kept for who was told to ask again."""
_TASK_BYTES: Final = 5_000
"""What a task that lives takes in a copy; measured: 4,500, what is read for it among that."""
_WHAT_IF_S: Final = 20.0
"""A page is looked at while it waits; what is not planned by then is said."""
_MOST_NODES: Final = 10_000
_MOST_ITEMS: Final = 100
PLANNING: Final = (
    "strategy",
    "fair_share",
    "window_tasks",
    "most_preempted",
    "longest_wait_h",
    "lost_spot_per_hour",
    "assumed_usd_per_gpu_hour",
    "weights.rtt",
    "weights.risk",
    "weights.move",
    "weights.balance",
    "weights.wait",
)
"""Settings of `place` that a plan depends on, beside those of its tenants."""

Document = dict[str, Any]
Found = TypeVar("Found")


class CrowdedError(Exception):
    """Too much is under way, or there is no room for it; come back."""


class StillMakingError(Exception):
    """It is being worked out, and the message says how far; ask the same again."""


class SuppositionError(InvalidRequestError):
    """It cannot be supposed; nothing was planned."""

    def __init__(self, problem: str) -> None:
        Exception.__init__(self, f"nothing was planned: {problem}. docs/how-to/window.md lists the fields of what-if")


class SupposedNodes(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Nodes that a pool is supposed to have more, or fewer."""

    region: str
    gpu_model: str
    nodes: int
    """How many more; negative takes away, first those that hold least."""
    spot: bool = False
    gpus: int | None = None
    """GPUs of a new node; null takes after the pool's own."""


class WhatIf(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is to be otherwise than it is."""

    settings: dict[str, Any] = {}
    """Of the place job, by name: `strategy`, `weights.balance`, `tenants.research.quota_gpus`."""
    orders: list[dict[str, Any]] = []
    """As in the topic `control`: prices, drains, limits of tenants."""
    capacity: list[SupposedNodes] = []
    afresh: bool = False
    """Whether what runs is placed anew, too: then prices bear on everything."""


_ALLOWED: Final = (
    f"{', '.join(WhatIf.__struct_fields__)}, and of each item of capacity {', '.join(SupposedNodes.__struct_fields__)}"
)


class Foresight:
    """See the module's words. For one event loop."""

    def __init__(
        self, warehouse: str, place: PlaceSettings, clock: Clock, live_tasks: Callable[[], int] = lambda: 0
    ) -> None:
        """Prepare.

        Args:
            warehouse: folder or URI.
            place: settings of the place job.
            clock: milliseconds since 1970.
            live_tasks: counts the tasks that a copy would hold.
        """
        self._warehouse, self._place, self._clock, self._live_tasks = warehouse, place, clock, live_tasks
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="window-foresight")
        self._making: dict[object, asyncio.Future[Any]] = {}
        self._rows_read = 0
        self._is_warm = False

    def close(self) -> None:
        """End the thread, after what is under way."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def of_change(self, op: str, task_id: str, tenant: str | None = None) -> Document:
        """Say what cancelling, holding or releasing a task would do.

        Args:
            op: which of them.
            task_id: to which task.
            tenant: of whose tasks alone is told; None means all.

        Raises:
            CrowdedError: too many ask, or the memory is too small.
            StillMakingError: it takes long; ask the same again.
            WarehouseUnreadableError: there is no ledger, or it cannot be read.
        """

        def make() -> Document:
            now_ms = self._clock()
            ahead = foreseen_change(self._copy(now_ms), op, TaskId(task_id), now_ms, tenant)
            return {"op": op, "task_id": task_id, "words": change_in_words(ahead), **change_document(ahead)}

        return await self._made((op, task_id, tenant), make, copies=1)

    async def of_order(self, order: ControlOrder) -> Document:
        """Say what an order would do. Raises as `of_change`."""

        def make() -> Document:
            now_ms = self._clock()
            ahead = foreseen(self._copy(now_ms), order, self._place, now_ms)
            words = [f"{order.order} would be refused: {ahead.refused}"] if ahead.refused else in_words(order, ahead)
            return {"order": order.order, "words": words, **as_document(ahead)}

        return await self._made(msgspec.json.encode(order), make, copies=1)

    async def of_supposition(self, body: object) -> Document:
        """Plan with what is supposed, beside things as they are.

        Raises:
            SuppositionError: it cannot be supposed; the message says why.
            CrowdedError: too many ask.
            WarehouseUnreadableError: there is no ledger, or it cannot be read.
        """
        supposed = self._supposed(body)

        def make() -> Document:
            self._warm_up()
            now_ms, end_s = self._clock(), time.monotonic() + _WHAT_IF_S
            source = WorldSource(self._warehouse, self._place, now_ms)
            return what_if(source, self._place, supposed, now_ms, lambda: end_s - time.monotonic(), self._note)

        try:
            return await self._made(msgspec.json.encode(body), make, copies=2)
        except CannotSupposeError as error:
            raise SuppositionError(str(error)) from error

    def _warm_up(self) -> None:
        """Have compiled what a plan calls before the time of the first one counts: minutes where it is not kept yet."""
        if not self._is_warm:
            warm_up(plan_settings(self._place))
            self._is_warm = True

    def _supposed(self, body: object) -> Supposed:
        try:
            said = msgspec.convert(body, WhatIf)
        except msgspec.ValidationError as error:
            raise SuppositionError(f"{error}; allowed are {_ALLOWED}") from error
        for name, items in (("settings", said.settings), ("orders", said.orders), ("capacity", said.capacity)):
            if len(items) > _MOST_ITEMS:
                raise SuppositionError(f"{name} has {len(items)} items; allowed are {_MOST_ITEMS}")
        for change in said.capacity:
            if not change.region.isprintable() or not change.gpu_model.isprintable() or not change.region:
                raise SuppositionError(f"capacity of {change.region!r}: allowed are printable names")
            if not 0 < abs(change.nodes) <= _MOST_NODES or not 0 <= (change.gpus or 0) <= _MOST_NODES:
                raise SuppositionError(
                    f"capacity of {change.region!r}: nodes {change.nodes}, gpus {change.gpus}; allowed are numbers "
                    f"other than 0 up to {_MOST_NODES:,}"
                )
        return Supposed(
            place=place_with(self._place, said.settings),
            orders=[checked_order(one) for one in said.orders],
            capacity=[
                CapacityChange(
                    region=RegionId(one.region), gpu_model=one.gpu_model, spot=one.spot, nodes=one.nodes, gpus=one.gpus
                )
                for one in said.capacity
            ],
            afresh=said.afresh,
        )

    def _copy(self, now_ms: int) -> World:
        return WorldSource(self._warehouse, self._place, now_ms).world(self._place, self._note)

    def _note(self, rows: int) -> None:
        self._rows_read = rows

    async def _made(self, key: object, make: Callable[[], Found], *, copies: int) -> Found:
        """Work it out on the thread, or join who asks the same; wait for it for as long as people do.

        Args:
            key: what is asked.
            make: works it out.
            copies: of the world that it holds at once.
        """
        loop = asyncio.get_running_loop()
        making = self._making.get(key)
        if making is None:
            if len(self._making) >= _MOST_WAITING:
                raise CrowdedError(f"{len(self._making)} questions of what would follow are under way; ask again")
            self._has_room(copies)
            making = self._making[key] = asyncio.ensure_future(loop.run_in_executor(self._thread, make))
            making.add_done_callback(lambda one: loop.call_later(_KEPT_S, self._forget, key, one))
        done, _ = await asyncio.wait([making], timeout=_ANSWER_S)
        if not done:
            rows = counted(self._rows_read, "row")
            raise StillMakingError(f"a copy of the world is being made: {rows} of the ledger read; ask the same again")
        self._forget(key, making)
        found: Found = making.result()
        return found

    def _forget(self, key: object, making: asyncio.Future[Any]) -> None:
        if self._making.get(key) is making:
            del self._making[key]
        if not making.cancelled():
            making.exception()  # who asked was told; if nobody came back, nobody is

    def _has_room(self, copies: int) -> None:
        """Refuse what would take the memory of everything else on this machine."""
        wanted, free = copies * self._live_tasks() * _TASK_BYTES, psutil.virtual_memory().available
        if wanted > free / 2:
            raise CrowdedError(
                f"a copy of the world would take some {wanted / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free; "
                "half of that may be taken"
            )


def place_with(place: PlaceSettings, settings: Mapping[str, Any]) -> PlaceSettings:
    """Give settings of the place job with some of them otherwise.

    Args:
        place: as they are.
        settings: values by name, of nested ones with dots.

    Raises:
        SuppositionError: no plan depends on such a setting, or it may not have that value.
    """
    content = place.model_dump()
    for name, value in settings.items():
        known = name.removeprefix("place.")
        if known not in PLANNING and not known.startswith("tenants."):
            raise SuppositionError(f"settings: {name!r}; a plan depends on {', '.join(PLANNING)}, tenants.NAME.…")
        *path, last = known.split(".")
        group = content
        for step in path:
            group = group.setdefault(step, {})
            if not isinstance(group, dict):
                raise SuppositionError(f"settings: {name!r} is none; {step!r} has no parts")
        group[last] = value
    try:
        return PlaceSettings.model_validate(content)
    except ValidationError as error:
        said = "; ".join(f"place.{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5])
        raise SuppositionError(f"settings: {said}") from error
