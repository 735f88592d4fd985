"""The engine's rows, read so that Python goes on meanwhile.

Iterating over the reader that `deltalake` returns holds the interpreter's lock until the next rows are there, which for
a sum over a large join is the whole statement: no other thread runs, and no signal is heard. Asked through its C
interface (https://arrow.apache.org/docs/format/CStreamInterface.html), it is a foreign call like others, which lets go
of the lock. pyarrow would do the same, and takes longer to import than most answers do.
"""

import ctypes
from collections.abc import Iterator
from typing import Final

from arro3.core import RecordBatch, RecordBatchReader


class _Stream(ctypes.Structure):
    """`struct ArrowArrayStream`."""

    _fields_ = (
        ("get_schema", ctypes.c_void_p),
        ("get_next", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)),
        ("get_last_error", ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)),
        ("release", ctypes.c_void_p),
        ("private_data", ctypes.c_void_p),
    )


class _Array(ctypes.Structure):
    """`struct ArrowArray`."""

    _fields_ = (
        ("length", ctypes.c_int64),
        ("null_count", ctypes.c_int64),
        ("offset", ctypes.c_int64),
        ("n_buffers", ctypes.c_int64),
        ("n_children", ctypes.c_int64),
        ("buffers", ctypes.c_void_p),
        ("children", ctypes.c_void_p),
        ("dictionary", ctypes.c_void_p),
        ("release", ctypes.c_void_p),
        ("private_data", ctypes.c_void_p),
    )


_ADDRESS_IN: Final = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_CAPSULE: Final = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)
_STREAM_NAME: Final = b"arrow_array_stream"
_ARRAY_NAME: Final = b"arrow_array"  # a capsule keeps the address of its name


class StreamBrokenError(Exception):
    """The statement failed while its rows were read; the text is the engine's."""


def batches_of(reader: RecordBatchReader) -> Iterator[RecordBatch]:
    """Yield what a reader has; nothing may be read from it afterwards.

    Raises:
        StreamBrokenError: the engine could not go on.
    """
    schema = reader.schema
    capsule = reader.__arrow_c_stream__()  # owns the stream, and ends it when it goes
    address = _ADDRESS_IN(capsule, _STREAM_NAME)
    stream = _Stream.from_address(address)
    while True:
        array = _Array()
        if stream.get_next(address, ctypes.addressof(array)):
            words = stream.get_last_error(address) or b"the engine does not say why"
            raise StreamBrokenError(words.decode(errors="replace"))
        if not array.release:
            return
        found = _CAPSULE(ctypes.addressof(array), _ARRAY_NAME, None)
        # What the array holds is moved out of it.
        yield RecordBatch.from_arrow_pycapsule(schema.__arrow_c_schema__(), found)
