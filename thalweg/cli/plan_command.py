"""`thalweg plan`: place the tasks of a problem file and print the plan, its bound and why anything waits."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from thalweg.cli.reach.finite import FiniteRange
from thalweg.cli.reach.reading import WrongCall
from thalweg.cli.reach.solver_output import solvers_to_stderr
from thalweg.cli.terminal import words
from thalweg.cli.terminal.render import Column, Fit, on_one_line, print_table
from thalweg.query.questions.plan_reasons import plan_ranges, why_not
from thalweg.scheduling.problem.check import ProblemError
from thalweg.scheduling.problem.document import (
    PlanResult,
    ProblemFormatError,
    ReadProblem,
    read_problem,
    write_solution,
)
from thalweg.scheduling.problem.solution import SolveLimits
from thalweg.scheduling.solve.ranges import RangesError
from thalweg.scheduling.solve.solve import STRATEGIES, solve

_LEAST_SHOWN_USD = 0.005


@click.command()
@click.option(
    "--problem",
    "problem_path",
    required=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="Problem document (JSON, docs/reference/plan-document.md); - reads standard input.",
)
@click.option("--strategy", default="flow", show_default=True, type=click.Choice(sorted(STRATEGIES)))
@click.option(
    "--deadline",
    "deadline_s",
    type=FiniteRange(min=0.0),
    help="Seconds to stop after, with the best plan so far. Without it only problem and seed decide.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="For strategies that draw.")
@click.option(
    "--why-not",
    "asks_why",
    is_flag=True,
    help="Name the limits that keep tasks from being all placed, none to spare.",
)
@click.option(
    "--ranges", "asks_ranges", is_flag=True, help="Tell how far prices and capacities may move before the plan changes."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def plan(
    problem_path: Path,
    strategy: str,
    deadline_s: float | None,
    seed: int,
    asks_why: bool,
    asks_ranges: bool,
    as_json: bool,
) -> None:
    """Place the tasks of a problem file; prints the plan, what it costs, and its gap to the best that may be.

    \b
    Examples:
      thalweg plan --problem problem.json
      thalweg plan --problem problem.json --why-not
      thalweg plan --problem problem.json --ranges --json
    """
    raw = sys.stdin.buffer.read() if str(problem_path) == "-" else problem_path.read_bytes()
    try:
        read = read_problem(raw)
        started = time.perf_counter()
        last = None if deadline_s is None else started + deadline_s
        limits = SolveLimits(remaining_s=None if last is None else lambda: last - time.perf_counter())
        with solvers_to_stderr():
            solution = solve(read.problem, strategy=strategy, limits=limits, seed=seed)
            result = write_solution(read, solution, (time.perf_counter() - started) * 1e3)
            asked: dict[str, Any] = {"why_not": why_not(read)} if asks_why else {}
            asked |= {"ranges": plan_ranges(read, solution)} if asks_ranges else {}
    except (ProblemFormatError, ProblemError) as error:
        raise WrongCall(f"{problem_path}: {error}") from error
    except RangesError as error:
        raise click.ClickException(f"{problem_path}: {error}") from error
    if as_json:
        click.echo(msgspec.json.encode(msgspec.to_builtins(result) | asked).decode())
        return
    _show(read, result)
    if asks_why:
        _show_why_not(asked["why_not"], len(result.unplaced))
    if asks_ranges:
        _show_ranges(asked["ranges"])


def _show(read: ReadProblem, result: PlanResult) -> None:
    console = Console()
    placed_usd = sum(entry.usd for entry in result.assignments)
    # What waits, and what is uneven, has a price of the document's: it is no money, and is said apart.
    priced = result.objective - placed_usd
    priced_words = f" ({words.usd(priced)} by the document's weights)" if priced >= _LEAST_SHOWN_USD else ""
    console.print(
        f"{result.strategy}: {result.status}, {len(result.assignments)} placed for {placed_usd:,.2f} USD, "
        f"{len(result.unplaced)} waiting{priced_words}, gap {result.gap:.3%}, {result.solve_ms:.0f} ms "
        f"(stopped: {result.stopped_because})",
        highlight=False,
        soft_wrap=True,
    )
    held: Counter[str] = Counter()
    for entry in result.assignments:
        held.update(entry.pools)
    pools = read.problem.pools
    table = Table("pool", "copies", "USD/GPU h", title="Copies by pool")
    for pool, copies in sorted(held.items()):
        price = pools.usd_per_gpu_hour[pools.pool_ids.index(pool)]
        table.add_row(escape(on_one_line(pool)), str(copies), f"{price:.4g}")
    if held:
        console.print(table)
    shown = 20
    if result.unplaced:
        waiting = Table("task", "reason", "detail", title="Waiting")
        for task in result.unplaced[:shown]:
            waiting.add_row(*(escape(on_one_line(words)) for words in (task.task_id, task.reason, task.detail)))
        if len(result.unplaced) > shown:
            waiting.add_row(f"and {len(result.unplaced) - shown} more", "", "(--json lists all)")
        console.print(waiting)


def _show_why_not(answer: dict[str, Any], waiting: int) -> None:
    if not waiting:
        click.echo("\nNothing waits: all tasks are placed.")
        return
    if not answer["sets"] and answer["complete"]:
        click.echo("\nAll tasks can be placed together: what waits here is dearer to place than to leave.")
    for one in answer["sets"]:
        proven = "no plan can keep all of these; without any one of them the others can be kept"
        unproven = "no plan can keep all of these; whether each is needed was not proven within the limit of effort"
        click.echo(f"\nWhy not all: {proven if one['irreducible'] else unproven}")
        for limit in one["limits"]:
            others = len(limit.get("tasks", ())) - 1
            like = f" and {others} like it" if others > 0 else ""
            click.echo("  " + on_one_line(f"{limit['of']} {limit['name']}{like}: {limit['words']}"))
    if not answer["complete"]:
        click.echo("\nWhether all other tasks can be placed together was not proven within the limit of effort.")


def _show_ranges(answer: dict[str, Any]) -> None:
    pool = Column(name="pool", fit=Fit.KEEP)
    price, low = (
        Column(name=name, title=title, say=words.usd, right=True)
        for name, title in (("usd_per_gpu_hour", "USD/GPU h"), ("low", "low"))
    )
    high = Column(name="high", say=lambda usd: "any" if usd is None else words.usd(usd), right=True)
    most = Column(name="more_until", say=lambda amount: "any" if amount is None else f"{amount:g}", right=True)
    click.echo("\nThe plan stays optimal while a GPU-hour of a pool costs, all else equal")
    print_table((pool, price, low, high), answer["prices"])
    click.echo("\nand while it costs this task, and those like it,")
    print_table((Column(name="task", fit=Fit.KEEP), pool, price, low, high), answer["arcs"])
    scarce = [row for row in answer["capacities"] if row["more_usd"] or row["fewer_usd"]]
    click.echo("\nUSD that one more saves and one fewer costs, by the linear relaxation, and until which capacity")
    print_table((pool, "dimension", "capacity", "more_usd", most, "fewer_usd", "fewer_until"), scarce)
