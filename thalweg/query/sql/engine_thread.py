"""The engine works beside the main thread, which stays free to hear Ctrl-C: native code hears no signal.

A statement that runs cannot be called off. Who is interrupted leaves its thread alone, and the process ends without
waiting for it (`works_on`).
"""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final, TypeVar

_LEFT: Final[list[threading.Thread]] = []
"""Threads for which nobody waits any more."""

Answer = TypeVar("Answer")


def beside(work: Callable[[], Answer]) -> Answer:
    """Do something that the engine does, so that Ctrl-C is heard meanwhile.

    Only the main thread is sent signals: another one does it by itself.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    done: SimpleQueue[tuple[Answer, None] | tuple[None, BaseException]] = SimpleQueue()

    def run() -> None:
        try:
            done.put((work(), None))
        except BaseException as error:
            done.put((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        answer, error = done.get()
    except KeyboardInterrupt:
        leave(thread)
        raise
    if error is not None:
        try:
            raise error
        finally:
            del error  # else the frames that it holds would hold it
    return answer  # type: ignore[return-value]  # without an error it is one


def leave(thread: threading.Thread) -> None:
    """Note that nobody waits any more for a thread in which the engine works."""
    _LEFT.append(thread)


def works_on() -> bool:
    """Tell whether the engine still works on what nobody waits for any more."""
    return any(thread.is_alive() for thread in _LEFT)
