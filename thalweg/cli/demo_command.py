"""`thalweg demo`: watch the whole system work."""

import json
import math
import sys
from pathlib import Path
from typing import Any, Final

import click

from thalweg.agent.figures import load_figures
from thalweg.agent.fleet import FleetError
from thalweg.bootstrap.runtime import ensure_runtime
from thalweg.cli.reach.ending import FAILED, WRONG_CALL, end
from thalweg.cli.reach.finite import FiniteRange
from thalweg.conf.environment import DEMO, state_folder
from thalweg.conf.settings import SettingsError, load_settings
from thalweg.demo.demo import DemoFailedError, DemoPlan, run_demo
from thalweg.demo.load import messages
from thalweg.demo.trace_load import trace_messages
from thalweg.demo.view import LiveScreen, PlainScreen
from thalweg.query.sql.query import WarehouseUnreadableError
from thalweg.replay.traces import TraceError
from thalweg.scheduling.counted import counted
from thalweg.stack.stack import Interruption
from thalweg.stack.state import StateFolder, StateFolderError
from thalweg.stack.trouble import STACK_TROUBLE
from thalweg.streams.broker.errors import StreamError
from thalweg.sync.clock import system_clock

DEFAULT_TIME_SCALE: Final = 600.0
"""Ten minutes a second: the median task of the published running times takes three seconds."""


@click.command()
@click.option("--seconds", type=FiniteRange(min=1), help="End by itself so long after the first assignment.")
@click.option("--headless", is_flag=True, help="Draw nothing; progress goes to standard error.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output at the end.")
@click.option("--rate", type=FiniteRange(0.1, 5_000), default=50.0, show_default=True, help="Mean tasks a second.")
@click.option("--regions", "count", type=click.IntRange(min=1), default=8, show_default=True, help="How many regions.")
@click.option("--nodes", type=click.IntRange(min=1), help="Nodes per region instead of the usual 14.")
@click.option(
    "--trace",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Replay a published trace (openb pod list or Philly job list, .csv or .csv.gz) instead.",
)
@click.option("--time-scale", type=FiniteRange(min=0, min_open=True), help="Trace or task seconds per real second.")
@click.option("--failure-share", type=FiniteRange(0, 1), default=0.01, show_default=True, help="Runs that fail.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed sends the same messages.")
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="YAML settings file.")
@click.option("--set", "overrides", multiple=True, metavar="GROUP.FIELD=VALUE", help="One setting; repeatable.")
def demo(
    seconds: float | None,
    headless: bool,
    as_json: bool,
    rate: float,
    count: int,
    nodes: int | None,
    trace: Path | None,
    time_scale: float | None,
    failure_share: float,
    seed: int,
    config: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Start a broker, the jobs and simulated regions, stream tasks through them, and count what happened.

    Regions, links, prices, machines and tasks are published figures (conf/figures). Ctrl-C ends it in order. The exit
    code is 0 only if every task is accounted for and no invariant was broken.
    """
    figures = load_figures()
    try:
        settings = load_settings(config, overrides)
        if count > len(figures.regions):
            raise FleetError(
                f"--regions {count}: there are published figures of {counted(len(figures.regions), 'region')}"
            )
        regions = figures.regions[:count]
        if trace is None:
            scale = time_scale or DEFAULT_TIME_SCALE
            stream = messages(figures, regions, rate_per_s=rate, seed=seed, run=f"demo{seed}")
            source = (
                f"{rate:g} tasks/s with the shapes of openb and the running times of Philly, {scale:g} times faster"
            )
        else:
            stream, scale, source = trace_messages(trace, regions, rate_per_s=rate, time_scale=time_scale)
        parent = StateFolder(state_folder())
        folder = StateFolder(parent.path / DEMO)
    except (SettingsError, FleetError, TraceError, StateFolderError) as error:
        end(str(error), WRONG_CALL)
    plan = DemoPlan(
        seconds=seconds or math.inf,
        regions=regions,
        messages=stream,
        source=source,
        time_scale=scale,
        nodes=nodes,
        failure_share=failure_share,
        seed=seed,
        overrides=overrides,
        config=config,
    )
    interruption = Interruption.on_signals()

    def run(screen: PlainScreen | LiveScreen) -> dict[str, Any]:
        return run_demo(
            plan,
            folder=folder,
            settings=settings,
            figures=figures,
            screen=screen,
            clock=system_clock,
            interrupted=interruption.asked,
        )

    try:
        ensure_runtime()
        if headless or not sys.stderr.isatty():
            document = run(PlainScreen())
        else:
            with LiveScreen() as screen:
                document = run(screen)
    except (DemoFailedError, StreamError, WarehouseUnreadableError, *STACK_TROUBLE) as error:
        end(str(error), FAILED)
    _report(document, folder.path, as_json)
    sys.exit(0 if document["ok"] else 1)


def _report(document: dict[str, Any], folder: Path, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(document))
        return
    for name, value in document.items():
        shown = f"{value:,.4g}" if isinstance(value, float) else value
        click.echo(f"{name.replace('_', ' '):28} {shown}")
    click.echo(f"\nRead on: thalweg tasks --warehouse {folder / 'warehouse'}")
