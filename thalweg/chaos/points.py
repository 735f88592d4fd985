"""The moments of a micro-batch at which a process may be told to die: each job's, in the order they are passed."""

from typing import Final

from thalweg.jobs.placement import placer
from thalweg.jobs.replication import replicator
from thalweg.jobs.telemetry import observer

ORDERS: Final = {"place": placer.ORDER, "observe": observer.ORDER, "replicate": replicator.ORDER}
"""The steps of each job's batch."""


def moments(job: str) -> tuple[str, ...]:
    """Name a job's moments: read, decided, before and after each step, ended (and Spark does not know it yet)."""
    steps = [f"{when} {step}" for step in ORDERS[job] for when in ("before", "after")]
    return tuple(f"{job}: {moment}" for moment in ("read", "decided", *steps, "ended"))


POINTS: Final = tuple(point for job in ORDERS for point in moments(job))
DRIVER_POINTS: Final = moments("place")
JOBS_POINTS: Final = (*moments("observe"), *moments("replicate"))
