"""What a model server tells Prometheus: the figures of its process."""

from collections.abc import Mapping
from typing import Final

from prometheus_client import Counter, Gauge, Histogram, generate_latest

ANSWERS: Final = Histogram(
    "thalweg_model_answer_seconds",
    "Time from a request's arrival in full to its answer, waiting included.",
    ["model"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
REQUESTS: Final = Counter(
    "thalweg_model_requests_total", "Requests by what became of them: answered, refused, failed, shed.",
    ["model", "outcome"],
)  # fmt: skip
SWAPS: Final = Counter("thalweg_model_swaps_total", "Versions that took over from another.", ["model"])
FETCHED: Final = Counter("thalweg_model_fetched_bytes_total", "Bytes of versions, as they were transferred.", ["model"])
REPEATED: Final = Counter("thalweg_model_repeated_total", "Answers that were given before.", ["model"])
IN_FLIGHT: Final = Gauge("thalweg_model_in_flight", "Requests that wait or are being answered.", ["model"])
VERSION: Final = Gauge(
    "thalweg_model_version", "Version by its part: serving, wanted, tried; 0 for none.", ["model", "part"]
)
TROUBLE: Final = Gauge(
    "thalweg_model_trouble",
    "1 where what is wanted does not serve, or what is to be tried cannot be, else 0.",
    ["model"],
)
COUNTED: Final[Mapping[str, str]] = {"requests": "answered", "refused": "refused", "failed": "failed", "shed": "shed"}


class ShownFigures:
    """A server's figures, as Prometheus reads them: counters go on from what was shown before."""

    def __init__(self, model: str) -> None:
        """Begin with none: of what is not there before its first count, Prometheus sees no increase."""
        self._model = model
        self._before: dict[str, float] = {}
        self.answers = ANSWERS.labels(model)
        self.of({}, trouble=False)

    def of(self, told: Mapping[str, float], *, trouble: bool) -> bytes:
        """Give the figures in Prometheus' text format.

        Args:
            told: by the server (`ModelServer.told`).
            trouble: whether there is any.
        """
        model = self._model
        for name, outcome in COUNTED.items():
            REQUESTS.labels(model, outcome).inc(self._more(told, name))
        for counter, name in ((SWAPS, "swaps"), (FETCHED, "fetched_bytes"), (REPEATED, "repeated")):
            counter.labels(model).inc(self._more(told, name))
        for part, name in (("serving", "version"), ("wanted", "wanted_version"), ("tried", "tried_version")):
            VERSION.labels(model, part).set(told.get(name, 0))
        IN_FLIGHT.labels(model).set(told.get("in_flight", 0))
        TROUBLE.labels(model).set(trouble)
        return generate_latest()

    def _more(self, told: Mapping[str, float], name: str) -> float:
        before, self._before[name] = self._before.get(name, 0), told.get(name, 0)
        return self._before[name] - before
