"""What a key of one tenant may name and is told: nothing of another tenant's tasks, not even that they are there.

Ids are one space for all tenants, so an id that is taken tells of the task that has it. Through the door a tenant's new
tasks therefore have ids of the tenant's own, which begin with its name; and they wait for its own tasks alone.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from thalweg.client.client import InvalidRequestError

_OTHERS: Final = (
    # Ids may hold anything, so all is taken up to the last of the words that follow them.
    (re.compile(r"\bpreempted by .* \(priority (\d+) over"), r"preempted by another task (priority \1 over"),
    (re.compile(r"\bmakes room for .*(?=, its tenant being over its share)"), "makes room for another task"),
    (re.compile(r"\bmakes room for .*(?=: (?:from|to) )"), "makes room for another task"),
)
"""Words of a row's reason that name another task, and what is said instead."""
_MAY_NAME: Final = ("preempted by ", "makes room for ")


def namespace(tenant: str) -> str:
    """Give what the ids of tasks begin with that a tenant's key submits; no tenant's begins with another's."""
    return f"{quote(tenant, safe=' ')}/"


def check_names(request: Mapping[str, Any], tenant: str, is_own: Callable[[Collection[str]], Collection[str]]) -> None:
    """Check whom a tenant's request names.

    Args:
        request: as it was sent.
        tenant: the key's.
        is_own: says which of some tasks are known to be the tenant's.

    Raises:
        InvalidRequestError: its id, or one that it is to wait for, may be another tenant's; whether there is such a
            task makes no difference to the words.
    """
    own, task_id = namespace(tenant), request.get("task_id")
    if not isinstance(task_id, str):
        return  # what is wrong with it is said by who checks requests
    if not task_id.startswith(own) or task_id == own:
        raise InvalidRequestError(
            f"task_id {task_id!r}: a key of tenant {tenant!r} submits ids that begin with {own!r}, as in "
            f"{own + task_id!r}, so that no id tells of another tenant's task"
        )
    after = request.get("after")
    parents = after if isinstance(after, Sequence) and not isinstance(after, str) else []
    named = [one.get("task_id") if isinstance(one, Mapping) else one for one in parents]
    foreign = [name for name in named if isinstance(name, str) and not name.startswith(own)]
    for name in sorted(set(foreign) - set(is_own(foreign))):
        raise InvalidRequestError(
            f"after {name!r}: tenant {tenant!r} has no such task; allowed are its own, and ids that begin with {own!r}"
        )


def names_others(text: str) -> bool:
    """Tell whether words may name another task."""
    return any(words in text for words in _MAY_NAME)


def without_others(content: Any) -> Any:
    """Give a document in whose words no other task is named."""
    if isinstance(content, str):
        if names_others(content):
            for named, instead in _OTHERS:
                content = named.sub(instead, content)
        return content
    if isinstance(content, Mapping):
        return {key: without_others(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [without_others(value) for value in content]
    return content
