"""What `jobs/observe` tells Prometheus."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

# Up to a trigger interval is good, a second is late, ten are an outage.
_SECONDS: Final = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8, 1, 2, 5, 10, 30, 60)

SAMPLES = Counter("thalweg_observe_samples", "Samples accepted into the history.", ["writer"])
QUARANTINED = Counter("thalweg_observe_quarantined", "Samples and records quarantined.", ["rule"])
BATCHES = Counter("thalweg_observe_batches", "Micro-batches finished.", ["writer"])
FRESHNESS_SECONDS = Histogram(
    "thalweg_observe_freshness_seconds",
    "Age of a micro-batch's oldest record, by the broker's clock, when its commit was done.",
    buckets=_SECONDS,
)
LAG_RECORDS = Gauge("thalweg_observe_lag_records", "Records in the topics that are not yet taken.")
