"""What an S3 server was asked, by the lines of its log (werkzeug's): where, what kind, and how many a micro-batch."""

import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, unquote

WAREHOUSE: Final = "thalweg"
"""The warehouse's folder in the bucket."""
CHECKPOINTS: Final = "checkpoints"
PROBE: Final = "probe"
"""What the measurement itself asks for lies here, and is not counted."""

CHECKPOINT: Final = "checkpoint"
LEDGER: Final = "decisions"

_COLOUR: Final = r"(?:\x1b\[[\d;]*m)*"
_LINE: Final = re.compile(
    rf'\[(?P<at>[^\]]+)\] "{_COLOUR}(?P<method>[A-Z]+) (?P<path>\S+) HTTP/[\d.]+{_COLOUR}" (?P<status>\d+)'
)
_DATE: Final = "%d/%b/%Y %H:%M:%S"

# By a parameter of the query; without one, the method says it.
_BY_PARAMETER: Final = {
    "list-type": "list",
    "uploads": "begin upload",
    "partNumber": "put part",
    "uploadId": "end upload",
    "delete": "delete",
}
_NOT_FOUND: Final = 404


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRequest:
    """One line."""

    at_s: float
    """Seconds of the epoch, whole ones."""
    kind: str
    """What was done; with 404 where it was not there."""
    key: str
    """Of the object, or of what was listed; without the bucket."""


def read(lines: Iterable[str]) -> Iterator[StoreRequest]:
    """Read a log; what is no request is left out."""
    for line in lines:
        if (found := _LINE.search(line)) is None:
            continue
        path, _, query = found["path"].partition("?")
        told = parse_qs(query, keep_blank_values=True)
        kind = next((kind for name, kind in _BY_PARAMETER.items() if name in told), found["method"].lower())
        key = told.get("prefix", [""])[0] if kind == "list" else unquote(path.lstrip("/").partition("/")[2])
        yield StoreRequest(
            at_s=time.mktime(time.strptime(found["at"], _DATE)),
            kind=f"{kind} 404" if int(found["status"]) == _NOT_FOUND else kind,
            key=key,
        )


def place_of(key: str) -> str:
    """Say whose an object is: the checkpoint, a table's log or files, or others."""
    folder, _, rest = key.partition("/")
    if folder == CHECKPOINTS:
        return CHECKPOINT
    table, _, name = rest.partition("/")
    if folder != WAREHOUSE or not table:
        return "others"
    return f"{table} log" if name.startswith("_delta_log") else f"{table} files"


def is_on_the_way(place: str) -> bool:
    """Tell whether a micro-batch waits for what happens there, as far as the place can tell."""
    return place == CHECKPOINT or place.partition(" ")[0] == LEDGER


def batches(requests: Iterable[StoreRequest]) -> int:
    """Count the micro-batches whose end Spark has noted."""
    noted = (re.search(rf"^{CHECKPOINTS}/[^/]+/commits/(\d+)$", request.key) for request in requests)
    return len({found[1] for found in noted if found is not None})


def by_place(requests: Iterable[StoreRequest]) -> dict[str, Counter[str]]:
    """Count requests by place and kind; without those of the measurement itself."""
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for request in requests:
        if request.key.partition("/")[0] != PROBE:
            counted[place_of(request.key)][request.kind] += 1
    return counted


def one_after_another_ms(counted: Mapping[str, Mapping[str, float]], round_trip_ms: Mapping[str, float]) -> float:
    """How long what a batch waits for takes if each request waits for the one before.

    Args:
        counted: requests a batch by place and kind.
        round_trip_ms: of put, get, head, list and delete; the steps of an upload take a put's.
    """
    return sum(
        number * round_trip_ms.get(kind.removesuffix(" 404"), round_trip_ms["put"])
        for place, kinds in counted.items()
        if is_on_the_way(place)
        for kind, number in kinds.items()
    )
