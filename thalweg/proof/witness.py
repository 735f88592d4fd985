"""Who really ran where: noted by the machines themselves, whatever driver and agents believe."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from thalweg.streams.contract.messages import AssignmentEvent

RunKey = tuple[str, str, int]
"""Region, task, epoch."""
RunEnd = Literal["succeeded", "failed", "stopped", "died"]
"""By itself, well or not; because its agent said so; with its machine."""
AGENT_ENDED: Final = "its agent ended while it ran"
"""Of a run that ended while nobody looked."""
WHOLE_MILLI = 1_000


@dataclass(slots=True)
class Witness:
    """Sees every process begin and end, and when, on a clock that is right."""

    clock: Callable[[], int] = lambda: 0
    live: dict[RunKey, AssignmentEvent] = field(default_factory=dict)
    begun: Counter[RunKey] = field(default_factory=Counter)
    begun_ms: dict[RunKey, int] = field(default_factory=dict)
    ended_ms: dict[RunKey, int] = field(default_factory=dict)
    ends: dict[RunKey, RunEnd] = field(default_factory=dict)
    """How each process ended."""
    succeeded: list[RunKey] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    devices: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    """Thousandths of each GPU (region, node, index) that live processes sit on."""

    def begin(self, event: AssignmentEvent) -> None:
        """See a process begin."""
        key = (event.region, event.task_id, event.epoch)
        self.begun[key] += 1
        self.begun_ms.setdefault(key, self.clock())
        if self.begun[key] > 1:
            self.wrong.append(f"double: {key} began {self.begun[key]} times")
        self.live[key] = event
        for device, milli in _seats(event):
            self.devices[device] += milli
            if self.devices[device] > WHOLE_MILLI:
                held = sorted(str(k) for k, other in self.live.items() if device in dict(_seats(other)))
                self.wrong.append(f"over: GPU {device} carries {self.devices[device]} thousandths: {', '.join(held)}")

    def end(self, key: RunKey, how: RunEnd) -> None:
        """See a process end; one that is not there is no news."""
        event = self.live.pop(key, None)
        if event is None:
            return
        for device, milli in _seats(event):
            self.devices[device] -= milli
        self.ends[key], self.ended_ms[key] = how, self.clock()
        if how == "succeeded":
            self.succeeded.append(key)


def _seats(event: AssignmentEvent) -> Iterator[tuple[tuple[str, str, int], int]]:
    for share in event.nodes:
        milli = share.gpu_milli // len(share.devices) if share.gpu_milli and share.devices else WHOLE_MILLI
        occupancy: Counter[int] = Counter()
        for device in share.devices:
            occupancy[device] += milli
        yield from (((event.region, share.node_id, device), taken) for device, taken in occupancy.items())
