"""Orders as they arrive: decoded, checked, and in placement's own terms."""

from typing import Final

import msgspec

from thalweg.scheduling.ids import NodeId
from thalweg.scheduling.world.orders import (
    TENANT_LIMITS,
    Drain,
    HeldTenant,
    Moved,
    Order,
    OwnPrice,
    TenantTerms,
    subject_of,
)
from thalweg.streams.contract import order_rules
from thalweg.streams.contract.decode import UndecodableError, check_depth, decoded
from thalweg.streams.contract.messages import ControlOrder
from thalweg.streams.placement.requests import RequestError

_DECODER: Final = msgspec.json.Decoder(ControlOrder)
WITHDRAWING: Final = frozenset({"undrain", "release"})


def read_order(raw: bytes | str | None) -> ControlOrder:
    """Decode and check one order.

    Raises:
        RequestError: not JSON, a wrong type, a value out of range, or a field that is missing.
    """
    try:
        order = decoded(_DECODER, raw)
        check_depth(raw or b"")
    except UndecodableError as error:
        raise RequestError(str(error)) from error
    if (wrong := order_rules.objection(order)) is not None:
        raise RequestError(wrong)
    return order


def subject(order: ControlOrder) -> str:
    """Name what an order is about; the key of its record."""
    return f"move/{order.task_id}" if order.order == "move" else subject_of(standing(order, None))


def withdraws(order: ControlOrder) -> bool:
    """Whether nothing is to stand about its subject any more."""
    return order.order in WITHDRAWING or order.reset


def standing(order: ControlOrder, known: Order | Moved | None) -> Order:
    """Say what is to stand about an order's subject.

    Args:
        order: anything but a move; of one that withdraws only its subject means something.
        known: what stands there now: a tenant's limits that the order does not name stay as they are.
    """
    region, tenant = order.region, order.tenant
    match order.order:
        case "drain" | "undrain":
            assert region is not None
            return Drain(
                region=region, node_id=None if order.node_id is None else NodeId(order.node_id), by_ms=order.by
            )
        case "hold" | "release":
            assert tenant is not None
            return HeldTenant(tenant=tenant)
        case "price":
            assert region is not None and order.gpu_model is not None
            usd = order.usd_per_gpu_hour or 0.0
            return OwnPrice(region=region, gpu_model=order.gpu_model, spot=order.spot, usd_per_gpu_hour=usd)
        case _:
            assert tenant is not None
            before = known if isinstance(known, TenantTerms) else TenantTerms(tenant=tenant)
            named = {name: value for name in TENANT_LIMITS if (value := getattr(order, name)) is not None}
            return msgspec.structs.replace(before, **named)
