"""What operators ask, obeyed once: it becomes a fact, and what cannot be done is a refusal with its reason."""

from typing import Final

from thalweg.learning.rollout.facts import RolloutFact, RolloutKind
from thalweg.learning.rollout.plan import RolloutPlanError
from thalweg.learning.rollout.records import RolloutWish
from thalweg.learning.rollout.rollout import Rollouts

WISH_RULES: Final = {
    "in_progress": "a roll-out of this model goes on",
    "not_running": "no roll-out of this model goes on",
    "bad_plan": "it cannot be carried out",
}


def obey(rollouts: Rollouts, model: str, wish: RolloutWish, now_ms: int) -> RolloutFact | None:
    """Return what follows from a wish; None where it was obeyed or refused before.

    Args:
        rollouts: as they are.
        model: of which it speaks.
        wish: as the record has it.
        now_ms: the time.
    """
    if rollouts.obeyed.get(model) == wish.wish:
        return None
    run = rollouts.newest.get(model)
    number = run.number if run is not None else 0

    def refused(rule: str, detail: str) -> RolloutFact:
        return RolloutFact(
            kind=RolloutKind.REFUSED,
            model=model,
            number=number,
            at_ms=now_ms,
            version=wish.version,
            rule=rule,
            reason=f"{WISH_RULES[rule]}: {detail}",
            wish=wish.wish,
        )

    running = run is not None and run.end is None
    if wish.op == "stop":
        if run is None or not running:
            return refused("not_running", "there is nothing to stop")
        return RolloutFact(
            kind=RolloutKind.STOPPED,
            model=model,
            number=number,
            at_ms=now_ms,
            version=run.plan.version,
            stage=run.stage,
            cut=run.cut,
            rule="asked",
            reason="an operator has asked for it",
            wish=wish.wish,
        )
    if run is not None and running:
        return refused("in_progress", f"of version {run.plan.version}; stop it first")
    try:
        plan = wish.plan(model, run.serving if run is not None else ("", ""))
    except RolloutPlanError as error:
        return refused("bad_plan", str(error))
    return RolloutFact(
        kind=RolloutKind.STARTED,
        model=model,
        number=number + 1,
        at_ms=now_ms,
        version=plan.version,
        reason=f"instead of {plan.last_version or 'none'}",
        wish=wish.wish,
        plan=plan,
    )
