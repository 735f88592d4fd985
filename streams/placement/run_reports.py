"""What a region says of a run that is over, as the ledger keeps it.

A ledger is kept for years and its rows are read at every start, so each part has a most. What is larger is left out and
said in words, never refused: the run has ended all the same.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from thalweg.scheduling.world.tasks import RunReport
from thalweg.streams.contract.decode import UndecodableError, check_depth
from thalweg.streams.contract.messages import StatusEvent
from thalweg.sync.ledger.run_outcome import RunOutcome, write_outcome

MOST_BYTES: Final[Mapping[str, int]] = {"result": 16_384, "metrics": 16_384, "artefacts": 16_384}
"""Of each part, as JSON. What is larger belongs into an object store, and its address among the artefacts."""
_LARGEST_CODE: Final = 2**32
_ENCODER: Final = msgspec.json.Encoder()


def run_report(event: StatusEvent) -> tuple[RunReport, str]:
    """Read what a report says of its run, and put into words what of it cannot be kept ("" where all is)."""
    kept: dict[str, msgspec.Raw] = {}
    wrong: list[str] = []
    for part, most in MOST_BYTES.items():
        value = getattr(event, part)
        if not value:
            continue
        encoded, objection = _encoded(value, most)
        if objection is None:
            kept[part] = msgspec.Raw(encoded)
        else:
            wrong.append(f"its {part} is left out: {objection}")
    code = event.exit_code
    if code is not None and abs(code) >= _LARGEST_CODE:
        code = None
        wrong.append("its exit_code is left out: it has more than 32 bits")
    outcome = RunOutcome(exit_code=code, started_ms=event.started_at, log=event.log, **kept)
    report = RunReport(cause=event.cause, exit_code=code, outcome=write_outcome(outcome))
    return report, "; ".join(wrong)


def _encoded(value: Any, most: int) -> tuple[bytes, str | None]:
    try:
        encoded = _ENCODER.encode(value)
        check_depth(encoded)  # others read it, too
    except (UndecodableError, OverflowError, msgspec.EncodeError) as error:
        return b"", str(error)
    seen = len(encoded)
    return encoded, None if seen <= most else f"it has {seen:,} bytes, allowed are {most:,}"
