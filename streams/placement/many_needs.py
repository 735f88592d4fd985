"""What many stored requests ask for, read at once: most of them ask for the same, and few of their fields are needs.

All are taken apart by one call, into the fields that needs follow from; those that are written alike share one spec.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np

from thalweg.scheduling.arrays import IntArray
from thalweg.scheduling.world.tasks import TaskSpec
from thalweg.streams.contract.messages import TaskRequest
from thalweg.streams.placement.task_specs import read_spec

_SAY_NOTHING: Final = frozenset(
    {"task_ids", "op", "name", "kind", "image", "env", "secrets", "time_limit_s", "retries"} | {"observed_at", "stamp"}
)
"""Fields of a request that nothing follows from for who may go where; a test reads specs with and without them."""
_UNSAID: Final = msgspec.Raw()
_NO_COMMAND: Final = (_UNSAID, msgspec.Raw(b"null"), msgspec.Raw(b"[]"))
_SOME_COMMAND: Final = msgspec.Raw(b"[0]")
_Needs: Final = msgspec.defstruct(
    "_Needs",
    [
        (field.name, msgspec.Raw, _UNSAID)
        for field in msgspec.structs.fields(TaskRequest)
        if field.name not in _SAY_NOTHING
    ],
    omit_defaults=True,
)
"""Fields as they are written, unread: requests that are written alike ask for the same."""
_DECODER: Final["msgspec.json.Decoder[Any]"] = msgspec.json.Decoder(list[_Needs])  # type: ignore[valid-type]  # made above
_ENCODER: Final = msgspec.json.Encoder()


def read_many(requests: Sequence[str]) -> tuple[list[TaskSpec], IntArray]:
    """Read the needs of requests that were checked before.

    Returns:
        The specs that differ, and which of them each request has. Of `terms` a spec has those of the first that asks
        for it; names and retries of the others may differ.
    """
    number_of: dict[bytes, int] = {}
    specs: list[TaskSpec] = []
    of_text = dict.fromkeys(requests, 0)  # elements of an array have one text
    for text, needs in zip(of_text, _DECODER.decode("[" + ",".join(of_text) + "]"), strict=True):
        if needs.array == _UNSAID:
            needs.task_id = _UNSAID  # its array is all that a task's id is asked for
        if needs.command not in _NO_COMMAND:
            needs.command = _SOME_COMMAND  # where it may go follows from whether there is one
        key = _ENCODER.encode(needs)
        number = number_of.get(key)
        if number is None:
            number = number_of[key] = len(specs)
            specs.append(read_spec(text))
        of_text[text] = number
    return specs, np.fromiter(map(of_text.__getitem__, requests), np.int64, len(requests))
