"""Participants that a run asks for: tasks, each of which takes part under its own id.

An id begins with the run's name, so whoever speaks for a run can end no task but the run's own.
"""

from collections.abc import Collection


def asked_name(model: str, participant: str) -> str:
    """Name a participant of a run so that the plane can place it as a task."""
    return f"federated/{model}/{participant}"


def not_of(model: str, asked: Collection[str]) -> str:
    """Return the first name that is none of this run's participants; empty where all are.

    What follows the run's name has no slash: of two runs, one of whose names continues the other's, no name is of both.
    """
    first = asked_name(model, "")
    return next((name for name in asked if not (name.startswith(first) and _is_plain(name[len(first) :]))), "")


def _is_plain(word: str) -> bool:
    return bool(word) and "/" not in word
