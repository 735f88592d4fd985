"""The state of a run: what its facts have led to. `take` is the only thing that changes it."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from thalweg.learning.rounds.facts import Fact, FactKind
from thalweg.learning.rounds.run_spec import RunSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """Who takes part."""

    region: str
    public_key: str = ""
    life: int = 0
    """The turn that it joined with; it leaves with the same."""


@dataclass(slots=True, kw_only=True)
class Round:
    """The open one."""

    number: int
    called: frozenset[str]
    """Who is asked; of an asynchronous strategy nobody in particular."""
    deadline_ms: int
    """0 for none."""
    members: int
    """At its opening."""
    accepted: dict[tuple[str, int], Fact] = field(default_factory=dict)
    """By participant and turn (0 where each has one; the exchange where updates are secret)."""
    carried: list[str] = field(default_factory=list)
    """Where updates are secret: digests of what the exchanges that are over have brought."""

    @property
    def exchange(self) -> int:
        """Where updates are secret: the exchange that is asked for, from 1."""
        return len(self.carried) + 1


@dataclass(slots=True, kw_only=True)
class Run:
    """One run."""

    model: str
    spec: RunSpec
    sha256: str
    """Of the newest version's vector."""
    version: int = 0
    last_round: int = 0
    missed: int = 0
    """Rounds in a row that made no version."""
    released: int = 0
    """Versions made: each has spent privacy, where the run is private."""
    members: dict[str, Member] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    """Public keys of everybody who ever joined: a name that had a key is nobody else's later."""
    next_life: dict[str, int] = field(default_factory=dict)
    """The least turn with which each participant may join: what it once said cannot be said again by others."""
    answered: dict[str, int] = field(default_factory=dict)
    """The newest round, or turn, of each participant that was taken."""
    open: Round | None = None
    asked: tuple[str, ...] = ()
    """Whom the plane was asked to place: tasks, by their ids, which are their names here."""
    ended: str = ""
    """Why; empty while it goes on."""

    def absent(self) -> list[str]:
        """Name those who were asked for and do not take part: their tasks wait, or have failed."""
        return [name for name in self.asked if name not in self.members]

    def take(self, fact: Fact) -> None:
        """Go on by one fact."""
        match fact.kind:
            case FactKind.JOINED:
                self.members[fact.participant] = Member(region=fact.region, public_key=fact.public_key, life=fact.turn)
                self.next_life[fact.participant] = fact.turn
                if fact.public_key:
                    self.keys[fact.participant] = fact.public_key
            case FactKind.LEFT:
                self.members.pop(fact.participant, None)
                self.next_life[fact.participant] = fact.turn + 1
            case FactKind.OPENED:
                self.last_round = fact.round_number
                self.open = Round(
                    number=fact.round_number,
                    called=frozenset(fact.called),
                    deadline_ms=fact.deadline_ms,
                    members=len(self.members),
                )
            case FactKind.ACCEPTED:
                assert self.open is not None
                self.open.accepted[fact.participant, fact.turn] = fact
                self.answered[fact.participant] = fact.turn if self.spec.way.asynchronous else fact.round_number
            case FactKind.ADVANCED:
                assert self.open is not None
                self.open.carried.append(fact.sha256)
                self.open.deadline_ms = fact.deadline_ms
            case FactKind.CLOSED:
                self.open, self.missed = None, 0
                self.version, self.sha256 = fact.version, fact.sha256
                self.released += 1
            case FactKind.MISSED:
                self.open = None
                self.missed += 1
            case FactKind.ENDED:
                self.open, self.ended = None, fact.reason
            case FactKind.STARTED | FactKind.REFUSED:
                pass


Runs = dict[str, Run]


def take(runs: Runs, fact: Fact) -> None:
    """Let a fact change the run that it is of."""
    if fact.kind is FactKind.STARTED:
        assert fact.spec is not None
        runs[fact.model] = Run(model=fact.model, spec=fact.spec, sha256=fact.sha256, asked=fact.called)
    elif fact.model in runs:
        runs[fact.model].take(fact)


def replayed(facts: Iterable[Fact]) -> Runs:
    """Make the runs that facts lead to, in their order."""
    runs: Runs = {}
    for fact in facts:
        take(runs, fact)
    return runs
