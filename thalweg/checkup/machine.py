"""Look at the machine: room on disk and in memory, ports, the clock."""

import time
from collections.abc import Callable
from pathlib import Path

import psutil

from thalweg.checkup.finding import Finding, fine, problem, warning
from thalweg.checkup.stacks import StackNow
from thalweg.processes.disk import FULL_BYTES, free_bytes, free_words
from thalweg.processes.ports import FIRST_PORT, LAST_PORT, NoFreePortError, accepts_connections, free_port, is_free

# An hour of the demo writes some hundred MB; a warehouse under load grows by GB before compaction catches up.
COMFORTABLE_DISK_GB = 5.0
# Broker: heap 0.5 GB and as much again outside it. Python beside the Spark JVM: Arrow batches, solver, tables.
BROKER_GB = 1.0
PYTHON_GB = 1.5
# A clock that is being set moves by far more in a quarter of a second; one that is being slewed, by less than 1 ms.
CLOCK_TOLERANCE_MS = 50.0
# Stamps further ahead than a minute are refused as coming from the future (settings: observe.future_limit_ms).
SKEW_WARNING_MS = 1_000.0
SKEW_PROBLEM_MS = 30_000.0
# No message of ours can be older than the project.
EARLIEST_PLAUSIBLE_SECONDS = 1_735_689_600  # 2025-01-01


def disk_finding(what: str, path: Path, min_free_gb: float, free_gb: float | None = None) -> Finding:
    """Judge the free space where ``path`` lies or will lie."""
    free = free_bytes(path) if free_gb is None else int(free_gb * 1e9)
    seen = free_words(path, free)
    fix = f"Free space there, or put the {what} elsewhere (docs/how-to/operations.md)"
    if free < FULL_BYTES:
        return problem(f"disk: {what}", f"it is full: {seen}", fix)
    if free < min_free_gb * 1e9:
        return problem(f"disk: {what}", f"{seen}, below the {min_free_gb:g} GB of warehouse.min_free_gb", fix)
    if free < COMFORTABLE_DISK_GB * 1e9:
        return warning(f"disk: {what}", f"{seen}, below the {COMFORTABLE_DISK_GB:g} GB that hours of load want", fix)
    return fine(f"disk: {what}", seen)


def memory_finding(driver_memory: str, *, stack_runs: bool, available_gb: float | None = None) -> Finding:
    """Judge the memory left for a stack that is still to be started."""
    available = psutil.virtual_memory().available / 1e9 if available_gb is None else available_gb
    seen = f"{available:.1f} GB available"
    needed = BROKER_GB + PYTHON_GB + heap_gb(driver_memory)
    if stack_runs or available >= needed:
        return fine("memory", seen)
    return warning(
        "memory",
        f"{seen}; broker and Spark want about {needed:.1f} GB",
        "End other programs, or give Spark less: --set spark.driver_memory=1g",
    )


def heap_gb(spark_memory: str) -> float:
    """Return "2g", "512m" or "1048576k" as GB."""
    units = {"k": 1e-6, "m": 1e-3, "g": 1.0, "t": 1e3}
    text = spark_memory.strip().lower().removesuffix("b")
    return float(text[:-1]) * units[text[-1]] if text[-1:] in units else float(text) / 1e9


def port_findings(stack: StackNow, wanted_port: int) -> list[Finding]:
    """Judge the ports of a running stack, or those the next one would take."""
    if stack.runs and not stack.ports:
        return [fine("ports", "nothing of the running stack listens yet")]
    if stack.runs:
        deaf = {name: port for name, port in stack.ports.items() if not accepts_connections(port)}
        if deaf:
            told = ", ".join(f"{name} {port}" for name, port in deaf.items())
            return [problem("ports", f"the running stack does not answer on {told}", "thalweg down && thalweg up")]
        return [fine("ports", ", ".join(f"{name} {port}" for name, port in stack.ports.items()) + " answer")]
    if stack.left:
        return [fine("ports", "those of the stack that was cut off are free when what it left has ended")]
    try:
        other = free_port(taken=[wanted_port])
    except NoFreePortError:
        fix = "See who listens: ss -ltnp"
        return [problem("ports", f"none between {FIRST_PORT} and {LAST_PORT} is free", fix)]
    if is_free(wanted_port):
        return [fine("ports", f"{wanted_port} and others are free")]
    return [
        warning(
            "ports",
            f"{wanted_port} is taken; the stack will choose another, such as {other}",
            "Nothing, if clients ask `thalweg ps` for the address; else free it: ss -ltnp",
        )
    ]


def clock_finding(
    wall: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Finding:
    """Judge whether the wall clock is plausible and runs as fast as the clock that nobody can set."""
    wall_before, monotonic_before = wall(), monotonic()
    sleep(0.25)
    drift_ms = ((wall() - wall_before) - (monotonic() - monotonic_before)) * 1000
    fix = "Let the machine keep time: timedatectl set-ntp true"
    if wall_before < EARLIEST_PLAUSIBLE_SECONDS:
        return problem("clock", f"it is said to be {time.strftime('%Y-%m-%d', time.gmtime(wall_before))}", fix)
    if abs(drift_ms) > CLOCK_TOLERANCE_MS:
        return problem("clock", f"the wall clock moved {drift_ms:+.0f} ms against the monotonic one in 250 ms", fix)
    return fine("clock", f"wall and monotonic clock agree within {abs(drift_ms):.1f} ms over 250 ms")


def skew_finding(broker_ms: float, before_ms: float, after_ms: float) -> Finding:
    """Judge the broker's clock against ours.

    Args:
        broker_ms: What the broker stamped on a record.
        before_ms: Our clock before the record was sent.
        after_ms: Our clock after it was acknowledged.
    """
    # Anywhere between sending and acknowledgement is right.
    skew_ms = max(0.0, before_ms - broker_ms, broker_ms - after_ms)
    seen = f"the broker's clock is {skew_ms:.0f} ms off ours, beyond what the way there takes"
    fix = "Let both machines keep time: timedatectl set-ntp true"
    if skew_ms > SKEW_PROBLEM_MS:
        return problem("broker's clock", seen, fix)
    if skew_ms > SKEW_WARNING_MS:
        return warning("broker's clock", seen, fix)
    return fine("broker's clock", f"agrees with ours within {after_ms - before_ms:.0f} ms")
