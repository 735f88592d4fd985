"""RepeatedAnswers that were given before: bounded by bytes, the one that was used longest ago goes first.

An answer is known by the digests of the version and of the request, so a new version needs no forgetting: nobody asks
for the old one's answers any more, and they are the first to go.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from thalweg.serving.tensors import Array

OVERHEAD_BYTES: Final = 256
"""Of an entry beside its answer: key, names, the table's own."""


@dataclass(slots=True)
class RepeatedAnswers:
    """Not for several threads."""

    limit_bytes: int
    """Of all answers together; 0 keeps none."""
    size_bytes: int = 0
    hits: int = 0
    misses: int = 0
    _kept: "OrderedDict[bytes, bytes]" = field(default_factory=OrderedDict)

    def get(self, key: bytes) -> bytes | None:
        """Return an answer that was given before; None where there is none any more."""
        found = self._kept.get(key)
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        self._kept.move_to_end(key)
        return found

    def put(self, key: bytes, answer: bytes) -> None:
        """Keep an answer; one that alone would be above the limit is not."""
        size = len(answer) + OVERHEAD_BYTES
        if size > self.limit_bytes:
            return
        before = self._kept.pop(key, None)
        if before is not None:
            self.size_bytes -= len(before) + OVERHEAD_BYTES
        self._kept[key] = answer
        self.size_bytes += size
        while self.size_bytes > self.limit_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.size_bytes -= len(oldest) + OVERHEAD_BYTES

    def __len__(self) -> int:
        return len(self._kept)


def answer_key(version_sha256: str, arrays: Mapping[str, Array], outputs: Sequence[str]) -> bytes:
    """Digest of what an answer follows from.

    Args:
        version_sha256: of the version that answers.
        arrays: inputs by name.
        outputs: that are wanted, in their order.
    """
    digest = hashlib.sha256(version_sha256.encode())
    for name in sorted(arrays):
        array = arrays[name]
        content = repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes()
        for part in (name.encode(), f"{array.dtype.str}{array.shape}".encode(), content):
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
    digest.update("\0".join(outputs).encode())
    return digest.digest()
