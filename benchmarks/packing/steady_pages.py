"""Write the steady state into docs/measurements/packing.md: `python -m thalweg.benchmarks.packing.steady_pages`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from thalweg.benchmarks.packing.pack_pages import PAGE
from thalweg.benchmarks.packing.steady import PLANNER, RESULT
from thalweg.benchmarks.replay.replay_pages import filled

BEGIN: Final = "<!-- steady: written by `python -m thalweg.benchmarks.packing.steady_pages` -->"
END: Final = "<!-- end of steady -->"
WORDS: Final = {PLANNER: "planner", "fill": "expected fill alone", "fgd": "FGD"}
_HEAD: Final = (
    "load",
    "seed",
    "policy",
    "GPUs allocated, %",
    "ceiling, what runs is kept",
    "ceiling of all",
    "mean wait, h",
    "waiting at the end",
)


def block(result: Mapping[str, Any]) -> str:
    """The table and what was measured."""
    asked = result["parameters"]
    lines = ["| " + " | ".join(_HEAD) + " |", "|" + "---|" * len(_HEAD)]
    for run in result["runs"]:
        for name, word in WORDS.items():
            if one := run.get(name):
                cells = (
                    f"{run['load']:g}",
                    str(run["seed"]),
                    word,
                    f"{one['allocation_percent']:.2f}",
                    f"{one['ceiling_of_running_percent']:.2f}",
                    f"{one['ceiling_of_all_percent']:.2f}",
                    f"{one['wait_mean_h']:.2f}",
                    f"{one['waiting_at_the_end']:,.0f}",
                )
                lines.append("| " + " | ".join(cells) + " |")
    span = (
        f"{asked['days']:g} days after {asked['warm_up_days']:g} of warm-up, a decision every {asked['cycle_s']:g} s."
    )
    return "\n".join([span, "", *lines])


def main() -> None:
    """Write it."""
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), block(result), BEGIN, END), encoding="utf-8")


if __name__ == "__main__":
    main()
