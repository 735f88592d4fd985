"""What the set-up says while it works: on standard error, so that the output of a command stays its own."""

import sys


def say(message: str) -> None:
    """Print one line about what is being done."""
    print(f"thalweg: {message}", file=sys.stderr, flush=True)


class Counter:
    """Progress over a known number of steps: one line rewritten on a terminal, a line per quarter elsewhere."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._terminal = sys.stderr.isatty()

    def step(self) -> None:
        """Count one more."""
        self._done += 1
        if self._terminal:
            end = "\n" if self._done == self._total else ""
            print(f"\rthalweg: {self._what} {self._done}/{self._total}", end=end, file=sys.stderr, flush=True)
        elif self._done * 4 // self._total > (self._done - 1) * 4 // self._total:
            say(f"{self._what} {self._done}/{self._total}")
