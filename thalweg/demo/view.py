"""The demo on a terminal: regions, load, events, latency, the last plan; or plain lines where nobody looks."""

import math
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from thalweg.query.sql.query import WarehouseUnreadableError, query
from thalweg.scheduling.counted import counted

if TYPE_CHECKING:
    from thalweg.demo.demo import Demo

DRAW_EVERY_S: Final = 0.25
PLAN_EVERY_S: Final = 1.0
RECENT_S: Final = 10.0
"""Rates and latencies speak of this many seconds."""


class PlainScreen:
    """Progress as lines on standard error."""

    def say(self, message: str) -> None:
        """Print a line."""
        print(message, file=sys.stderr, flush=True)

    def show(self, demo: "Demo") -> None:
        """Draw nothing."""


class LiveScreen:
    """A picture that is drawn anew four times a second, with the progress lines above it."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False, transient=False)
        self._drawn_s = 0.0
        self._plan: dict[str, Any] | None = None
        self._plan_read_s = 0.0
        self._reading: threading.Thread | None = None
        self._counted: deque[tuple[float, int]] = deque()

    def __enter__(self) -> "LiveScreen":
        """Take the terminal."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back; the last picture stays."""
        self._live.stop()

    def say(self, message: str) -> None:
        """Print a line above the picture."""
        self._console.print(message, highlight=False)

    def show(self, demo: "Demo") -> None:
        """Draw, if it is time."""
        now = time.monotonic()
        if demo.watcher is None or now - self._drawn_s < DRAW_EVERY_S:
            return
        self._drawn_s = now
        if now - self._plan_read_s > PLAN_EVERY_S and (self._reading is None or not self._reading.is_alive()):
            self._plan_read_s = now
            self._reading = threading.Thread(target=self._read_plan, args=(demo.warehouse,), daemon=True)
            self._reading.start()
        figures = _figures(demo, self._plan, now, self._events_per_s(demo.watching.records, now))
        self._live.update(Group(figures, _regions(demo, now)), refresh=True)

    def _events_per_s(self, records: int, now: float) -> float:
        """Rate of all records that the bystander reads (assignments, reports, refusals) over the last while."""
        self._counted.append((now, records))
        while now - self._counted[0][0] > RECENT_S:
            self._counted.popleft()
        (first_s, first), (last_s, last) = self._counted[0], self._counted[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0

    def _read_plan(self, warehouse: str) -> None:
        try:
            rows = query("SELECT * FROM plans ORDER BY planned_at DESC LIMIT 1", warehouse).dicts()
        except WarehouseUnreadableError:
            return  # not made yet
        self._plan = rows[0] if rows else None


def _figures(demo: "Demo", plan: dict[str, Any] | None, now: float, events_per_s: float) -> Panel:
    watcher = demo.watching
    with watcher.lock:
        recent = [latency for at, latency in watcher.recent if now - at < RECENT_S]
        refused = len(watcher.refused_requests)
        reports = watcher.reports.copy()
    since = demo.streaming_since_s
    streaming = 0.0 if since is None else now - since
    until = f" of {demo.plan.seconds:.0f} s" if math.isfinite(demo.plan.seconds) else " s, Ctrl-C ends it"
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    table.add_row("demand", demo.plan.source)
    table.add_row("time", f"{streaming:.1f}{until}")
    table.add_row(
        "tasks",
        f"{len(demo.sent.tasks):,} sent, {reports['succeeded']:,} runs finished, {reports['failed']:,} failed, "
        f"{counted(refused, 'message')} refused",
    )
    table.add_row("rates", f"{len(recent) / RECENT_S:,.0f} tasks/s assigned, {events_per_s:,.0f} events/s")
    if ordered := sorted(recent):
        figures = (ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.95, 0.99))
        told = "  ".join(f"{name} {value:,.0f} ms" for name, value in zip(("p50", "p95", "p99"), figures, strict=True))
        table.add_row("latency", f"{told}  request to region, last {RECENT_S:.0f} s")
    if plan is not None:
        table.add_row("queue", counted(plan["waiting"], "task waits for capacity", "tasks wait for capacity"))
        table.add_row(
            "last plan",
            f"{plan['placed']} of {plan['considered']} placed, gap {plan['gap']:.2%}, planned in {plan['plan_ms']:.0f}"
            f" ms, committed in {plan['commit_ms']:.0f} ms",
        )
    return Panel(table, title="thalweg demo", title_align="left")


def _regions(demo: "Demo", now: float) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading, justify in (
        ("region", "left"),
        ("GPUs", "right"),
        ("used", "left"),
        ("", "right"),
        ("running", "right"),
        ("heard", "right"),
    ):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]  # rich's own literals
    with demo.watching.lock:
        for name in demo.plan.regions:
            total = sum(node.gpus for node in demo.fleets[name].nodes.values())
            view = demo.watching.regions.get(name)
            used = view.gpus if view else 0.0
            share = used / total if total else 0.0
            filled = round(share * 24)
            heard = f"{now - view.heard_s:.0f} s ago" if view and view.heard_s else "not yet"
            table.add_row(
                name,
                str(total),
                Text("█" * filled, style="green") + Text("░" * (24 - filled), style="dim"),
                f"{share:4.0%}",
                str(len(view.running)) if view else "0",
                heard,
            )
    return table
