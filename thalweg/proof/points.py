"""The moments at which a process may die: each is passed by name, and at the chosen one it ends."""

from dataclasses import dataclass, field


class KilledError(BaseException):
    """A process of the line ends here, as of kill -9: nothing below may catch it."""


@dataclass(slots=True)
class Points:
    """Of one process, over all its lives."""

    passed: int = 0
    killed_at: list[str] = field(default_factory=list)
    """Where it was killed, in order."""
    _left: int | None = None

    def arm(self, after: int) -> None:
        """Let it die at a later point, after so many others."""
        self._left = after

    def spare(self) -> None:
        """Let it live on."""
        self._left = None

    def reach(self, name: str) -> None:
        """Pass a point.

        Raises:
            KilledError: this is where it dies.
        """
        self.passed += 1
        if self._left is None:
            return
        if self._left == 0:
            self._left = None
            self.killed_at.append(name)
            raise KilledError(name)
        self._left -= 1
