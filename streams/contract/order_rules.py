"""What an order may not ask for, beyond what its types say: judged by who sends it and by `place`."""

from collections.abc import Mapping
from typing import Final

from thalweg.streams.contract import moments, names, request_amounts
from thalweg.streams.contract.messages import ControlOrder, OrderOp

_NEEDS: Final[Mapping[OrderOp, tuple[str, ...]]] = {
    "drain": ("region",),
    "undrain": ("region",),
    "hold": ("tenant",),
    "release": ("tenant",),
    "tenant": ("tenant",),
    "price": ("region", "gpu_model"),
    "move": ("task_id", "region"),
}
_NAMES: Final = ("region", "node_id", "tenant", "gpu_model")
_WITHDRAWING: Final = frozenset({"undrain", "release"})
_LEAST: Final[Mapping[str, float]] = {
    "usd_per_gpu_hour": request_amounts.LEAST_USD,
    "budget_usd_per_hour": request_amounts.LEAST_USD,
    "weight": request_amounts.LEAST_WEIGHT,
    "quota_gpus": request_amounts.LEAST,
}
_LIMITS: Final = ("weight", "quota_gpus", "budget_usd_per_hour", "most_tasks")


def objection(order: ControlOrder) -> str | None:
    """Say why an order cannot be obeyed, whatever the world is like; None where nothing speaks against it."""
    if missing := [name for name in _NEEDS[order.order] if getattr(order, name) is None]:
        return f"order {order.order!r} without {' and '.join(missing)}"
    for name in ("by", "observed_at"):
        if (wrong := moments.objection(name, getattr(order, name))) is not None:
            return wrong
    if order.order not in _WITHDRAWING and not order.reset:  # what stands under any name can be taken back
        for field in _NAMES:
            if (wrong := names.objection(field, getattr(order, field))) is not None:
                return wrong
    for field, least in _LEAST.items():
        amount = getattr(order, field)
        if (wrong := request_amounts.objection(field, amount, least, zero=field != "weight")) is not None:
            return wrong
    given = [name for name in _LIMITS if getattr(order, name) is not None]
    if order.order == "tenant" and bool(given) == order.reset:
        return (
            f"order 'tenant' with {', '.join(given) or 'no limit'} and reset {order.reset}: allowed is one of the two"
        )
    if order.order == "price" and (order.usd_per_gpu_hour is not None) == order.reset:
        return (
            f"order 'price' with usd_per_gpu_hour {order.usd_per_gpu_hour} and reset {order.reset}: allowed is one of "
            "the two"
        )
    return None
