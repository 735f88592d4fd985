"""What the planner's promises over weeks cost each other: goals against references of the same load and data.

    thalweg replay --trace philly --jobs FILE --load 1.25 --seed 42 --policy … --json > one.json     as often as wanted
    python -m thalweg.benchmarks.replay.front one.json two.json

takes the documents into benchmarks/results/replay-front.json, beside what is there; the page's table is written by
`python -m thalweg.benchmarks.replay.replay_pages`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thalweg.conf.environment import results_folder
from thalweg.replay.report import save

RESULT: Final = results_folder() / "replay-front.json"
HOUR_S: Final = 3_600.0
DAY_S: Final = 24 * HOUR_S
HEAD: Final = ("load", "seed", "estimates", "cycle_seconds")
KEPT: Final = (
    "policy",
    "wait_mean_s",
    "delay_mean_s",
    "wait_p50_s",
    "wait_p99_s",
    "wait_longest_s",
    "wait_mean_s_gangs_of_8",
    "allocation_while_waiting_percent",
    "moved_gb",
    "preemptions",
    "replay_seconds",
)
GOALS: Final = {"mean": 1.1, "gangs": 0.5, "longest": 0.5, "bytes": 0.25}
"""At most so many times `sjf`'s; the bytes of `spread`'s."""
FAR_OFF: Final = 6.0
"""Times `sjf`'s mean delay from which on a policy is not drawn: the others would lie on each other."""


def told_apart(documents: Sequence[Mapping[str, Any]], known: Sequence[dict[str, Any]] = ()) -> list[dict[str, Any]]:
    """One row a policy, load, seed, kind of estimates and cycle; what was measured again counts last."""
    found = {tuple(row[name] for name in (*HEAD, "policy")): row for row in known}
    for document in documents:
        for report in document["policies"]:
            planned = ":" in report["policy"] or report["policy"] == "flow"
            key = (
                document["load"],
                document["seed"],
                document["estimates"] if planned else "",
                document["cycle_seconds"] if planned else 0.0,
            )
            head = dict(zip(HEAD, key, strict=True))
            found[(*key, report["policy"])] = {**head, **{name: report[name] for name in KEPT}}
    return [found[key] for key in sorted(found)]


def ratios(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], dict[str, float]]]:
    """Each row beside the references of its load; the bytes beside those of its data, too."""
    for row in rows:
        of_load = [one for one in rows if one["load"] == row["load"]]
        sjf = next(one for one in of_load if one["policy"] == "sjf")
        spread = next((one for one in of_load if one["policy"] == "spread" and one["seed"] == row["seed"]), None)
        yield (
            row,
            {
                "mean": row["delay_mean_s"] / sjf["delay_mean_s"],
                "gangs": row["wait_mean_s_gangs_of_8"] / sjf["wait_mean_s_gangs_of_8"],
                "longest": row["wait_longest_s"] / sjf["wait_longest_s"],
                "bytes": float("nan") if spread is None else row["moved_gb"] / spread["moved_gb"],
            },
        )


def name_of(row: Mapping[str, Any]) -> str:
    """Call a row by its policy; the planner by how often it plans and what it is told."""
    if not row["cycle_seconds"]:
        return f"`{row['policy']}`"
    settings = row["policy"].partition(":")[2]
    told = ", hostile estimates" if row["estimates"] == "hostile" else ""
    return f"planner, every {row['cycle_seconds']:g} s{told}" + (f", `{settings}`" if settings else "")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The measured part of the page, a line for each row."""
    head = (
        "load, seed",
        "policy",
        "mean wait, h",
        "mean delay, h",
        "by `sjf` (≤ 1.1)",
        "median, h",
        "p99, days",
        "longest, days",
        "by `sjf` (≤ 0.5)",
        "8 GPUs and more, h",
        "by `sjf` (≤ 0.5)",
        "TB",
        "by `spread` (≤ 0.25)",
        "in use, % (≥ 99)",
    )
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row, by in ratios(rows):
        cells = (
            f"{row['load']:g}, {row['seed']}",
            name_of(row),
            f"{row['wait_mean_s'] / HOUR_S:.1f}",
            f"{row['delay_mean_s'] / HOUR_S:.1f}",
            f"{by['mean']:.2f}",
            f"{row['wait_p50_s'] / HOUR_S:.1f}",
            f"{row['wait_p99_s'] / DAY_S:.1f}",
            f"{row['wait_longest_s'] / DAY_S:.1f}",
            f"{by['longest']:.2f}",
            f"{row['wait_mean_s_gangs_of_8'] / HOUR_S:.0f}",
            f"{by['gangs']:.2f}",
            f"{row['moved_gb'] / 1000:,.0f}",
            "-" if by["bytes"] != by["bytes"] else f"{by['bytes']:.2f}",
            f"{row['allocation_while_waiting_percent']:.1f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw each goal against the mean delay, all by their references; the corner that is wanted is shaded."""
    first_seed = min(row["seed"] for row in rows)
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    loads = sorted({row["load"] for row in rows}, reverse=True)
    for line, load in zip(figure.subplots(len(loads), 3, squeeze=False), loads, strict=True):
        points = [
            (row, by)
            for row, by in ratios(rows)
            if row["load"] == load and row["seed"] == first_seed and by["mean"] < FAR_OFF
        ]
        for axes, goal, label in zip(
            line,
            ("gangs", "longest", "bytes"),
            ("8 GPUs and more: wait by sjf's", "longest wait by sjf's", "bytes by spread's"),
            strict=True,
        ):
            _panel(axes, points, goal)
            axes.set_ylabel(label)
        line[0].set_title(f"load {load:g}", loc="left")
        line[2].legend(fontsize=6)
    save(figure, path)


def _panel(axes: Axes, points: Sequence[tuple[Mapping[str, Any], dict[str, float]]], goal: str) -> None:
    for number, (row, by) in enumerate(points):
        if row["preemptions"] and goal != "bytes":
            continue  # that it started at once says nothing of a job that is stopped again
        name = name_of(row).replace("`", "")
        axes.plot(by["mean"], by[goal], "os^vD*PX<>"[number % 10], color=f"C{number % 10}", label=name)
    axes.fill_between([0.0, GOALS["mean"]], 0.0, GOALS[goal], color="tab:green", alpha=0.15)
    axes.set_xlabel("mean delay by sjf's")
    axes.set_xlim(left=0.0)
    axes.set_ylim(bottom=0.0)


def main(paths: Sequence[str]) -> None:
    """Take documents in and keep them beside the code."""
    known = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else []
    rows = told_apart([json.loads(Path(path).read_text(encoding="utf-8")) for path in paths], known)
    RESULT.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
