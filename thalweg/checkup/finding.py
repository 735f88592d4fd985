"""One thing the doctor looked at."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"  # works, but not as it should
    PROBLEM = "problem"  # something will fail


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was looked at, what was seen, and what to do about it (empty when all is well)."""

    check: str
    status: Severity
    seen: str
    fix: str = ""


def fine(check: str, seen: str) -> Finding:
    """Return a finding that needs nothing done."""
    return Finding(check=check, status=Severity.OK, seen=seen)


def warning(check: str, seen: str, fix: str) -> Finding:
    """Return a finding that somebody should know of."""
    return Finding(check=check, status=Severity.WARNING, seen=seen, fix=fix)


def problem(check: str, seen: str, fix: str) -> Finding:
    """Return a finding that will make something fail."""
    return Finding(check=check, status=Severity.PROBLEM, seen=seen, fix=fix)
