"""What an order would do, in words and as values: the same at the terminal and on the page."""

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from thalweg.query.world_copy import Foreseen
    from thalweg.streams.contract.messages import ControlOrder

_SHOWN: Final = 20
"""Moves that people are shown one by one."""


def as_document(ahead: "Foreseen") -> dict[str, Any]:
    """Give what is foreseen as values."""
    return {
        "refused": ahead.refused,
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
            f"tenant {order.tenant} holds {held.gpus:g} GPUs for {held.usd_per_hour:.2f} USD an hour now, which goes "
            f"on; {held.waiting:,} of its tasks wait"
        )
    if order.order == "drain":
        if not (ahead.moves or ahead.stopped or ahead.stay or ahead.end_in_time):
            lines.append("nothing runs there: nothing moves")
        if ahead.moves:
            to = Counter(one.to.region for one in ahead.moves)
            where = ", ".join(f"{count:,} to {region}" for region, count in to.most_common(5))
            more = told["usd_per_hour_more"]
            lines.append(
                f"{len(ahead.moves):,} copies move ({where}): {told['lost_usd']:,.2f} USD of work and transfer are "
                f"lost, their data costs {told['transfer_usd']:.2f} USD again, and they cost "
                f"{abs(more):,.2f} USD an hour {'less' if more < 0 else 'more'} from then on"
            )
            lines += [f"  {one.task.task_id}: {one.copy.pool_id} to {one.to.pool_id}" for one in ahead.moves[:_SHOWN]]
            lines += [f"  and {len(ahead.moves) - _SHOWN:,} more"] if len(ahead.moves) > _SHOWN else []
        if ahead.end_in_time:
            lines.append(f"{len(ahead.end_in_time):,} copies are left alone: they are expected to end in time")
        what = "stay until then, and are stopped if nothing changes" if order.by else "stay: nothing else fits them now"
        lines += _reasons(f"{len(ahead.stay):,} copies {what}", ahead.stay)
        lines += _reasons(f"{len(ahead.stopped):,} copies are stopped and wait", ahead.stopped)
    return lines


def _reasons(head: str, copies: list[tuple[tuple[Any, int], str]]) -> list[str]:
    if not copies:
        return []
    shown = [f"  {task_id}: {reason}" for (task_id, _), reason in copies[:_SHOWN]]
    return [head, *shown, *([f"  and {len(copies) - _SHOWN:,} more"] if len(copies) > _SHOWN else [])]
