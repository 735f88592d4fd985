"""`thalweg replay`: run a public trace or the ledger's own history through policies, on a virtual clock."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from thalweg.cli.reach.finite import FiniteRange
from thalweg.cli.reach.reading import WrongCall, find_warehouse
from thalweg.cli.reach.solver_output import solvers_to_stderr
from thalweg.conf.settings import PlaceSettings, SettingsError, load_settings
from thalweg.query.sql.as_of import AsOf, LogTooShortError, parse_as_of
from thalweg.query.sql.query import WarehouseUnreadableError
from thalweg.query.sql.sql_statement import QueryRefusedError
from thalweg.replay.estimates import Estimates
from thalweg.replay.ledger import RECORDED, ledger_scenario
from thalweg.replay.scenario import Scenario, openb_scenario, philly_scenario
from thalweg.replay.traces import TraceError, read_philly_jobs
from thalweg.scheduling.replay.figures import summarise
from thalweg.scheduling.replay.replay import ReplayPolicy, replay
from thalweg.scheduling.solve.solve import STRATEGIES

POLICY_HELP = (
    "Repeat to compare. A strategy of the place job's planner (flow, greedy, genetic, anneal, lp), with settings of "
    "its own where wanted: flow:weights.balance=50,most_preempted=0. philly also: home, spread, gravity, fifo, sjf, "
    "las, las-lost, ftf; openb: fill, fgd; ledger: recorded."
)


def run_policy(scenario: Scenario, policy: str, settings: Sequence[str], cycle_s: float) -> dict[str, Any]:
    """Replay through one policy and return its figures with the seconds it took.

    Args:
        scenario: what is replayed.
        policy: a name of the scenario's own, or a strategy with settings behind a colon.
        settings: `place.…=value` items for all strategies.
        cycle_s: seconds between micro-batches of a strategy.
    """
    started = time.perf_counter()
    if policy == RECORDED and scenario.recorded is not None:
        result = scenario.recorded
    else:
        chosen = _policy(scenario, policy, settings, cycle_s)
        result = replay(scenario.jobs, scenario.fleet, chosen, begin_s=scenario.begin_s, running=scenario.running)
    figures = summarise(scenario.jobs, scenario.fleet, result)
    return {**figures, "replay_seconds": round(time.perf_counter() - started, 3)}


def _policy(scenario: Scenario, policy: str, settings: Sequence[str], cycle_s: float) -> ReplayPolicy:
    if policy in scenario.own:
        return scenario.own[policy]()
    return scenario.planner(policy, place_settings(policy, settings), cycle_s)


def place_settings(policy: str, settings: Sequence[str]) -> PlaceSettings:
    """Read the settings of a policy such as `flow:weights.balance=50,most_preempted=0`.

    Raises:
        SettingsError: a setting is unknown or has a value that is not allowed.
    """
    strategy, _, own = policy.partition(":")
    items = [f"place.{item}" for item in own.split(",") if item]
    return load_settings(overrides=[*settings, *items, f"place.strategy={strategy}"]).place


def check_policies(scenario: Scenario, policies: Sequence[str], settings: Sequence[str]) -> None:
    """Refuse a policy that there is not, before anything runs.

    Raises:
        WrongCall: the message names what there is.
    """
    own = [*scenario.own, *([RECORDED] if scenario.recorded is not None else [])]
    for policy in policies:
        name = policy.partition(":")[0]
        if policy in own:
            continue
        if name not in STRATEGIES:
            raise WrongCall(f"there is no policy {policy!r} here; there are {', '.join([*own, *sorted(STRATEGIES)])}")
        try:
            place_settings(policy, settings)
        except SettingsError as error:
            raise WrongCall(str(error)) from error


@click.command("replay")
@click.option("--trace", "kind", type=click.Choice(["philly", "openb", "ledger"]), required=True)
@click.option(
    "--jobs",
    "jobs_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="philly: the job list; openb: the pod list. Plain or gzipped CSV, in the trace's own format.",
)
@click.option("--nodes", "nodes_path", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="openb only.")
@click.option("--warehouse", metavar="URI", help="ledger: where the tables lie; by default the local stack's.")
@click.option("--from-version", type=click.IntRange(min=0), help="ledger: begin where this version of it ended.")
@click.option("--as-of", metavar="VERSION|TIME", help="ledger: end there: 17, 2026-11-21T12:00:00Z or '5m ago'.")
@click.option("--policy", "policies", multiple=True, metavar="NAME[:SETTING=VALUE,…]", help=POLICY_HELP)
@click.option("--set", "settings", multiple=True, metavar="place.NAME=VALUE", help="A setting of all strategies.")
@click.option("--regions", default=8, show_default=True, type=click.IntRange(min=1), help="philly: home regions.")
@click.option(
    "--load", default=1.0, show_default=True, type=FiniteRange(0.01, 10.0), help="philly: demand / GPUs there are."
)
@click.option("--all-clusters", is_flag=True, help="philly: deal the jobs of the other clusters to the homes as well.")
@click.option(
    "--cycle",
    "cycle_s",
    type=FiniteRange(min=0.0),
    help="Seconds between micro-batches of a strategy; 0 plans after every event.  [default: 60; ledger: 1]",
)
@click.option(
    "--patience",
    "patience_s",
    default=None,
    type=FiniteRange(min=0.0),
    help="home, spread, gravity: seconds after which a gang that is passed by smaller jobs gets GPUs kept for it. "
    "Default: never.",
)
@click.option("--seed", default=42, show_default=True, type=int, help="philly: of the data sizes.")
@click.option(
    "--estimates",
    type=click.Choice(list(map(str, Estimates))),
    default=str(Estimates.EXACT),
    show_default=True,
    help="philly: what the planner is told of run times. Hostile: each off by up to 100 times, either way.",
)
@click.option(
    "--plot", "plot_path", type=click.Path(dir_okay=False, path_type=Path), help="Write a picture (png, svg)."
)
@click.option(
    "--report",
    "report_folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write report.md, report.json and report.svg there.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def replay_trace(
    kind: str,
    jobs_path: Path | None,
    nodes_path: Path | None,
    warehouse: str | None,
    from_version: int | None,
    as_of: str | None,
    policies: tuple[str, ...],
    settings: tuple[str, ...],
    regions: int,
    load: float,
    all_clusters: bool,
    cycle_s: float | None,
    patience_s: float | None,
    seed: int,
    estimates: str,
    plot_path: Path | None,
    report_folder: Path | None,
    as_json: bool,
) -> None:
    """Replay a trace or the ledger through policies and compare them: waiting, utilisation, balance, money, moves.

    \b
    Examples:
      thalweg replay --trace philly --jobs philly_jobs_to_2017-11.csv.gz --report report
      thalweg replay --trace openb --jobs PODS.csv.gz --nodes NODES.csv.gz --policy fill --policy flow
      thalweg replay --trace ledger --from-version 40 --policy recorded --policy flow --policy flow:weights.balance=50
    """
    try:
        if kind == "ledger":
            scenario = ledger_scenario(
                find_warehouse(warehouse, None),
                from_version=from_version,
                as_of=_moment(as_of),
                strategy=load_settings(overrides=settings).place.strategy,
            )
        elif jobs_path is None or (kind == "openb" and nodes_path is None):
            raise WrongCall(f"--trace {kind} needs --jobs FILE" + (" and --nodes FILE" if kind == "openb" else ""))
        elif kind == "philly":
            trace = read_philly_jobs(jobs_path)
            scenario = philly_scenario(
                trace,
                regions=regions,
                load=load,
                seed=seed,
                all_clusters=all_clusters,
                patience_s=math.inf if patience_s is None else patience_s,
                estimates=Estimates(estimates),
            )
        else:
            assert nodes_path is not None
            scenario = openb_scenario(nodes_path, jobs_path)
    except (TraceError, QueryRefusedError, SettingsError) as error:
        raise WrongCall(str(error)) from error
    except (WarehouseUnreadableError, LogTooShortError) as error:
        raise click.ClickException(str(error)) from error
    chosen = policies or tuple(scenario.default)
    check_policies(scenario, chosen, settings)
    if cycle_s is None:
        cycle_s = 1.0 if kind == "ledger" else 60.0
    with solvers_to_stderr():
        reports = [run_policy(scenario, policy, settings, cycle_s) for policy in chosen]
    document = {**scenario.what, "cycle_seconds": cycle_s, "settings": list(settings), "policies": reports}
    if plot_path is not None:
        from thalweg.replay.report import plot

        plot(reports, plot_path)
    if report_folder is not None:
        from thalweg.replay.report import write_report

        write_report(report_folder, document)
    if as_json:
        click.echo(json.dumps(document))
    else:
        from thalweg.replay.report import as_table

        Console().print(as_table(reports))


def _moment(as_of: str | None) -> AsOf | None:
    return None if as_of is None else parse_as_of(as_of, datetime.now(UTC))
