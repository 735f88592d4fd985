"""Ask questions of the tables beside the loading of what will use their answers: the engine needs nothing of Python."""

from collections.abc import Sequence
from threading import Thread

from thalweg.query.query import QueryAnswer, TableReader


class ReadingAhead:
    """A reader that has begun to answer some questions already."""

    def __init__(self, reader: TableReader, statements: Sequence[str]) -> None:
        """Begin to ask; nobody else may ask the reader before the first `ask` of this."""
        self._reader = reader
        self._answers: dict[str, QueryAnswer] = {}
        self._thread = Thread(target=self._read, args=[statements], daemon=True)
        self._thread.start()

    def ask(self, statement: str) -> QueryAnswer:
        """Answer; see `TableReader.ask`, whose errors come here and not from the thread."""
        self._thread.join()
        return self._answers.get(statement) or self._reader.ask(statement)

    def _read(self, statements: Sequence[str]) -> None:
        for statement in statements:
            try:
                self._answers[statement] = self._reader.ask(statement)
            except Exception:  # asked again by whoever wants it, it fails there
                return
