"""What every micro-batch tells Prometheus, by job."""

from typing import Final

from prometheus_client import Counter, Histogram

# Up to a trigger interval is good, a second is late, ten are an outage.
_SECONDS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)

BATCHES = Counter("thalweg_batches_total", "Micro-batches ended.", ["job"])
BATCH_SECONDS = Histogram(
    "thalweg_batch_seconds",
    "Time of one micro-batch by what it is spent on: `read`, `decide`, each step, `all`.",
    ["job", "step"],
    buckets=_SECONDS,
)
READ_THROUGH = Counter(
    "thalweg_read_batches_total", "Micro-batches by how their records were read.", ["job", "through"]
)
STEP_FAILURES = Counter("thalweg_step_failures_total", "Steps that failed and were tried again.", ["job", "step"])
REFUSED = Counter("thalweg_refused_total", "Records refused to the dead-letter topic.", ["job"])
