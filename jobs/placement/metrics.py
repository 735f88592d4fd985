"""Metrics of `jobs/place`. A module of their own: a job run as a program is imported a second time by its name."""

from prometheus_client import Counter, Gauge

REQUESTS_SEEN = Counter("thalweg_place_requests_total", "Requests read.")
EVENTS = Counter("thalweg_place_events_total", "Assignment events published.")
LEFT_OUT = Gauge("thalweg_place_left_out_facts", "Facts that cannot be digested and are left out, by kind.", ["kind"])
WAITING_TASKS = Gauge("thalweg_place_waiting_tasks", "Tasks that wait.")
PLAN_GAP = Gauge("thalweg_place_plan_gap", "Gap of the last plan: (objective - bound) / objective.")
RECORD_LAG = Gauge("thalweg_place_record_lag_seconds", "Age of the oldest record of the last batch when it was read.")
