"""Write the figures of docs/measurements/replay.md: `python -m thalweg.benchmarks.replay.replay_pages`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from thalweg.benchmarks.replay import front
from thalweg.benchmarks.replay.replay import COMMAND, RESULT
from thalweg.conf.environment import PROJECT_ROOT
from thalweg.replay.report import plot

PAGE: Final = PROJECT_ROOT / "docs" / "measurements" / "replay.md"
PICTURE: Final = PAGE.parent / "images" / "philly-replay.svg"
BEGIN: Final = (
    "<!-- Written by `python -m thalweg.benchmarks.replay.replay_pages` from benchmarks/results/replay.json. -->"
)
END: Final = "<!-- The rest is written by hand. -->"
FRONT_PICTURE: Final = PAGE.parent / "images" / "philly-front.svg"
FRONT_BEGIN: Final = (
    "<!-- Written by `python -m thalweg.benchmarks.replay.replay_pages` from benchmarks/results/replay-front.json. -->"
)
FRONT_END: Final = "<!-- By hand again. -->"
HOUR_S: Final = 3_600.0


def measured(result: Mapping[str, Any]) -> str:
    """The measured part of the page."""
    over, even, everything = result["more_demand_than_supply"], result["as_much_demand_as_supply"], result["all_jobs"]
    machine = result["machine"]
    same = "the same both times, bit for bit" if everything["bit_identical"] else "NOT the same both times"
    return "\n".join(
        [
            f"Measured by `{COMMAND}` on {machine['cores']} cores ({machine['processor']}, "
            f"{machine['memory_gb']} GB), load average {result['load_average']} when it began.",
            "",
            f"All {everything['jobs']:,} usable jobs through `gravity`: {everything['seconds'][0]} s and "
            f"{everything['seconds'][1]} s, {same}.",
            "",
            f"## More demand than supply: {over['load']} times what {over['gpus_per_region']} GPUs a region give",
            "",
            _policies(over["policies"]),
            "",
            _promises(result["promised"], over["promises_by_seed"]),
            "",
            "![regions, waiting, use and money of the three policies](images/philly-replay.svg)",
            "",
            f"## As much demand as supply: {even['gpus_per_region']} GPUs a region",
            "",
            _policies(even["policies"]),
            "",
            _promises(result["promised"], even["promises_by_seed"]),
        ]
    )


def filled(page: str, block: str, begin: str = BEGIN, end: str = END) -> str:
    """Put a block between two of the page's markers."""
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{block}\n\n{end}{after}"


def _policies(reports: Sequence[Mapping[str, Any]]) -> str:
    lines: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "waiting, mean / p50, hours": lambda r: f"{r['wait_mean_s'] / HOUR_S:.1f} / {r['wait_p50_s'] / HOUR_S:.1f}",
        "waiting, p99, days": lambda r: f"{r['wait_p99_s'] / HOUR_S / 24:.1f}",
        "GPUs in use, %": lambda r: f"{r['utilisation_percent']:.1f}",
        "GPUs in use while a job waits, %": lambda r: f"{r['allocation_while_waiting_percent']:.2f}",
        "largest demand/supply of a region against the fleet's": (
            lambda r: f"{r['max_demand_by_supply_ratio_to_fleet']:.3f}"
        ),
        "largest utilisation of a region against the fleet's": lambda r: f"{r['max_utilisation_ratio_to_fleet']:.3f}",
        "data moved, TB": lambda r: f"{r['moved_gb'] / 1000:,.0f}",
        "egress, USD": lambda r: f"{r['egress_usd']:,.0f}",
        "compute, USD": lambda r: f"{r['compute_usd']:,.0f}",
        "moves / preemptions": lambda r: f"{r['moves']} / {r['preemptions']}",
    }
    head = ["figure", *[f"`{report['policy']}`" for report in reports]]
    rows = [[name, *[cell(report) for report in reports]] for name, cell in lines.items()]
    return _table([head, ["---"] * len(head), *rows])


def _promises(promised: Mapping[str, float], seeds: Sequence[Mapping[str, Any]]) -> str:
    head = [
        "data drawn from seed",
        f"demand/supply ≤ {promised['max_demand_by_supply_ratio_to_fleet']} x",
        f"GPUs in use while a job waits ≥ {promised['allocation_while_waiting_percent']:g} %",
        f"bytes ≤ {promised['moved_bytes_ratio_to_spread']:.0%} of `spread`",
        "all three",
    ]
    rows = [
        [
            str(one["seed"]),
            f"{one['max_demand_by_supply_ratio_to_fleet']:.4f}",
            f"{one['allocation_while_waiting_percent']:.2f}",
            f"{one['moved_bytes_ratio_to_spread']:.1%}",
            "kept" if one["kept"] else "missed",
        ]
        for one in seeds
    ]
    return _table([head, ["---"] * len(head), *rows])


def _table(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Draw the policies where there is more demand than supply."""
    plot(result["more_demand_than_supply"]["policies"], path)


def main() -> None:
    """Write the page's figures and draw its picture."""
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    rows = json.loads(front.RESULT.read_text(encoding="utf-8"))
    page = filled(PAGE.read_text(encoding="utf-8"), measured(result))
    PAGE.write_text(filled(page, front.table(rows), FRONT_BEGIN, FRONT_END), encoding="utf-8")
    draw(result, PICTURE)
    front.draw(rows, FRONT_PICTURE)


if __name__ == "__main__":
    main()
