"""What `jobs/replicate` tells Prometheus."""

from prometheus_client import Counter, Gauge

UPDATES = Counter("thalweg_replicate_updates_total", "Updates merged.")
CONFLICTS = Counter("thalweg_replicate_conflicts_total", "Concurrent pairs of writes.")
RECORDS_HELD = Gauge("thalweg_replicate_records", "Records in the driver's memory.")
