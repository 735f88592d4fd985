"""What a codec left out is added to what is sent next, so that nothing is lost for good.

(Error feedback: Seide et al. 2014; Stich, Cordonnier and Jaggi 2018, "Sparsified SGD with Memory".)
"""

import numpy as np

from thalweg.learning.codecs.codec import Codec
from thalweg.learning.vectors.parameters import Vector


class Feedback:
    """One participant's memory of what it still owes."""

    def __init__(self, codec: Codec, size: int) -> None:
        """Begin owing nothing."""
        self._codec = codec
        self.owed: Vector = np.zeros(size, np.float32)

    def encode(self, change: Vector) -> bytes:
        """Write a change, with what is owed; remember what this leaves out."""
        if not self._codec.loses:
            return self._codec.encode(change)
        wanted = change + self.owed
        raw = self._codec.encode(wanted)
        self.owed = wanted - self._codec.decode(raw, wanted.size)
        return raw
