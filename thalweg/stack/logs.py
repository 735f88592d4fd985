"""What the logs of a stack complain of: its newest error, in one line."""

import json
import re
from pathlib import Path
from typing import Final

from thalweg.conf.words import cut_short

_RAISED: Final = re.compile(r"^[\w.]*(?:Error|Exception)\b.*", re.MULTILINE)
_LAST_BYTES: Final = 1_048_576
"""Of each log; who repeats an error fills more than that soon, and the newest lies at the end."""


def newest_error(folder: Path) -> str | None:
    """Return the newest line of level error in a folder of logs, or None.

    Where it carries a stack trace, what was raised last says more than where: that line stands for the rest.
    """
    found = [(line["at"], name, line) for name, text in _ends(folder) for line in _errors(text)]
    if not found:
        return None
    at, name, line = max(found, key=lambda one: one[:2])
    told = str(line.get("error", "")).strip()
    raised = _RAISED.findall(told)
    said = " ".join(filter(None, [line.get("job"), line["message"]]))
    return f"{at[:19]}Z {name}: {said}" + (f": {cut_short((raised or [told])[-1])}" if told else "")


def _ends(folder: Path) -> list[tuple[str, str]]:
    ends = []
    for path in sorted(folder.glob("*.log")):
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - _LAST_BYTES))
            ends.append((path.stem, log.read().decode(errors="replace")))
    return ends


def _errors(text: str) -> list[dict[str, str]]:
    """Our own lines of level error; what else is in the file (a JVM's words, half a line) is passed over."""
    errors = []
    for line in text.splitlines():
        try:
            said = json.loads(line) if line.startswith("{") else None
        except ValueError:
            continue
        if isinstance(said, dict) and said.get("level") == "error" and {"at", "message"} <= said.keys():
            errors.append(said)
    return errors
