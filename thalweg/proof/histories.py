"""Histories: what people ask for and what goes wrong, drawn from a seed as plain data.

An act is one small step of trouble or of work. Acts name what they touch by number, so a history stays legal when some
of its acts are left out: that is how a failing one is made small.
"""

from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final

ROUND_MS: Final = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One thing that happens in a round."""

    what: str
    at: int
    """Round."""
    which: int = 0
    """Region, node or task by number, wrapped round."""
    amount: int = 0
    request: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultHistory:
    """One seed's machines and acts."""

    seed: int
    nodes: tuple[tuple[int, ...], ...]
    """GPUs of each node, by region."""
    survives: bool
    """Whether processes outlive their agent."""
    rounds: int
    acts: tuple[Act, ...]
    looks: bool = False
    """Whether the job looks again at what runs, while prices change."""


TROUBLE: Final = {
    # what: weight. Each is one kind of trouble; amounts are rounds, points to the death, or milliseconds.
    "zombie driver": 3,
    "freeze driver": 2,
    "freeze agent": 3,
    "cut agent": 4,
    "cut driver": 2,
    "answer lost to driver": 3,
    "answer lost to agent": 3,
    "commit unanswered": 3,
    "power lost": 2,
    "checkpoint lost": 1,
    "checkpoint put back": 2,
    "driver clock": 2,
    "agent clock": 2,
    "node goes": 3,
    "node drains": 2,
    "stop agent": 2,
    "region gone": 2,
    "agent's file lost": 3,
    "agent's file put back": 3,
    "agent's file another's": 1,
    "second agent": 3,
    "second agent on a copy": 2,
    "repeated request": 3,
    "repeated status": 5,
    "reports echoed": 4,
    "repeated events": 2,
    "nonsense": 2,
}
ORDERS: Final = {
    "drain": 4,
    "undrain": 2,
    "move": 3,
    "hold tenant": 1,
    "release tenant": 2,
    "node notice": 2,
    "nonsense order": 1,
}
"""What an operator does meanwhile, and how often; regions give the notices."""
OPERATOR_EVERY: Final = 8
"""Of so many histories one has an operator; the others show what is broken without one."""
LOOKS_EVERY: Final = 4
"""Of so many histories one has prices that change, and a job that looks again at what runs."""
PRICE: Final = "price"
MOST_KILLS: Final = 30
OF_THE_DRIVER: Final = frozenset(
    {
        "kill driver",
        "zombie driver",
        "freeze driver",
        "answer lost to driver",
        "commit unanswered",
        "power lost",
        "checkpoint lost",
        "checkpoint put back",
        "driver clock",
        "agent clock",
        "repeated request",
        "nonsense",
    }
)
"""Trouble that concerns no region: none of them may lose anything by it, however long it lasts."""
FILES_CHANGE: Final = frozenset(
    {
        "agent's file lost",
        "agent's file put back",
        "agent's file another's",
        "second agent",
        "second agent on a copy",
    }
)
"""Trouble after which the agents' files do not tell all that has happened."""
PUT_BACK: Final = "ledger put back"
"""A copy of the tables, with or without the checkpoint and the agents' files of its moment; the broker goes on."""
CLOCK_STEPS_MS: Final = (-600_000, -30_000, 30_000, 600_000)
NONSENSE: Final = ("no JSON", "{}", '{"task_id":"x","loss":1e400}', "[" * 1_100, '{"task_id":"\\ud800"}', "", "null")


