"""``thalweg doctor``: look at everything a run depends on, and print for each finding what to do."""

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console

from thalweg.bootstrap.runtime import ensure_runtime, has_plane
from thalweg.checkup import brokers, checkpoints, installed, leases, machine, stacks, tables
from thalweg.checkup.finding import Finding, Severity, fine, problem
from thalweg.conf.environment import SetupIncompleteError, cache_folder, state_folder
from thalweg.conf.settings import KafkaSettings, Settings, SettingsError, load_settings
from thalweg.processes.ports import LOOPBACK
from thalweg.stack.broker import cluster_id
from thalweg.stack.stack import KAFKA_PORTS
from thalweg.streams.broker.origin import Present, Standing

_MARKS = {
    Severity.OK: "[green]ok      [/]",
    Severity.WARNING: "[yellow]warning [/]",
    Severity.PROBLEM: "[red]problem [/]",
}


def examine(config: Path | None = None, overrides: tuple[str, ...] = ()) -> Iterator[Finding]:
    """Look at one thing after the other; only what the launcher prepares has been done before, nothing is repaired."""
    yield installed.python_finding()
    yield installed.package_finding()
    if has_plane():
        yield installed.fit_finding()
        yield installed.java_finding()
        yield installed.jar_finding()
        yield installed.spark_finding()
    else:
        yield installed.no_plane_finding()
    settings = Settings()
    try:
        settings = load_settings(config, overrides)
        yield fine("settings", "read")
    except SettingsError as error:
        yield problem("settings", str(error), "Correct the setting named")
    state = state_folder()
    finding, stack = stacks.state_finding(state)
    yield finding
    if stack.runs:
        yield from stacks.supervisor_findings(state)
    yield from machine.port_findings(stack, KAFKA_PORTS.clients)
    yield machine.disk_finding("state folder", state, settings.warehouse.min_free_gb)
    yield machine.disk_finding("cache", cache_folder(), settings.warehouse.min_free_gb)
    yield machine.memory_finding(settings.spark.driver_memory, stack_runs=stack.runs)
    yield machine.clock_finding()
    kafka = settings.kafka
    # The local broker's id lies on disk: whose checkpoints are is known before it runs.
    own_cluster = cluster_id(state / "broker")
    if "kafka" in stack.ports:
        kafka = kafka.model_copy(update={"bootstrap_servers": f"{LOOPBACK}:{stack.ports['kafka']}"})
    if stack.runs and "kafka" not in stack.ports:
        yield brokers.not_ready_finding()
    else:
        yield from brokers.broker_findings(
            kafka,
            must_answer=stack.runs,
            is_ours=stack.runs or kafka.is_named,
            cluster=own_cluster if stack.runs else None,
        )
    yield from stacks.restored_findings(state)
    yield from leases.lease_findings(_in_state(state, "warehouse", settings.warehouse.path), stack)
    yield from tables.table_findings(_in_state(state, "warehouse", settings.warehouse.path))
    yield from _checkpoint_findings(settings, kafka, state, own_cluster, stack)


def _in_state(state: Path, name: str, configured: str) -> str:
    """Return where a thing lies: a default path means the state folder, as it does to `thalweg up`."""
    defaults = Settings()
    unchanged = configured in (defaults.warehouse.path, defaults.spark.checkpoints)
    return str(state / name) if unchanged else configured


def _checkpoint_findings(
    settings: Settings, kafka: KafkaSettings, state: Path, own_cluster: str | None, stack: stacks.StackNow
) -> Iterator[Finding]:
    where = _in_state(state, "checkpoints", settings.spark.checkpoints)
    if "://" in where:
        yield fine("checkpoints", f"in {where}, not looked at: no local folder")
        return
    warehouse = _in_state(state, "warehouse", settings.warehouse.path)
    has_broker = "kafka" in stack.ports
    is_local = stack.runs or not settings.kafka.is_named
    not_compared = ""
    if stack.runs and not has_broker:
        not_compared = "the stack's broker is not ready"
    elif is_local and not has_broker:
        not_compared = "the stack's broker runs only with it; thalweg up compares them, and doctor after that"

    def look(query: str, standing: Standing) -> Present:
        nonlocal not_compared
        table = checkpoints.table_present(warehouse, query, standing)
        if is_local and not has_broker:
            return replace(table, cluster_id=own_cluster or "none yet")
        topics = brokers.topics_present(kafka, standing)
        if topics is None or (has_broker and topics.cluster_id != own_cluster):
            not_compared = "no broker of ours answers"
            return table
        return replace(
            topics,
            warehouse_id=table.warehouse_id,
            table_version=table.table_version,
            table_batch=table.table_batch,
        )

    yield from checkpoints.checkpoint_findings(Path(where), look, lambda: not_compared)


@click.command()
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="YAML settings file.")
@click.option("--set", "overrides", multiple=True, metavar="GROUP.FIELD=VALUE", help="One setting; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def doctor(config: Path | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check Python, packages, Java, jars, ports, disk, memory, clock, tables, broker, checkpoints; print each fix.

    Exit code 1 if anything was found that will fail.
    """
    findings = []
    if has_plane():
        # What cannot be brought is found below, with its remedy.
        with contextlib.suppress(SetupIncompleteError):
            ensure_runtime()
    console = Console(highlight=False, soft_wrap=True)
    for finding in examine(config, overrides):
        findings.append(finding)
        if not as_json:
            console.print(f"{_MARKS[finding.status]}[bold]{finding.check}[/]: ", end="")
            console.print(finding.seen, markup=False)
            if finding.fix:
                console.print(f"        fix: {finding.fix}", markup=False)
    problems = sum(finding.status is Severity.PROBLEM for finding in findings)
    if as_json:
        rows = [
            {"check": finding.check, "status": finding.status, "seen": finding.seen, "fix": finding.fix}
            for finding in findings
        ]
        click.echo(json.dumps({"ok": problems == 0, "findings": rows}))
    elif problems:
        console.print(f"{problems} problem(s).")
    sys.exit(1 if problems else 0)
