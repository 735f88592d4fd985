"""Numbers and ids that follow from names and contents: Flower's are drawn, and two runs of the same would differ."""

import json

from thalweg.learning.vectors.parameters import digest

_NUMBER_BITS = 63
"""Flower's ids are unsigned numbers of 64 bits; a sign is kept out of them."""


def number_of(*names: str) -> int:
    """Make Flower's number of a run or of a participant: the same for the same names, everywhere."""
    return int(digest(json.dumps(names).encode())[:16], 16) >> (64 - _NUMBER_BITS)


def call_id(run: str, participant: str, kind: str, group: str, content_sha256: str, turn: int) -> str:
    """Make the id of a call: 64 hexadecimal digits.

    A server app that dies and does the same again asks for the same, and is answered by what has been answered.

    Args:
        run: name of the run.
        participant: who is called.
        kind: Flower's message type.
        group: Flower's group id.
        content_sha256: what is asked.
        turn: how often the same was asked of the same participant before, in this life of the server app.
    """
    return digest(json.dumps([run, participant, kind, group, content_sha256, turn]).encode())
