"""The report of a replay: policies side by side as a table, as Markdown with a picture, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

BY_REGION: Final = {"demand_by_supply": "demand/supply", "utilisation_by_region": "utilisation"}
NOT_IN_TABLES: Final = ("policy", "fingerprint", *BY_REGION)
HOUR_S: Final = 3_600.0


def rows(reports: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """One row a figure, one column a policy; the figures by region come last."""
    table = [[name, *[_text(report[name]) for report in reports]] for name in reports[0] if name not in NOT_IN_TABLES]
    for key, label in BY_REGION.items():
        table += [
            [f"{label} {region}", *[f"{report[key][region]:.4f}" for report in reports]] for region in reports[0][key]
        ]
    return table


def as_table(reports: Sequence[Mapping[str, Any]]) -> Table:
    """Lay the figures out for a terminal."""
    table = Table("figure", *[report["policy"] for report in reports])
    for row in rows(reports):
        table.add_row(*row)
    return table


def write_report(folder: Path, document: Mapping[str, Any]) -> None:
    """Write report.json, report.md and report.svg: the same bytes each time, so without the seconds it took."""
    folder.mkdir(parents=True, exist_ok=True)
    timed = document["policies"]
    reports = [{name: value for name, value in one.items() if name != "replay_seconds"} for one in timed]
    text = json.dumps({**document, "policies": reports}, indent=1)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    inputs = ", ".join(f"{name} {value}" for name, value in document.items() if name != "policies")
    lines = [
        "# Replay",
        "",
        inputs,
        "",
        "| figure | " + " | ".join(report["policy"] for report in reports) + " |",
        "|---" * (len(reports) + 1) + "|",
        *["| " + " | ".join(row) + " |" for row in rows(reports)],
        "",
        "![waiting, regions, money and moves](report.svg)",
    ]
    (folder / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    plot(reports, folder / "report.svg")


def plot(reports: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw regions, waiting, utilisation and money; the ending of the path chooses the format (png, svg, pdf)."""
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    (regions, waiting), (busy, money) = figure.subplots(2, 2, width_ratios=[3, 2])
    _regions(regions, reports)
    names = [report["policy"] for report in reports]
    for key, label in (("wait_mean_s", "mean"), ("wait_p50_s", "p50"), ("wait_p99_s", "p99")):
        waiting.plot(names, [max(1.0, report[key]) / HOUR_S for report in reports], "o-", label=label)
    waiting.set_yscale("log")
    waiting.set_ylabel("waiting, hours")
    waiting.legend(fontsize=7)
    _bars(busy, reports, {"utilisation_percent": "utilisation", "allocation_while_waiting_percent": "while jobs wait"})
    busy.set_ylabel("GPUs in use, %")
    _bars(money, reports, {"compute_usd": "compute", "egress_usd": "egress"})
    money.set_yscale("symlog", linthresh=1.0)
    money.set_ylabel("USD")
    moved = money.twinx()
    moved.plot(names, [report["moved_gb"] / 1000 for report in reports], "k.", label="data moved")
    moved.set_ylabel("data moved, TB")
    moved.set_ylim(bottom=0)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a picture without a date and with fixed ids: the same numbers draw the same file."""
    with rc_context({"svg.hashsalt": "thalweg", "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _regions(axes: Axes, reports: Sequence[Mapping[str, Any]]) -> None:
    width = 0.8 / len(reports)
    names = list(reports[0]["demand_by_supply"])
    for number, report in enumerate(reports):
        places = np.arange(len(names)) + number * width
        axes.bar(places, list(report["demand_by_supply"].values()), width, label=report["policy"])
    axes.axhline(1.0, color="grey", linewidth=0.8)
    axes.set_xticks(np.arange(len(names)) + 0.4 - width / 2, names, rotation=30, fontsize=7)
    axes.set_ylabel("demand / supply")
    axes.legend(fontsize=7)


def _bars(axes: Axes, reports: Sequence[Mapping[str, Any]], keys: Mapping[str, str]) -> None:
    width = 0.8 / len(keys)
    for number, (key, label) in enumerate(keys.items()):
        places = np.arange(len(reports)) + number * width
        axes.bar(places, [report[key] or 0.0 for report in reports], width, label=label)
    axes.set_xticks(np.arange(len(reports)) + 0.4 - width / 2, [report["policy"] for report in reports], fontsize=7)
    axes.legend(fontsize=7)


def _text(value: object) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int | float) else str(value)
