"""Demand as a picture: what was asked for in the last week, and what will be, with its interval, region by region."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from thalweg.forecast.asked_demand import AskedDemand
from thalweg.learning.forecast.demand_rows import AHEAD_H, WEEK_H

_MOST: Final = 8
"""Regions that are drawn, those of the largest demand."""


def draw_demand(asked: AskedDemand, hours: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Draw it; equal figures give an equal file.

    Args:
        asked: what was asked for.
        hours: `region`, `least`, `middle`, `most` of the next hours, in their order.
        file: to write; its ending says in which format.
    """
    from matplotlib.figure import Figure

    from thalweg.replay.report import save

    weight = asked.gpu_hours[:, -WEEK_H:].sum(axis=1)
    drawn = np.lexsort((np.arange(len(weight)), -weight))[:_MOST].tolist()
    figure = Figure(figsize=(10, 0.8 + 1.4 * len(drawn)), layout="constrained")
    many = figure.subplots(len(drawn), 1, sharex=True, squeeze=False)[:, 0]
    ahead = np.arange(AHEAD_H) + 0.5
    for axes, at in zip(many, drawn, strict=True):
        own = [row for row in hours if row["region"] == asked.regions[at]]
        axes.step(np.arange(-WEEK_H, 0) + 0.5, asked.gpu_hours[at, -WEEK_H:], where="mid", color="#777", linewidth=0.8)
        least, middle, most = ([row[name] for row in own] for name in ("least", "middle", "most"))
        axes.fill_between(ahead, least, most, step="mid", color="#3b6ea5", alpha=0.3, linewidth=0)
        axes.step(ahead, middle, where="mid", color="#3b6ea5")
        axes.set_yscale("symlog", linthresh=1.0)
        axes.set_ylim(bottom=0.0)
        axes.set_title(asked.regions[at], fontsize=8, loc="left")
    many[-1].set_xlabel("hours from now; grey: GPU-hours asked for, blue: the forecast and where 80 of 100 will lie")
    save(figure, file)
