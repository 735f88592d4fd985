"""What a participant keeps between its lives: its last reply until that is on the topic, and its client app's state.

Both are in one file that appears whole, so a life that ends at any point leaves what was before a message or what was
after it: nothing is computed twice that was once written, and no state is one message ahead of its reply.
"""

import os
from pathlib import Path
from typing import Final

import msgspec

from thalweg.flower.wire import WireMessage
from thalweg.learning.vectors.parameters import digest
from thalweg.sync.delta.durable import make_folder, sync_together


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """A call, and what was made of it."""

    message_id: str
    metadata: bytes
    content: bytes | None
    state: bytes
    """The client app's context after it."""

    @property
    def reply(self) -> WireMessage:
        """What is said."""
        return WireMessage(metadata=self.metadata, content=self.content)


class BrokenMemoryError(Exception):
    """The file is none of ours; the text names it."""


_DECODER: Final = msgspec.msgpack.Decoder(Answered)


class AnswerMemory:
    """One file in a folder of the region's own: a client app's state leaves it on no way."""

    def __init__(self, folder: Path, run: str, participant: str) -> None:
        """Name the file.

        Args:
            folder: may hold those of many.
            run: its name.
            participant: who remembers.
        """
        name = digest("\0".join((run, participant)).encode())[:32]
        self._file = folder / f"{name}.answered"

    def read(self) -> Answered | None:
        """Return what was answered last; None where nothing was.

        Raises:
            BrokenMemoryError: the file is damaged.
        """
        try:
            raw = self._file.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return _DECODER.decode(raw)
        except msgspec.DecodeError as error:
            raise BrokenMemoryError(
                f"{self._file}: {error}; without it, the participant begins with an empty state"
            ) from error

    def write(self, answered: Answered) -> None:
        """Replace what was remembered; on return it stays.

        Raises:
            OSError: the disk does not take it.
        """
        make_folder(self._file.parent)
        draft = self._file.with_suffix(".draft")
        draft.write_bytes(msgspec.msgpack.encode(answered))
        sync_together([draft])
        os.replace(draft, self._file)
        sync_together([self._file])
