"""Ask questions of the tables beside the loading of what will use their answers: the engine needs nothing of Python."""

from collections.abc import Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from typing import Final, Self

from thalweg.query.sql.engine_thread import leave
from thalweg.query.sql.query import QueryAnswer, TableReader

_NO_MORE: Final = ""


class ReadingAhead:
    """A reader that answers some questions before they are asked, one after the other."""

    def __init__(self, reader: TableReader, statements: Sequence[str]) -> None:
        """Begin to answer; from now on nobody else may ask the reader."""
        self._reader = reader
        self._reading = Lock()
        self._answers: dict[str, QueryAnswer] = {}
        self._answered: dict[str, Event] = {}
        self._wanted: SimpleQueue[str] = SimpleQueue()
        self.begin(statements)
        self._thread = Thread(target=self._read, daemon=True)
        self._thread.start()

    def begin(self, statements: Sequence[str]) -> None:
        """Answer these, too, behind those that were begun before, and once."""
        for statement in statements:
            if statement in self._answered:
                continue
            self._answered[statement] = Event()
            self._wanted.put(statement)

    def ask(self, statement: str) -> QueryAnswer:
        """Answer; see `TableReader.ask`, whose errors come here and not from the thread."""
        if statement in self._answered:
            self._answered[statement].wait()
        found = self._answers.get(statement)
        if found is not None:
            return found
        with self._reading:
            return self._reader.ask(statement)

    def close(self) -> None:
        """Answer nothing more; what is being answered is waited for."""
        self._end()
        with self._reading:
            return

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close; at Ctrl-C nothing is waited for."""
        if kind is KeyboardInterrupt:
            self._end()
            leave(self._thread)
        else:
            self.close()

    def _end(self) -> None:
        with suppress(Empty):
            while True:
                self._answered[self._wanted.get_nowait()].set()
        self._wanted.put(_NO_MORE)

    def _read(self) -> None:
        while (statement := self._wanted.get()) != _NO_MORE:
            try:
                with self._reading:
                    self._answers[statement] = self._reader.ask(statement)
            except Exception:
                pass
            finally:
                self._answered[statement].set()
