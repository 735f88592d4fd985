"""What running several queries in one application tells Prometheus."""

from prometheus_client import Counter, Gauge

FAILURES = Counter("thalweg_query_failures_total", "Streaming queries that ended with an error.", ["job"])
FAILING = Gauge(
    "thalweg_query_failing", "1 where a query fails again and again (jobs/runtime/health.py), else 0.", ["job"]
)
