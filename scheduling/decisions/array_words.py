"""The words for an element that its array does not have; they need nothing of the planner."""

from collections.abc import Callable

from thalweg.scheduling.ids import TaskId


def array_of(name: str) -> TaskId | None:
    """Name the array of which an id may be an element."""
    array, bracket, index = name.rpartition("[")
    return TaskId(array) if array and bracket and index.endswith("]") and index[:-1].isdigit() else None


def array_in_words(array: str, count: int) -> str:
    """Say which elements an array has."""
    last = f" to {array}[{count - 1}]" if count > 1 else ""
    return f"{array} is an array of {count:,}, {array}[0]{last}"


def beyond_its_array(task_id: str, count_of: Callable[[TaskId], int | None]) -> str:
    """Say of a task that nobody knows which elements its array has, to end a sentence; "" where it names no array.

    Args:
        task_id: of a task that is not there.
        count_of: gives the number of elements of an array; None where there is no such array.
    """
    array = array_of(task_id)
    count = None if array is None else count_of(array)
    return "" if array is None or count is None else f"; {array_in_words(array, count)}"
