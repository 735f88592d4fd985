"""What an order would do, in words and as values: the same at the terminal and on the page."""

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from thalweg.scheduling.counted import counted

if TYPE_CHECKING:
    from thalweg.query.questions.world_copy import Foreseen, PriceAhead
    from thalweg.streams.contract.messages import ControlOrder

_SHOWN: Final = 20
"""Moves that people are shown one by one."""


def as_document(ahead: "Foreseen") -> dict[str, Any]:
    """Give what is foreseen as values."""
    return {
        "refused": ahead.refused,
        "price": None if ahead.price is None else asdict(ahead.price),
        "changes": [row.reason for row in ahead.rows if row.ordered is not None],
        "moves": [
            {
                "task_id": one.task.task_id,
                "copy": one.copy.index,
                "from": one.copy.pool_id,
                "to": one.to.pool_id,
                "lost_usd": one.lost_usd,
                "transfer_usd": one.to.money.egress_usd + one.to.money.stall_usd,
                "usd_per_hour_before": one.usd_per_hour_before,
                "usd_per_hour_after": one.to.usd_per_hour,
                "begins_before_it_stops": one.beside,
            }
            for one in ahead.moves
        ],
        "stopped": _listed(ahead.stopped),
        "stay": _listed(ahead.stay),
        "end_in_time": [{"task_id": task_id, "copy": copy} for (task_id, copy) in ahead.end_in_time],
        "lost_usd": sum(one.lost_usd for one in ahead.moves),
        "transfer_usd": sum(one.to.money.egress_usd + one.to.money.stall_usd for one in ahead.moves),
        "usd_per_hour_more": sum(one.to.usd_per_hour - one.usd_per_hour_before for one in ahead.moves),
    }


def _listed(copies: list[tuple[tuple[Any, int], str]]) -> list[dict[str, Any]]:
    return [{"task_id": task_id, "copy": copy, "reason": reason} for (task_id, copy), reason in copies]


def in_words(order: "ControlOrder", ahead: "Foreseen") -> list[str]:
    """Say what an order would do, a line each."""
    lines = [row.reason for row in ahead.rows if row.ordered is not None and row.reason]
    told = as_document(ahead)
    if order.order == "move":
        lines += [row.reason for row in ahead.rows if row.ordered is None and row.reason]
    if ahead.holding is not None and not ahead.refused:
        held = ahead.holding
        lines.append(
            f"tenant {order.tenant} holds {counted(held.gpus, 'GPU')} for {held.usd_per_hour:.2f} USD an hour now, "
            f"which goes on; of its tasks {counted(held.waiting, 'waits', 'wait')}"
        )
        if order.most_tasks is not None:
            full = f": nothing new of it is taken until fewer than {held.most_tasks:,} have not"
            lines.append(f"{held.live:,} of its tasks have not ended" + (full if held.live >= held.most_tasks else ""))
    if ahead.price is not None:
        is_news = any(row.ordered is not None and row.ordered.before != row.ordered.after for row in ahead.rows)
        lines += _of_price(order, ahead.price, is_news=is_news)
    if order.order == "drain":
        if not (ahead.moves or ahead.stopped or ahead.stay or ahead.end_in_time):
            lines.append("nothing runs there: nothing moves")
        if ahead.moves:
            to = Counter(one.to.region for one in ahead.moves)
            where = ", ".join(f"{count:,} to {region}" for region, count in to.most_common(5))
            more = told["usd_per_hour_more"]
            moves = counted(len(ahead.moves), "copy moves", "copies move")
            lines.append(
                f"{moves} ({where}): {told['lost_usd']:,.2f} USD of work and transfer are "
                f"lost, their data costs {told['transfer_usd']:.2f} USD again, and they cost "
                f"{abs(more):,.2f} USD an hour {'less' if more < 0 else 'more'} from then on"
            )
            lines += [f"  {one.task.task_id}: {one.copy.pool_id} to {one.to.pool_id}" for one in ahead.moves[:_SHOWN]]
            lines += [f"  and {len(ahead.moves) - _SHOWN:,} more"] if len(ahead.moves) > _SHOWN else []
        if ahead.end_in_time:
            alone = counted(len(ahead.end_in_time), "copy is left alone: it is", "copies are left alone: they are")
            lines.append(f"{alone} expected to end in time")
        if order.by:
            one, many = (f"until then, and {are} stopped if nothing changes" for are in ("is", "are"))
            staying = counted(len(ahead.stay), f"copy stays {one}", f"copies stay {many}")
        else:
            one, many = (f"nothing else fits {whom} now" for whom in ("it", "them"))
            staying = counted(len(ahead.stay), f"copy stays: {one}", f"copies stay: {many}")
        lines += _reasons(staying, ahead.stay)
        stopped = counted(len(ahead.stopped), "copy is stopped and waits", "copies are stopped and wait")
        lines += _reasons(stopped, ahead.stopped)
    return lines


def _of_price(order: "ControlOrder", price: "PriceAhead", *, is_news: bool) -> list[str]:
    """Say what the price is, which it will be and whence, and what follows; `is_news` is the order, not the price."""
    pool = f"{order.region} {order.gpu_model}{' spot' if order.spot else ''}"
    source = "the order" if not order.reset else "the region" if price.told_by_region is not None else "what is assumed"
    now, then = (_usd(usd) for usd in (price.usd_now, price.usd_then))
    if price.usd_now is None and price.usd_then is None:
        lines = [f"a GPU-hour of {pool} has no known price, and goes on without one"]
    elif price.usd_now == price.usd_then:
        whence = f": {source} says so from then on" if is_news else ""
        lines = [f"a GPU-hour of {pool} costs {now} now, and will cost the same{whence}"]
    else:
        lines = [f"a GPU-hour of {pool} costs {now} now, and will cost {then}, as {source} says"]
    if order.reset and price.told_by_region is None:
        lines.append("the region itself tells no price of it")
    elif not order.reset and price.told_by_region is not None:
        lines.append(f"the region itself says {_usd(price.told_by_region)}: the order stands above it")
    if price.usd_then is None:
        lines.append("without a price nothing new is placed there")
    elif price.usd_now != price.usd_then:
        lines.append("plans and looks at what runs use it at once")
    goes_on = counted(price.copies, "copy goes on", "copies go on")
    if price.copies and price.usd_now != price.usd_then:
        per_hour = f"of {counted(price.gpus, 'GPU')}, at the price of their placement in the ledger"
        lines.append(f"{goes_on} there {per_hour}; nothing is stopped, and who would pay less elsewhere may move")
    return lines


def _usd(usd: float | None) -> str:
    return "nothing that is known" if usd is None else f"{usd:g} USD"


def _reasons(head: str, copies: list[tuple[tuple[Any, int], str]]) -> list[str]:
    if not copies:
        return []
    shown = [f"  {task_id}: {reason}" for (task_id, _), reason in copies[:_SHOWN]]
    return [head, *shown, *([f"  and {len(copies) - _SHOWN:,} more"] if len(copies) > _SHOWN else [])]
