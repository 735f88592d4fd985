"""`thalweg bench NAME`: run a measurement and print its figures."""

import dataclasses
import importlib
import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, get_type_hints

import click
import msgspec
from rich.console import Console
from rich.table import Table

from thalweg.conf.environment import results_folder
from thalweg.processes.variables import variables_set
from thalweg.stack.stack import scratch_environment

BENCHMARKS: Final[Mapping[str, tuple[str, str]]] = {
    # name: (module, function); imported when it is run. Its parameters are the function's keyword arguments, or the
    # fields of the one dataclass it takes.
    "agent": ("thalweg.benchmarks.agent.agent", "agent"),
    "brokers": ("thalweg.benchmarks.brokers.brokers", "measure"),
    "burst": ("thalweg.benchmarks.recovery.burst", "measure"),
    "clusters": ("thalweg.benchmarks.clusters.clusters", "measure"),
    "edge": ("thalweg.benchmarks.edge.edge", "measure"),
    "edge-training": ("thalweg.benchmarks.edge.training", "measure"),
    "ended": ("thalweg.benchmarks.ended.ended", "measure"),
    "federate": ("thalweg.benchmarks.learning.learning", "measure"),
    "explain": ("thalweg.benchmarks.placement.explain", "run"),
    "forecast": ("thalweg.benchmarks.forecast.forecast", "measure"),
    "ingest": ("thalweg.benchmarks.ingest.ingest", "ingest"),
    "latency": ("thalweg.benchmarks.latency.latency", "measure"),
    "live": ("thalweg.benchmarks.live.live", "measure"),
    "model-batching": ("thalweg.benchmarks.serving.model_batching", "measure"),
    "model-transfer": ("thalweg.benchmarks.serving.model_transfer", "measure"),
    "pack": ("thalweg.benchmarks.packing.pack", "run"),
    "plan": ("thalweg.benchmarks.placement.plan", "run"),
    "questions": ("thalweg.benchmarks.startup.questions", "questions"),
    "recovery": ("thalweg.benchmarks.recovery.recovery", "measure"),
    "replan": ("thalweg.benchmarks.placement.replan", "run"),
    "replay": ("thalweg.benchmarks.replay.replay", "run"),
    "response": ("thalweg.benchmarks.response.response", "measure"),
    "rollout": ("thalweg.benchmarks.rollout.rollout", "measure"),
    "scale": ("thalweg.benchmarks.placement.scale", "scale"),
    "soak": ("thalweg.benchmarks.soak.soak", "measure"),
    "steady": ("thalweg.benchmarks.packing.steady", "measure"),
    "startup": ("thalweg.benchmarks.startup.startup", "startup"),
    "sync": ("thalweg.benchmarks.sync.sync", "sync"),
    "window": ("thalweg.benchmarks.window.window", "measure"),
    "window-soak": ("thalweg.benchmarks.window.soak", "measure"),
    "window-index": ("thalweg.benchmarks.window.index", "measure"),
}


def parameters(measure: Callable[..., object], items: Sequence[str]) -> dict[str, Any]:
    """Read `name=value` items by the types of a function's keyword arguments.

    Raises:
        click.UsageError: a name is unknown or a value has the wrong type; the message says what is allowed.
    """
    known = _types(measure)
    given: dict[str, Any] = {}
    for item in items:
        name, separator, value = item.partition("=")
        if not separator or name not in known:
            raise click.UsageError(
                f"--set {item!r}: allowed are {', '.join(f'{known_name}=…' for known_name in known)}"
            )
        try:
            given[name] = msgspec.convert(value, known[name], strict=False)
        except msgspec.ValidationError as error:
            raise click.UsageError(f"--set {item!r}: {error}") from error
    return given


def _types(measure: Callable[..., object]) -> dict[str, Any]:
    wanted = {name: one.annotation for name, one in inspect.signature(measure, eval_str=True).parameters.items()}
    group = _group(measure)
    return wanted if group is None else get_type_hints(group)


def _group(measure: Callable[..., object]) -> Any:
    """Return the dataclass that holds a measurement's parameters, if that is what it takes."""
    wanted = list(inspect.signature(measure, eval_str=True).parameters.values())
    return wanted[0].annotation if len(wanted) == 1 and dataclasses.is_dataclass(wanted[0].annotation) else None


def run(measure: Callable[..., dict[str, Any]], given: Mapping[str, Any]) -> dict[str, Any]:
    """Call a measurement with its parameters."""
    group = _group(measure)
    return measure(**given) if group is None else measure(group(**given))


@click.command()
@click.argument("name", type=click.Choice(sorted(BENCHMARKS)))
@click.option("--set", "items", multiple=True, metavar="NAME=VALUE", help="A parameter of the measurement; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--record", is_flag=True, help="Keep the result: under benchmarks/results/ in a clone, else here.")
def bench(name: str, items: tuple[str, ...], as_json: bool, record: bool) -> None:
    """Measure one thing on this machine. Takes a minute or more; nothing else should run meanwhile."""
    module, function = BENCHMARKS[name]
    measure = getattr(importlib.import_module(module), function)
    given = parameters(measure, items)
    console = Console(stderr=True)
    with (
        console.status(f"measuring {name} …"),
        TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as scratch,
        variables_set(scratch_environment(Path(scratch), os.environ)),
    ):
        document = run(measure, given)
    if record:
        console.print(f"kept in {keep(name, document)}")
    if as_json:
        click.echo(json.dumps(document))
    else:
        Console().print(as_table(name, document))


def keep(name: str, document: Mapping[str, Any]) -> Path:
    """Write a result to a file of its own and return its path."""
    folder = results_folder()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return path


def as_table(name: str, document: Mapping[str, Any]) -> Table:
    """Lay a result out as two columns; groups are written with a dot."""
    table = Table(title=f"bench {name}", show_header=False)
    for path, value in _leaves(document):
        table.add_row(
            path, f"{value:,}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
        )
    return table


def _leaves(tree: Mapping[str, Any], path: str = "") -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for key, value in tree.items():
        leaves += _leaves(value, f"{path}{key}.") if isinstance(value, Mapping) else [(f"{path}{key}", value)]
    return leaves
