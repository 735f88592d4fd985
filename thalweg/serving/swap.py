"""Which version answers: the wanted one is loaded beside the one that serves, takes over, and the old one drains.

A value that changes by what happens, without threads, clocks or files; whoever has those asks it what to do. What it
keeps to: once something serves, something always serves; a request ends on the version that it began on; nothing is let
go while a request is on it; what was refused is not tried again until something else was wanted.
"""

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

V = TypeVar("V", bound=Hashable)


@dataclass(slots=True)
class Swap(Generic[V]):
    """Of one model in one server. Versions are told apart by equality."""

    serving: V | None = None
    """What new requests go to."""
    wanted: V | None = None
    """What is to serve."""
    refused: dict[V, str] = field(default_factory=dict)
    """Why what is wanted does not serve: the last one alone."""
    draining: set[V] = field(default_factory=set)
    """What serves nobody new, and still has requests."""
    in_flight: Counter[V] = field(default_factory=Counter)
    """Requests on each version."""

    def want(self, version: V) -> bool:
        """Want a version; return whether it is to be loaded."""
        if version != self.wanted:
            self.wanted = version
            self.refused.clear()
        return self.must_load

    @property
    def must_load(self) -> bool:
        """Whether what is wanted is neither served nor refused."""
        return self.wanted is not None and self.wanted != self.serving and self.wanted not in self.refused

    def loaded(self, version: V) -> V | None:
        """Let a version that is loaded and warm take over, if it is still wanted.

        Returns:
            What can be let go at once: the version that served, where no request is on it, or the one that came too
            late; None where there is nothing.
        """
        if version != self.wanted or version == self.serving:
            return None if version == self.serving or version in self.draining else version
        before, self.serving = self.serving, version
        self.draining.discard(version)  # it is wanted back before it was empty
        if before is None:
            return None
        if self.in_flight[before]:
            self.draining.add(before)
            return None
        return before

    def refuse(self, version: V, reason: str) -> None:
        """Note that a version cannot be served; what serves goes on."""
        if version == self.wanted and version != self.serving:
            self.refused[version] = reason

    def begin(self) -> V | None:
        """Begin a request; return the version that answers it, None where there is none yet."""
        if self.serving is not None:
            self.in_flight[self.serving] += 1
        return self.serving

    def end(self, version: V) -> V | None:
        """End a request; return the version where it can be let go now."""
        self.in_flight[version] -= 1
        if self.in_flight[version] > 0:
            return None
        del self.in_flight[version]
        if version not in self.draining:
            return None
        self.draining.discard(version)
        return version
