"""docs/decisions/index.md: every decision under its group, with what has become of it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from thalweg.reference.pages import page_text, table, title

GROUPS: Final = (
    "Project",
    "Local stack",
    "Broker and agents",
    "Tables",
    "Telemetry",
    "Sync plane",
    "Place job and ledger",
    "Plan",
    "Policy",
    "Packing",
    "Replay",
    "Learning",
)
"""Allowed after `Group:`, in the order of the index."""
_STATUS: Final = re.compile(r"accepted|rejected idea|superseded by (\d{4})|accepted, in part superseded by (\d{4})")
_HEADER: Final = re.compile(r"# .+\n\nStatus: (?P<status>.+)\nGroup: (?P<group>.+)\n\n")


class DecisionHeaderError(ValueError):
    """A decision lacks its status or its group, or has one that is not known; the message names each."""

    def __init__(self, problems: Sequence[str]) -> None:
        """Name every problem at once."""
        super().__init__(
            "\n".join(problems)
            + "\na decision begins with its title, an empty line, its status, its group, an empty line; allowed are:\n"
            "    Status: accepted | rejected idea | superseded by NNNN | accepted, in part superseded by NNNN\n"
            f"    Group: {' | '.join(GROUPS)}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionEntry:
    """What the index says of a decision."""

    name: str
    """Of its file."""
    title: str
    status: str
    group: str


def decisions_page(folder: Path) -> str:
    """The index of a folder of decisions, a heading a group.

    Raises:
        DecisionHeaderError: if a decision lacks its status or group.
    """
    found = read_decisions(folder)
    parts = []
    for group in GROUPS:
        rows = [
            (f"[{decision.name[:4]}]({decision.name})", decision.title, decision.status)
            for decision in found
            if decision.group == group
        ]
        if rows:
            parts.append(f"## {group}\n\n{table(('number', 'decision', 'status'), rows)}")
    return page_text("Decisions", "How they are written: [0001](0001-record-decisions.md).", *parts)


def read_decisions(folder: Path) -> list[DecisionEntry]:
    """Every decision by its number.

    Raises:
        DecisionHeaderError: if one lacks its status or group, or names a successor that is not there.
    """
    found, problems = [], []
    numbers = {path.name[:4] for path in folder.glob("[0-9]*.md")}
    for path in sorted(folder.glob("[0-9]*.md")):
        text = path.read_text(encoding="utf-8")
        header = _HEADER.match(text)
        if header is None:
            lines = " / ".join(text.splitlines()[2:4])
            problems.append(f"{path.name}: wanted are a Status and a Group below the title, seen is {lines[:80]!r}")
            continue
        status, group = header["status"], header["group"]
        allowed = _STATUS.fullmatch(status)
        if allowed is None:
            problems.append(f"{path.name}: no such status: {status!r}")
        elif (successor := allowed[1] or allowed[2]) and successor not in numbers:
            problems.append(f"{path.name}: {status!r}, but there is no decision {successor}")
        if group not in GROUPS:
            problems.append(f"{path.name}: no such group: {group!r}")
        found.append(DecisionEntry(name=path.name, title=title(path), status=status, group=group))
    if problems:
        raise DecisionHeaderError(problems)
    return found
