"""What an account asks of a stored request: how much data was moved for it, and whether it is an array.

Readers of tables use it, so it needs msgspec alone.
"""

from typing import Any, Final

import msgspec

from thalweg.scheduling.ids import RegionId, TaskId


class _DataShape(msgspec.Struct):
    region: str | None = None
    dataset: str | None = None
    size_gb: float = 0.0


class _RequestData(msgspec.Struct):
    task_id: Any = None
    data: list[_DataShape] = []
    array: Any = None


_DATA: Final = msgspec.json.Decoder(_RequestData)


def stands_for_array(request: str | None, task_id: TaskId) -> bool:
    """Tell whether a task only stands for its elements, which have its request and ids of their own."""
    if not request or '"array"' not in request:
        return False
    asked = _DATA.decode(request)
    return asked.array is not None and asked.task_id == task_id


def moved_gb(request: str | None, region: RegionId | None, egress_usd: float) -> float:
    """Count the GB of inputs that lie elsewhere, as the request names them.

    Where a dataset lies is not in the ledger: one that is named by itself counts where something was paid for moving.
    """
    inputs = _DATA.decode(request).data if request and '"data"' in request else []
    return sum(one.size_gb for one in inputs if (one.region != region if one.region else egress_usd > 0))
