"""Metrics of `jobs/place`. A module of their own: a job run as a program is imported a second time by its name."""

from prometheus_client import Counter, Gauge, Histogram

BATCHES = Counter("thalweg_place_batches_total", "Micro-batches ended.")
REQUESTS_SEEN = Counter("thalweg_place_requests_total", "Requests read.")
REFUSED = Counter("thalweg_place_refused_total", "Records refused to the dead-letter topic.")
EVENTS = Counter("thalweg_place_events_total", "Assignment events published.")
BATCH_SECONDS = Histogram(
    "thalweg_place_batch_seconds",
    "Time of one micro-batch by step.",
    ["step"],
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
READ_THROUGH = Counter("thalweg_place_read_batches_total", "Micro-batches by how their records were read.", ["through"])
LEFT_OUT = Gauge("thalweg_place_left_out_facts", "Facts that cannot be digested and are left out, by kind.", ["kind"])
WAITING_TASKS = Gauge("thalweg_place_waiting_tasks", "Tasks that wait.")
PLAN_GAP = Gauge("thalweg_place_plan_gap", "Gap of the last plan: (objective - bound) / objective.")
RECORD_LAG = Gauge("thalweg_place_record_lag_seconds", "Age of the oldest record of the last batch when it was read.")
