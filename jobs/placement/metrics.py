"""Metrics of `jobs/place`. A module of their own: a job run as a program is imported a second time by its name."""

from prometheus_client import Counter, Gauge

REQUESTS_SEEN = Counter("thalweg_place_requests_total", "Requests read.")
EVENTS = Counter("thalweg_place_events_total", "Assignment events published.")
LEFT_OUT = Gauge("thalweg_place_left_out_facts", "Facts that cannot be digested and are left out, by kind.", ["kind"])
WAITING_TASKS = Gauge("thalweg_place_waiting_tasks", "Tasks that wait.")
DELAY_USD_PER_HOUR = Gauge(
    "thalweg_place_delay_usd_per_hour", "What an hour's delay of all tasks that wait costs, in US dollars."
)
PLAN_GAP = Gauge("thalweg_place_plan_gap", "Gap of the last plan: (objective - bound) / objective.")
LOOK_SECONDS = Gauge("thalweg_place_look_again_seconds", "How long the last look at what runs took, beside the stream.")
PROPOSED_MOVES = Counter("thalweg_place_proposed_moves_total", "Moves that looks at what runs proposed.")
LOOKED_AGAIN_MOVES = Counter("thalweg_place_looked_again_moves_total", "Of these, moves that were proved and made.")
RECORD_LAG = Gauge("thalweg_place_record_lag_seconds", "Age of the oldest record of the last batch when it was read.")