def history(seed: int) -> FaultHistory:
    """Draw a history: some five seconds to half a minute of the line's time."""
    drawn = Random(seed)
    regions = drawn.randint(2, 4)
    nodes = tuple(tuple(drawn.choice((1, 2, 4, 8)) for _ in range(drawn.randint(1, 3))) for _ in range(regions))
    rounds = drawn.randint(20, 100)
    acts = [
        Act(what="submit", at=drawn.randrange(rounds), request=_request(drawn, number, regions))
        for number in range(drawn.randint(3, 20))
    ]
    tasks = len(acts)
    for _ in range(drawn.randint(0, tasks // 2)):
        acts.append(Act(what="cancel", at=drawn.randrange(rounds), which=drawn.randrange(tasks + 1)))
    for _ in range(drawn.randint(0, tasks // 3)):
        number = drawn.randrange(tasks)
        acts.append(Act(what="update", at=drawn.randrange(rounds), request=_request(drawn, number, regions)))
    acts += [
        _trouble(drawn, drawn.choice(("kill driver", "kill agent")), rounds)
        for _ in range(drawn.randint(0, MOST_KILLS))
    ]
    for what in drawn.choices(list(TROUBLE), list(TROUBLE.values()), k=drawn.randint(0, 8)):
        acts.append(_trouble(drawn, what, rounds))
    survives = drawn.random() < 0.5
    if seed % OPERATOR_EVERY == OPERATOR_EVERY - 1:
        orders = drawn.choices(list(ORDERS), list(ORDERS.values()), k=drawn.randint(3, 12))
        acts += [_trouble(drawn, what, rounds) for what in orders]
        for act in acts:
            if act.request is not None and drawn.random() < 0.3:
                act.request["kind"] = "infer"
    looks = seed % LOOKS_EVERY == LOOKS_EVERY - 2
    if looks:
        acts = _that_look(acts, Random(f"{seed}/prices"), rounds)
    acts.sort(key=lambda act: act.at)
    return FaultHistory(seed=seed, nodes=nodes, survives=survives, rounds=rounds, acts=tuple(acts), looks=looks)


def _that_look(acts: list[Act], drawn: Random, rounds: int) -> list[Act]:
    """Let some tasks run longer, and prices fall and rise by a factor of thirty: there is reason to move, and again."""
    for act in acts:
        if act.request is not None and drawn.random() < 0.5:
            act.request["expected_s"] = 20
    return acts + [
        Act(what=PRICE, at=drawn.randrange(rounds), which=drawn.randrange(12), amount=drawn.randrange(60))
        for _ in range(drawn.randint(4, 16))
    ]


def with_put_back(played: FaultHistory) -> FaultHistory:
    """Let the ledger be put back once or twice in a history, from a copy that was made while it ran."""
    drawn = Random(f"{played.seed}/put back")
    acts = [
        Act(
            what=PUT_BACK,
            at=drawn.randrange(played.rounds // 3, played.rounds),
            which=drawn.randrange(12),
            amount=drawn.randrange(60),
        )
        for _ in range(drawn.choice((1, 1, 2)))
    ]
    # Power takes what lies on the disk, not what was put there. What was lost is laid out anew by its times: where a
    # clock stepped by minutes, tasks are told to stop and placed again, which is safe, and not what is asked here.
    kept = [act for act in played.acts if act.what not in ("power lost", "driver clock", "agent clock")]
    return replace(played, acts=tuple(sorted([*kept, *acts], key=lambda act: act.at)))


def puts_files_back(act: Act) -> bool:
    """Whether the agents' files are put back, too."""
    return act.what == PUT_BACK and act.which % 4 == 0


def _trouble(drawn: Random, what: str, rounds: int) -> Act:
    return Act(
        what=what,
        at=drawn.randrange(rounds),
        which=drawn.randrange(12),
        amount=drawn.choice(CLOCK_STEPS_MS) if "clock" in what else drawn.randrange(60),
    )


def _request(drawn: Random, number: int, regions: int) -> dict[str, Any]:
    request: dict[str, Any] = {"task_id": f"t{number}", "expected_s": drawn.choice((0.1, 1, 3, 10))}
    per_worker: dict[str, Any] = {"cpus": drawn.choice((0, 0, 1, 4)), "memory_gb": drawn.choice((0, 0, 8))}
    if drawn.random() < 0.3:
        per_worker["gpu_milli"] = drawn.choice((100, 333, 500, 1_000))
    else:
        per_worker["gpus"] = drawn.choice((0, 1, 1, 1, 2, 4, 8))
    shape = drawn.random()
    if shape < 0.2:
        request["workers"] = drawn.choice((2, 3))
    elif shape < 0.3:
        request |= {"workers": 2, "min_workers": 1, "max_workers": drawn.choice((2, 4))}
    elif shape < 0.4:
        request["subtasks"] = [
            {"subtask_id": f"s{part}", "workers": 1, "per_worker": {"gpus": drawn.choice((0, 1, 2))}}
            for part in range(2)
        ]
        per_worker = {}
    if per_worker:
        request["per_worker"] = per_worker
    if drawn.random() < 0.2:
        request["replicas"] = 2
    elif drawn.random() < 0.15:
        request["allowed_regions"] = [f"r{drawn.randrange(regions)}"]
    if drawn.random() < 0.3:
        request["priority"] = drawn.choice((0, 400, 900, 1_000))
    if drawn.random() < 0.15:
        request["tenant"] = "other"
    return request
