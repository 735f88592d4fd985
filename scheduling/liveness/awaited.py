"""How long tasks wait for parents that nobody has submitted.

Parent and child lie in different partitions, so nothing says which of them is read first; a producer may even write
the child first, when the broker took the parent at its second try only. So a child is taken and waits. That its parent
does not come is judged as a region's silence is: on the hearing clock, which stands still while nothing can be heard,
and at a sounding whose requests have all been read. A life of the job counts anew, so a restart costs a child nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from thalweg.scheduling.ids import TaskId


@dataclass(slots=True, kw_only=True)
class AwaitedParents:
    """Who waits for a parent that is not there, and since when."""

    patience_ms: int
    _since_ms: dict[TaskId, int] = field(default_factory=dict)

    def overdue(
        self, parentless: Mapping[TaskId, TaskId], now_ms: int, read_up_to_ms: int | None
    ) -> dict[TaskId, TaskId]:
        """Note who waits now, and tell who has waited long enough.

        Args:
            parentless: tasks, each with a parent that is not there.
            now_ms: on the hearing clock.
            read_up_to_ms: the moment on it up to which every request is read; None where that is not known.
        """
        self._since_ms = {child: self._since_ms.get(child, now_ms) for child in parentless}
        if read_up_to_ms is None:
            return {}
        latest_ms = read_up_to_ms - self.patience_ms
        return {child: parentless[child] for child, since_ms in self._since_ms.items() if since_ms <= latest_ms}
