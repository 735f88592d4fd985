"""The runner `simulate`: lets scaled time pass instead of running anything."""

import heapq
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from thalweg.agent.runners import Cause, Ended, RunKey, RunOutputs, RunProgress, key_of
from thalweg.scheduling.ids import RegionId
from thalweg.streams.contract.envelope import content_id
from thalweg.streams.contract.messages import AssignmentEvent

MIN_RUN_MS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Simulated:
    started_ms: int
    ends_ms: int
    cut_off: bool
    """Whether its time limit ends it."""


class SimulateRunner:
    """Lets `expected_s / time_scale` pass, more or less a fifth, and then succeeds, or fails as often as asked.

    Time and outcome are drawn from the run's id and the seed: the same run takes the same time and ends the same way
    after a restart, and in a replay. A time limit is scaled too.
    """

    name = "simulate"
    survives_restart = True
    needs_command = False
    starts_at_once = 1_000_000

    def __init__(self, *, time_scale: float = 1.0, failure_share: float = 0.0, seed: int = 0) -> None:
        self._time_scale = time_scale
        self._failure_share = failure_share
        self._seed = seed
        self._running: dict[RunKey, _Simulated] = {}
        self._ends: list[tuple[int, RunKey]] = []

    def start(self, event: AssignmentEvent, now_ms: int) -> int | None:
        """Start the clock."""
        self.resume(event, now_ms)
        return None

    def resume(self, event: AssignmentEvent, started_ms: int) -> None:
        """Set the clock as if it had run all along."""
        key = key_of(event)
        wanted_s = event.expected_s * (0.8 + 0.4 * self._draw(key, "time"))
        cut_off = event.time_limit_s is not None and event.time_limit_s < wanted_s
        runs_s = event.time_limit_s if cut_off and event.time_limit_s is not None else wanted_s
        ends_ms = started_ms + max(MIN_RUN_MS, round(runs_s * 1000 / self._time_scale))
        self._running[key] = _Simulated(started_ms=started_ms, ends_ms=ends_ms, cut_off=cut_off)
        heapq.heappush(self._ends, (ends_ms, key))

    def stop(self, key: RunKey, now_ms: int) -> bool:
        """Stop the clock."""
        self._running.pop(key, None)
        return True

    def ended(self, now_ms: int) -> list[Ended]:
        """Return runs whose time has passed."""
        over: list[Ended] = []
        while self._ends and self._ends[0][0] <= now_ms:
            ends_ms, key = heapq.heappop(self._ends)
            run = self._running.get(key)
            if run is not None and run.ends_ms == ends_ms:  # else it was stopped meanwhile
                del self._running[key]
                over.append(self._end(key, run))
        return over

    def _end(self, key: RunKey, run: _Simulated) -> Ended:
        metrics = self._metrics(key, 1.0)
        if run.cut_off:
            return self._failure(key, None, "time_limit", "simulated time limit")
        if self._draw(key, "end") < self._failure_share:
            return self._failure(key, 1, "exit", "simulated failure")
        result = {"simulated": True, **metrics}
        return Ended(key=key, succeeded=True, exit_code=0, outputs=RunOutputs(metrics=metrics, result=result))

    def _failure(self, key: RunKey, exit_code: int | None, cause: Cause, detail: str) -> Ended:
        outputs = RunOutputs(metrics=self._metrics(key, 0.5))
        return Ended(key=key, succeeded=False, exit_code=exit_code, cause=cause, detail=detail, outputs=outputs)

    def progress(self, key: RunKey, now_ms: int) -> RunProgress | None:
        """Share of the time that has passed."""
        run = self._running.get(key)
        if run is None:
            return None
        share = min(0.999, max(0.0, (now_ms - run.started_ms) / (run.ends_ms - run.started_ms)))
        return RunProgress(share=share, outputs=RunOutputs(metrics=self._metrics(key, share)))

    def take_over(self, installation: str, regions: Collection[RegionId], now_ms: int) -> int:
        """Nothing runs outside this object."""
        return 0

    def close(self, *, give_up_all: bool = False) -> list[Ended]:
        """Nothing runs outside this object."""
        return []

    def _metrics(self, key: RunKey, share: float) -> dict[str, float]:
        """Make up a loss that falls as training goes on."""
        return {"loss": round((2.0 + self._draw(key, "loss")) / (1.0 + 9.0 * share), 4)}

    def _draw(self, key: RunKey, about: str) -> float:
        return int(content_id(self._seed, about, *key)[:13], 16) / 16**13
