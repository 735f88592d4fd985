"""A run's participants as tasks: each asks to run where its data lie, and nowhere else.

They are ordinary requests, in which a person says what a participant needs and which program it is; what follows from
its being a participant is filled in here.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from thalweg.learning.rounds.asked import asked_name

Request = Mapping[str, Any]

KIND: Final = "federated"
_ONE_WORKER: Final = ("subtasks", "splittable", "min_workers", "max_workers")


class ParticipantError(ValueError):
    """A participant cannot be placed as it is described; the text says which, what was seen and what is allowed."""

    def __init__(self, number: int, problem: str) -> None:
        super().__init__(f"participant {number}: {problem}")


def participant_tasks(model: str, declared: Sequence[Request]) -> list[dict[str, Any]]:
    """Make the requests of a run's participants.

    Args:
        model: name of the run.
        declared: fields of a task each, with a `name`, unique in the run, and a `command` (or `image`). Where
            `allowed_regions` does not say otherwise, a participant runs in the one region that its `data` names.

    Returns:
        Requests of the kind `federated`, in the same order; their ids are the participants' names.

    Raises:
        ParticipantError: the first that cannot be.
    """
    made = [_task(model, number, fields) for number, fields in enumerate(declared, start=1)]
    seen: set[str] = set()
    for number, request in enumerate(made, start=1):
        if request["task_id"] in seen:
            raise ParticipantError(
                number, f"the name {declared[number - 1]['name']!r} stands before; allowed is it once"
            )
        seen.add(request["task_id"])
    return made


def names_of(tasks: Sequence[Request]) -> list[str]:
    """Name everybody whom such requests ask for: of an array, its elements."""
    return [name for task in tasks for name in _names(task)]


def _names(task: Request) -> Iterator[str]:
    array = task.get("array")
    if array is None:
        yield task["task_id"]
    else:
        yield from (f"{task['task_id']}[{index}]" for index in range(array["count"]))


def _task(model: str, number: int, fields: Request) -> dict[str, Any]:
    name = fields.get("name")
    if not isinstance(name, str) or not name or "/" in name:
        raise ParticipantError(number, f"name {name!r}: allowed is a word without slashes")
    if "task_id" in fields:
        raise ParticipantError(number, f"task_id {fields['task_id']!r}: it follows from the name; leave it out")
    if (kind := fields.get("kind", KIND)) != KIND:
        raise ParticipantError(number, f"kind {kind!r}: allowed is {KIND}, or none")
    if not fields.get("command") and not fields.get("image"):
        raise ParticipantError(
            number, f"no command: allowed is a program that takes part, as [thalweg, federate, take-part, {model}, …]"
        )
    several = [word for word in _ONE_WORKER if fields.get(word)]
    several += [word for word in ("workers", "replicas") if fields.get(word, 1) != 1]
    if several:
        raise ParticipantError(number, f"{', '.join(several)}: a participant is one process; for many, give an array")
    array = fields.get("array")
    if array is not None and not (isinstance(array, Mapping) and isinstance(array.get("count"), int)):
        raise ParticipantError(number, f"array {array!r}: allowed is {{count: N}}")
    return {
        **fields,
        "task_id": asked_name(model, name),
        "name": model,
        "kind": KIND,
        "allowed_regions": _residency(number, fields),
    }


def _residency(number: int, fields: Request) -> list[str]:
    """Say where a participant may run: its data stay where they are, so that must be said by somebody."""
    if (named := fields.get("allowed_regions")) is not None:
        return list(named)
    data = fields.get("data") or []
    regions = sorted({str(item["region"]) for item in data if isinstance(item, Mapping) and item.get("region")})
    unnamed = any(not (isinstance(item, Mapping) and item.get("region")) for item in data)
    if len(regions) != 1 or unnamed:
        seen = ", ".join(regions) or "no region"
        raise ParticipantError(
            number, f"data name {seen}: allowed is the one region that holds them, or allowed_regions that say where"
        )
    return regions
