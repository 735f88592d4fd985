"""What comparing checkpoints, tables and topics tells Prometheus."""

from prometheus_client import Counter

MISMATCHES = Counter(
    "thalweg_origin_mismatches_total",
    "Differences found between a query's checkpoint and the cluster, topics and tables that are here.",
    ["job", "kind"],
)
RECORDS_LOST = Counter(
    "thalweg_records_lost_total", "Records that expired or were deleted before a query read them.", ["job", "topic"]
)
