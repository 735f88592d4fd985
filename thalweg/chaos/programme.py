"""The programme of a chaos: what is done to whom and when, drawn from a seed before anything runs.

Kills are as many as asked, spread over the whole time; every role dies before one dies twice, and the points of the
micro-batch are gone through like a deck of cards, so that none is left out. The other troubles are drawn likewise.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

DRIVER, STANDBY, JOBS, BROKER, UPKEEP = "driver", "standby", "jobs", "broker", "maintain"
AGENTS: Final = ("agents-1", "agents-2")
ROLES: Final = (DRIVER, STANDBY, JOBS, BROKER, UPKEEP, *AGENTS)

KILLS: Final[Mapping[str, int]] = {DRIVER: 6, STANDBY: 1, JOBS: 4, BROKER: 2, UPKEEP: 1, AGENTS[0]: 4, AGENTS[1]: 4}
"""How often each role dies in a deck. A JVM takes half a minute of a core to be back; an agent two seconds."""

TROUBLES_A_MINUTE: Final = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class TroubleKind:
    """One kind of trouble, and what may be drawn for it."""

    name: str
    roles: Sequence[str]
    amounts: Sequence[float] = (0.0,)
    """Milliseconds of delay, milliseconds of clock, or records, as the kind has it."""
    seconds: tuple[float, float] = (0.0, 0.0)
    """Shortest and longest time it lasts."""


_ON_A_LINK: Final = (DRIVER, JOBS, *AGENTS)
TROUBLES: Final = (
    TroubleKind(name="freeze", roles=(JOBS, BROKER, *AGENTS), seconds=(3, 14)),
    TroubleKind(name="freeze driver until it is overtaken", roles=(DRIVER,), seconds=(14, 18)),
    TroubleKind(name="slow disk", roles=(DRIVER, JOBS, *AGENTS), amounts=(50, 200, 500), seconds=(6, 12)),
    TroubleKind(name="full disk", roles=(DRIVER, JOBS, BROKER, *AGENTS), seconds=(3, 8)),
    TroubleKind(name="cut network", roles=_ON_A_LINK, seconds=(3, 14)),
    TroubleKind(name="half-open network", roles=_ON_A_LINK, seconds=(3, 14)),
    TroubleKind(name="slow network", roles=_ON_A_LINK, amounts=(50, 300), seconds=(6, 12)),
    TroubleKind(name="delivery delayed", roles=("requests",), seconds=(4, 10)),
    TroubleKind(name="delivery repeated", roles=("requests", "status", "assignments"), amounts=(20, 200)),
    TroubleKind(
        name="clock step",
        roles=(DRIVER, JOBS, *AGENTS),
        amounts=(-3_600_000, -60_000, -2_000, 2_000, 60_000, 3_600_000),
        seconds=(5, 15),
    ),
    TroubleKind(name="commit file deleted", roles=(DRIVER, JOBS)),
    TroubleKind(name="checkpoint put back", roles=(DRIVER, JOBS), seconds=(5, 15)),
    TroubleKind(name="table's checkpoint pointer deleted", roles=(DRIVER, JOBS)),
    TroubleKind(name="agent's file put back", roles=AGENTS, seconds=(5, 15)),
    TroubleKind(name="topic made anew", roles=("assignments", "status", "telemetry")),
    TroubleKind(name="second driver", roles=(DRIVER,), seconds=(20, 30)),
    TroubleKind(name="second agent", roles=AGENTS, seconds=(10, 20)),
)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosAct:
    """One thing that is done."""

    at_s: float
    """Not before so long after the first assignment."""
    what: str
    """`kill`, or a kind of trouble."""
    who: str
    """A role, or the kind of topic."""
    which: int = 0
    """Chooses among regions or records."""
    amount: float = 0.0
    seconds: float = 0.0
    point: str = ""
    """Where a kill is to hit; empty for wherever it is."""

    def in_words(self) -> str:
        """Say it."""
        amount = f" {self.amount:+g}" if self.amount else ""
        lasts = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.what}: {self.who}{amount}{f' at {self.point!r}' if self.point else ''}{lasts}"


def programme(
    *, seed: int, kills: int, minutes: float, driver_points: Sequence[str], jobs_points: Sequence[str]
) -> list[ChaosAct]:
    """Draw a programme, in the order of its times.

    Args:
        seed: same seed, same programme.
        kills: how many processes are killed.
        minutes: in what time.
        driver_points: where the driver's micro-batch can be hit.
        jobs_points: where those of the other jobs can.
    """
    rng = random.Random(seed)
    roles = _deck(rng, ROLES, [role for role, count in KILLS.items() for _ in range(count)])
    points = {DRIVER: _deck(rng, driver_points, driver_points), JOBS: _deck(rng, jobs_points, jobs_points)}
    acts = []
    for at_s in _moments(rng, kills, minutes):
        role = next(roles)
        acts.append(ChaosAct(at_s=at_s, what="kill", who=role, point=next(points[role]) if role in points else ""))
    kinds = _deck(rng, TROUBLES, TROUBLES)
    acts += [_trouble(rng, next(kinds), at_s) for at_s in _moments(rng, round(minutes * TROUBLES_A_MINUTE), minutes)]
    return sorted(acts, key=lambda act: act.at_s)


def _deck(rng: random.Random, first: Sequence[_T], rest: Sequence[_T]) -> Iterator[_T]:
    """Deal one deck after the other, each shuffled: the first, and then the others without end."""
    cards = first
    while True:
        yield from rng.sample(cards, len(cards))
        cards = rest


def _moments(rng: random.Random, count: int, minutes: float) -> list[float]:
    """Seconds, one in each equal part of the time."""
    return [(part + rng.random()) * minutes * 60 / count for part in range(count)]


def _trouble(rng: random.Random, kind: TroubleKind, at_s: float) -> ChaosAct:
    return ChaosAct(
        at_s=at_s,
        what=kind.name,
        who=rng.choice(kind.roles),
        which=rng.randrange(1_000),
        amount=rng.choice(kind.amounts),
        seconds=rng.uniform(*kind.seconds),
    )
