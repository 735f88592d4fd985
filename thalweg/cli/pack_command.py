"""`thalweg pack`: pack the pods of a public openb trace onto its nodes and print what was allocated."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from thalweg.cli.reach.ending import FAILED, WRONG_CALL, end
from thalweg.cli.reach.finite import FiniteRange
from thalweg.conf.environment import SetupIncompleteError
from thalweg.conf.settings import SettingsError, load_settings
from thalweg.replay.openb import PackAll, pack_here, pack_trace
from thalweg.replay.traces import TraceError, read_openb_nodes, read_openb_pods
from thalweg.scheduling.pack.packer import ScoringRule


@click.command()
@click.option("--nodes", "nodes_path", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--pods", "pods_path", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--seed", default=42, show_default=True, type=int, help="Of the arrival order.")
@click.option(
    "--arrive",
    default=1.3,
    show_default=True,
    type=FiniteRange(min=0.0, min_open=True),
    help="GPU demand that arrives, as a multiple of the GPUs there are.",
)
@click.option("--batch", default=1, show_default=True, type=click.IntRange(min=1), help="Arrivals decided jointly.")
@click.option(
    "--moves",
    default=0.0,
    show_default=True,
    type=FiniteRange(0.0, 1.0),
    help="Share of the running pods that may be moved in all.",
)
@click.option(
    "--rule",
    default=ScoringRule.FILL.value,
    show_default=True,
    type=click.Choice([rule.value for rule in ScoringRule]),
    help="How a node is valued: expected fill, or the published reference FGD.",
)
@click.option(
    "--regions",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="Deal nodes and arrivals to so many regions, each packed on its own.",
)
@click.option(
    "--on",
    "where",
    default="here",
    show_default=True,
    type=click.Choice(["here", "spark"]),
    help="Pack the regions one after the other in this process, or each in a Spark task (spark.master).",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def pack(
    nodes_path: Path,
    pods_path: Path,
    seed: int,
    arrive: float,
    batch: int,
    moves: float,
    rule: str,
    regions: int,
    where: str,
    as_json: bool,
) -> None:
    """Pack the pods of an openb trace onto its nodes in arrival order and print the allocation."""
    try:
        machines, pods = read_openb_nodes(nodes_path), read_openb_pods(pods_path)
        with _packing_on(where) as pack_all:
            result = pack_trace(
                machines,
                pods,
                seed=seed,
                arrive=arrive,
                batch=batch,
                moves=moves,
                rule=ScoringRule(rule),
                regions=regions,
                pack_all=pack_all,
            )
    except (TraceError, ValueError, SettingsError) as error:
        end(str(error), WRONG_CALL)
    except SetupIncompleteError as error:
        end(str(error), FAILED)
    if as_json:
        click.echo(json.dumps(result))
        return
    for name, value in result.items():
        click.echo(f"{name:<22} {value}")


@contextmanager
def _packing_on(where: str) -> Iterator[PackAll]:
    if where == "here":
        yield pack_here
        return
    # Imported late: Spark costs half a second and a JVM, and packing here needs neither.
    from thalweg.jobs.placement.pack_regions import pack_on_spark
    from thalweg.jobs.runtime.job import spark_session

    with spark_session("pack", load_settings()) as spark:
        yield lambda works: pack_on_spark(spark, works)
