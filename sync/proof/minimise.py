"""Make a failing history small: leave out whatever is not needed for the same check to fail.

Delta debugging over the steps (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", IEEE TSE
2002), then the network's and the clocks' faults one by one.
"""

from collections.abc import Callable, Iterator

from thalweg.sync.proof.histories import History, HistoryStep
from thalweg.sync.proof.simulator import Failure, run_history

Run = Callable[[History], Failure | None]

MAX_RUNS = 400  # a run takes about two milliseconds, so the whole stays below a second


def minimised(plan: History, check: str, run: Run = run_history, max_runs: int = MAX_RUNS) -> History:
    """Return the smallest history found that still fails the same check.

    Args:
        plan: A history that fails it.
        check: The name of the failed check.
        run: How to run a history.
        max_runs: When to be content.
    """
    left = max_runs

    def fails(candidate: History) -> bool:
        nonlocal left
        left -= 1
        failure = run(candidate)
        return failure is not None and failure.check == check

    for simpler in _fewer_faults(plan):
        if left > 0 and fails(simpler(plan)):
            plan = simpler(plan)
    size = max(1, len(plan.steps) // 2)
    while left > 0:
        smaller = next((c for c in _without_chunks(plan, size) if left > 0 and fails(c)), None)
        if smaller is not None:
            plan = smaller
        elif size == 1:
            break
        else:
            size //= 2
    return plan


def _without_chunks(plan: History, size: int) -> Iterator[History]:
    for start in range(0, len(plan.steps), size):
        yield plan._replace(steps=plan.steps[:start] + plan.steps[start + size :])


def _fewer_faults(plan: History) -> Iterator[Callable[[History], History]]:
    yield lambda p: p._replace(loss=0.0)
    yield lambda p: p._replace(duplication=0.0)
    yield lambda p: p._replace(late=frozenset())
    yield lambda p: p._replace(skews_ms=(0,) * len(p.skews_ms))
    for index in range(len(plan.skews_ms)):
        yield (
            lambda p, index=index: p._replace(  # type: ignore[misc]
                skews_ms=(*p.skews_ms[:index], 0, *p.skews_ms[index + 1 :])
            )
        )


def trace(plan: History) -> list[str]:
    """Return the history in words, a line a step."""
    faults = (
        f"loss {plan.loss:.0%}, duplication {plan.duplication:.0%}, delay to {plan.delay_ms} ms, "
        f"clocks off by {list(plan.skews_ms)} ms (the centre's last), late: {sorted(plan.late)}"
    )
    return [faults, *(str(step) for step in sorted(plan.steps, key=_time))]


def _time(step: HistoryStep) -> int:
    return step.at_ms
