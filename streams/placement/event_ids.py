"""Which rows of the ledger a region is told of, and under which id: derived from content, so a repeat has the same."""

from typing import Final

from thalweg.scheduling.world.tasks import Change, Share, Transition
from thalweg.streams.contract.envelope import content_id

_REVOKES: Final = frozenset({Change.REVOKED, Change.PREEMPTED, Change.REPAIRED})


def event_id_of(row: Transition) -> str | None:
    """Id of the event that a row gives rise to, from its content; None where it gives none."""
    kind = event_type_of(row)
    if kind is None or row.region is None:
        return None
    return content_id(kind, row.task_id, row.copy, row.epoch, row.region, *map(_share_text, row.shares))


def event_type_of(row: Transition) -> str | None:
    """Tell whether a row assigns, revokes, or is of no concern to a region."""
    if row.change is Change.ASSIGNED:
        return "assign"
    return "revoke" if row.change in _REVOKES else None


def _share_text(share: Share) -> str:
    return f"{share.node_id}:{share.workers}:{share.gpus}:{share.gpu_milli}:{share.devices}"
