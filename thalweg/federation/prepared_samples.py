"""What a participant trains on, prepared as is declared: at its start, and anew before a round whose file is another.

Nobody has to look after it: whoever gathers data in the region writes the file, whole, and the next round trains on
what the declaration leaves of it. A file that cannot be prepared changes nothing: what was prepared before is trained
on, and the log says why.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from thalweg.edge.declaration import Declaration, DeclarationError
from thalweg.edge.prepared_rows import RowError
from thalweg.federation.local_samples import LocalSamples, SamplesError
from thalweg.federation.prepared_file import prepare_file
from thalweg.federation.table_files import PreparedFileError

log: Final = logging.getLogger("thalweg.participant")


class PreparedTrainingData:
    """The samples of a file, as they are prepared. For one thread."""

    def __init__(
        self,
        source: Path,
        target: Path,
        record: str,
        declaration: Declaration,
        read: Callable[[Path], LocalSamples],
    ) -> None:
        """Prepare them for the first time.

        Args:
            source: what is gathered in the region; whoever writes it replaces it whole.
            target: where what is prepared lies, with the word of what it was made by beside it.
            record: key of the record that declares how.
            declaration: how.
            read: reads samples from a file.

        Raises:
            SamplesError: there are none, or they cannot be prepared so.
        """
        self._source, self._target, self._record, self._declaration = source, target, record, declaration
        self._read = read
        self._seen = self._stamp()
        self._samples = self._prepared()

    def now(self) -> LocalSamples:
        """Give the samples, prepared anew if the file is another than last time."""
        try:
            if (stamp := self._stamp()) != self._seen:
                self._seen = stamp
                self._samples = self._prepared()
        except SamplesError as error:
            log.warning("the samples stay as they were prepared before: %s", error)
        return self._samples

    def _stamp(self) -> tuple[int, int, int]:
        try:
            found = self._source.stat()
        except OSError as error:
            raise SamplesError(f"{self._source}: {error.strerror}") from error
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _prepared(self) -> LocalSamples:
        try:
            told = prepare_file(self._source, self._target, self._declaration, record=self._record)
        except (PreparedFileError, DeclarationError, RowError) as error:
            raise SamplesError(f"{self._source}, by {self._record}: {error}") from error
        log.info(
            "prepared %s by revision %d of %s: %d rows of %d", self._source, told.revision, self._record,
            told.rows_out, told.rows_in,
        )  # fmt: skip
        return self._read(self._target)
