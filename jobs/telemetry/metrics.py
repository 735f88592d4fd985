"""What `jobs/observe` tells Prometheus."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

# Up to a trigger interval is good, a second is late, ten are an outage.
_SECONDS: Final = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8, 1, 2, 5, 10, 30, 60)

SAMPLES = Counter("thalweg_observe_samples", "Samples accepted into the history.", ["writer"])
QUARANTINED = Counter("thalweg_observe_quarantined", "Samples and records quarantined.", ["rule"])
DEAD_LETTERS = Counter("thalweg_observe_dead_letters", "Records refused to the dead-letter topic.")
BATCHES = Counter("thalweg_observe_batches", "Micro-batches finished.", ["writer"])
READ_THROUGH = Counter(
    "thalweg_observe_read_batches", "Micro-batches of the driver by how their records were read.", ["through"]
)
BATCH_SECONDS = Histogram("thalweg_observe_batch_seconds", "Time of a micro-batch in our hands.", buckets=_SECONDS)
FRESHNESS_SECONDS = Histogram(
    "thalweg_observe_freshness_seconds",
    "Age of a micro-batch's oldest record, by the broker's clock, when its commit was done.",
    buckets=_SECONDS,
)
LAG_RECORDS = Gauge("thalweg_observe_lag_records", "Records in the topics that are not yet taken.")
STORE_FAILURES = Counter("thalweg_observe_store_failures", "Commits that failed and were tried again.", ["table"])
