"""What `jobs/replicate` tells Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

UPDATES = Counter("thalweg_replicate_updates_total", "Updates merged.")
REFUSED = Counter("thalweg_replicate_refused_total", "Messages refused.")
CONFLICTS = Counter("thalweg_replicate_conflicts_total", "Concurrent pairs of writes.")
READ_THROUGH = Counter(
    "thalweg_replicate_read_batches_total", "Micro-batches by how their records were read.", ["through"]
)
RECORDS_HELD = Gauge("thalweg_replicate_records", "Records in the driver's memory.")
BATCH_SECONDS = Histogram(
    "thalweg_replicate_batch_seconds",
    "Time of one micro-batch by step.",
    ["step"],
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
