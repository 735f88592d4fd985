"""Which mistakes are tried: a sample by seed, each room by its lines of code. Pure but for reading the files."""

import random
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from thalweg.benchmarks.mutants.mutations import Mutation, lines_of, mutations

ROOMS: Final[Mapping[str, str]] = {
    "scheduling": "scheduling",
    "sync": "sync",
    "streams": "streams",
    "jobs": "jobs",
    "agent": "thalweg/agent",
}
"""Folder of each, in the tree."""
LEFT_OUT: Final = ("sync/proof/",)
"""Tests themselves: the simulator, its oracle and its mutants."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A mistake that is to be tried."""

    number: int
    room: str
    path: str
    mutation: Mutation


def sources(root: Path) -> dict[str, dict[str, str]]:
    """Read the product's modules: room → path → text."""
    return {room: dict(_modules(root, folder)) for room, folder in ROOMS.items()}


def _modules(root: Path, folder: str) -> list[tuple[str, str]]:
    paths = sorted(path.relative_to(root).as_posix() for path in (root / folder).rglob("*.py"))
    kept = [path for path in paths if not path.startswith(LEFT_OUT)]
    return [(path, (root / path).read_text(encoding="utf-8")) for path in kept]


def draw(rooms: Mapping[str, Mapping[str, str]], count: int, seed: int) -> list[Drawn]:
    """Draw mistakes without replacement, at most one a line; in a random order, so that the first few are a sample too.

    Args:
        rooms: room → path → text.
        count: how many.
        seed: of the draw.
    """
    chance = random.Random(seed)
    lines = {room: sum(map(lines_of, texts.values())) for room, texts in rooms.items()}
    found: list[tuple[str, str, Mutation]] = []
    for room, share in shares(lines, count).items():
        every = [(path, one) for path, text in sorted(rooms[room].items()) for one in mutations(text)]
        chance.shuffle(every)
        seen: set[tuple[str, int]] = set()
        for path, one in every:
            if len(seen) == share:
                break
            if (path, one.line) not in seen:
                seen.add((path, one.line))
                found.append((room, path, one))
    chance.shuffle(found)
    return [
        Drawn(number=number, room=room, path=path, mutation=one) for number, (room, path, one) in enumerate(found, 1)
    ]


def draw_another(
    texts: Mapping[str, str], taken: AbstractSet[tuple[str, str]], room: str, number: int, seed: int
) -> Drawn:
    """Draw one more of a room, in the place of a number.

    Args:
        texts: path → text.
        taken: paths and lines that were drawn already.
        room: that they are of.
        number: of the one that it stands for.
        seed: of the first draw.
    """
    every = [
        (path, one)
        for path, text in sorted(texts.items())
        for one in mutations(text)
        if (path, text.splitlines()[one.line - 1].strip()) not in taken
    ]
    path, mutation = random.Random(f"{seed} {number}").choice(every)
    return Drawn(number=number, room=room, path=path, mutation=mutation)


def shares(lines: Mapping[str, int], count: int) -> dict[str, int]:
    """Deal a number out by lines: the largest remainders are rounded up."""
    total = sum(lines.values())
    exact = {room: count * of / total for room, of in lines.items()}
    dealt = {room: int(share) for room, share in exact.items()}
    by_remainder: Sequence[str] = sorted(exact, key=lambda room: (dealt[room] - exact[room], room))
    for room in by_remainder[: count - sum(dealt.values())]:
        dealt[room] += 1
    return dealt
