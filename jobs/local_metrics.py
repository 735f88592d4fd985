"""What running several queries in one application tells Prometheus."""

from prometheus_client import Counter

FAILURES = Counter("thalweg_query_failures_total", "Streaming queries that ended with an error.", ["job"])
