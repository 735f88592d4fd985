"""Compare `flow` with an independent exact program on thousands of small random problems.

python -m thalweg.benchmarks.placement.plan_proof [first] [last]     writes benchmarks/results/plan_proof.json
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from tests.properties.random_problems import random_problem
from tests.properties.reference_mip import best_usd
from tests.properties.test_plan import violations
from thalweg.benchmarks.placement.plan import RESULTS
from thalweg.scheduling.solve.solve import solve
from thalweg.stack.machine import describe


def run(first: int, last: int) -> dict[str, Any]:
    """Solve the problems of these seeds by both; equal means within two millionths."""
    equal = unproven = broken = false_bounds = above_one_percent = 0
    worst, slowest_s, differing = 0.0, 0.0, []
    for seed in range(first, last):
        problem = random_problem(seed)
        best = best_usd(problem)
        started = time.process_time()
        solution = solve(problem)
        slowest_s = max(slowest_s, time.process_time() - started)
        broken += bool(violations(problem, solution))
        above_one_percent += solution.gap > 0.01
        if best is None:
            unproven += 1
            continue
        gap = (solution.objective - best) / max(abs(best), 1e-9)
        worst = max(worst, gap)
        false_bounds += solution.bound > best + 1e-7 * max(1.0, abs(best))
        if abs(gap) <= 2e-6:
            equal += 1
        else:
            differing.append(seed)
    return {
        "benchmark": "plan_proof",
        "machine": describe(),
        "problems": last - first,
        "equal": equal,
        "differing_seeds": differing,
        "reference_unproven": unproven,
        "violations": broken,
        "false_bounds": false_bounds,
        "reported_gap_above_1_percent": above_one_percent,
        "worst_above_optimum": worst,
        "slowest_cpu_seconds": round(slowest_s, 2),
    }


def main() -> None:
    """Run, print and keep the result."""
    first, last = (int(value) for value in sys.argv[1:3]) if len(sys.argv) > 2 else (0, 3_000)
    document = json.dumps(run(first, last), indent=2)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "plan_proof.json").write_text(document + "\n", encoding="utf-8")
    print(document)


if __name__ == "__main__":
    main()
