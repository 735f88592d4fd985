"""How often a living region is taken for dead, and how soon a dead one is found out.

python -m thalweg.benchmarks.liveness.liveness     prints one JSON document and writes benchmarks/results/liveness.json

The real detector (`scheduling.liveness.hearing`) hears simulated regions, a sounding a second, with two rules: the
time-out alone, and the time-out with patience learned from a region's own gaps (`scheduling.liveness.patience`).
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator
from typing import Any, Final

from thalweg.benchmarks.placement.plan import RESULTS
from thalweg.scheduling.ids import RegionId
from thalweg.scheduling.liveness.hearing import BEAT_MS, Hearing, RecordPosition, Sounding
from thalweg.scheduling.liveness.patience import Patience
from thalweg.stack.machine import describe

TIMEOUT_MS: Final = 10_000
DAYS: Final = 2
DEATHS: Final = 20
DAY_S: Final = 86_400
WARM_S: Final = 600

Gap = Callable[[random.Random], float]
"""Seconds from one sign of life to the next."""

REGIONS: Final[dict[str, tuple[str, Gap]]] = {
    "regular": ("a beat a second, 5 % early or late", lambda r: r.uniform(0.95, 1.05)),
    "lossy": ("a beat a second, each lost with a chance of 30 %", lambda r: _lossy(r, 0.3)),
    "pausing": ("regular, and a pause of 2 to 12 s every 100 beats", lambda r: _pausing(r, 2, 12)),
    "heavy_tailed": ("gaps lognormal: median 1 s, sigma 1", lambda r: r.lognormvariate(0.0, 1.0)),
    "slow": ("a plain producer's beat every 5 s, 20 % early or late", lambda r: r.uniform(4.0, 6.0)),
    "very_slow": ("a plain producer's beat every 9 s, 20 % early or late", lambda r: r.uniform(7.2, 10.8)),
}


class TimeoutAlone(Patience):
    """Learns nothing."""

    def limit_ms(self, timeout_ms: int) -> int:
        """Return the time-out."""
        return timeout_ms


RULES: Final[dict[str, Callable[[], Patience]]] = {"time_out_alone": TimeoutAlone, "with_patience": Patience}


def _lossy(rng: random.Random, lost: float) -> float:
    beats = 1
    while rng.random() < lost:
        beats += 1
    return float(beats)


def _pausing(rng: random.Random, shortest_s: float, longest_s: float) -> float:
    return rng.uniform(shortest_s, longest_s) if rng.random() < 0.01 else rng.uniform(0.95, 1.05)


def _arrivals(gap: Gap, rng: random.Random, until_s: float) -> Iterator[float]:
    at_s = rng.random()
    while at_s < until_s:
        yield at_s
        at_s += gap(rng)


def _judgements(
    gap: Gap, rng: random.Random, until_s: float, patience: Callable[[], Patience]
) -> Iterator[tuple[int, bool]]:
    """Tell second by second, also after the region's death, whether it is taken for dead."""
    hearing = Hearing(timeout_ms=TIMEOUT_MS, patience=patience)
    arrivals, offset = _arrivals(gap, rng, until_s), 0
    due_s = next(arrivals, None)
    for second in itertools.count(1):
        number = hearing.begin()
        while due_s is not None and due_s <= second:
            hearing.hear(RegionId("r"), RecordPosition(topic="t", partition=0, offset=offset))
            offset, due_s = offset + 1, next(arrivals, None)
        hearing.sounded(Sounding(number=number, made_ms=second * BEAT_MS, ends={"t": {0: offset}}))
        hearing.read_back(number)
        yield second, bool(hearing.silent({RegionId("r"): "t"}, dict))


def measure(gap: Gap, patience: Callable[[], Patience]) -> dict[str, float]:
    """Count losses of a living region, and time the loss of a dying one."""
    last_s, losses, before = WARM_S + DAYS * DAY_S, 0, False
    for second, dead in itertools.islice(_judgements(gap, random.Random(1), last_s, patience), last_s):
        losses += dead and not before and second > WARM_S
        before = dead
    took = []
    for seed in range(DEATHS):
        rng = random.Random(1_000 + seed)
        death_s = WARM_S + rng.uniform(0, 60)
        judged = _judgements(gap, rng, death_s, patience)
        took.append(next(second for second, dead in judged if dead and second >= death_s) - death_s)
    took.sort()
    return {
        "losses_a_day_while_alive": round(losses / DAYS, 1),
        "detected_after_s_p50": round(took[len(took) // 2], 1),
        "detected_after_s_p99": round(took[len(took) * 99 // 100], 1),
        "detected_after_s_worst": round(took[-1], 1),
    }


def run() -> dict[str, Any]:
    """Measure every region with both rules."""
    return {
        "benchmark": "liveness",
        "machine": describe(),
        "timeout_s": TIMEOUT_MS / 1_000,
        "days": DAYS,
        "deaths": DEATHS,
        "regions": {
            name: {"what": what} | {rule: measure(gap, patience) for rule, patience in RULES.items()}
            for name, (what, gap) in REGIONS.items()
        },
    }


def main() -> None:
    """Run, print and keep the result."""
    document = json.dumps(run(), indent=2, ensure_ascii=False)
    (RESULTS / "liveness.json").write_text(document + "\n", encoding="utf-8")
    print(document)


if __name__ == "__main__":
    main()
