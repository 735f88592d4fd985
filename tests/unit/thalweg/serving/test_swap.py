"""A swap, by random histories: something always serves, nobody loses the version that it is on, nothing is left."""

from collections import Counter

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from thalweg.serving.swap import Swap

VERSIONS = st.sampled_from("abcd")


class SwapHistory(RuleBasedStateMachine):
    """What a server does with a swap, beside a reckoning of what must be in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.swap: Swap[str] = Swap()
        self.in_memory: set[str] = set()
        self.on: list[str] = []
        self.has_served = False

    @rule(version=VERSIONS)
    def is_wanted(self, version: str) -> None:
        must_load = self.swap.want(version)
        assert must_load == (version != self.swap.serving and version not in self.swap.refused)

    @rule(version=VERSIONS)
    def is_loaded(self, version: str) -> None:
        """Also of what is not wanted any more: loading takes a while."""
        was_wanted, served = self.swap.wanted == version, self.swap.serving
        self.in_memory.add(version)
        self.let_go(self.swap.loaded(version))
        assert self.swap.serving == (version if was_wanted else served)
        self.has_served |= was_wanted

    @rule(version=VERSIONS)
    def is_refused(self, version: str) -> None:
        served = self.swap.serving
        self.swap.refuse(version, "its inputs are others")
        assert self.swap.serving == served
        if version == self.swap.wanted != served:
            assert not self.swap.must_load, "what was refused is tried again"
            assert not self.swap.want(version), "and by being wanted once more"

    @rule()
    def a_request_begins(self) -> None:
        version = self.swap.begin()
        assert version == self.swap.serving
        if version is not None:
            self.on.append(version)

    @precondition(lambda self: self.on)
    @rule(data=st.data())
    def a_request_ends(self, data: st.DataObject) -> None:
        version = self.on.pop(data.draw(st.integers(0, len(self.on) - 1)))
        self.let_go(self.swap.end(version))

    def let_go(self, version: str | None) -> None:
        if version is not None:
            self.in_memory.discard(version)

    @invariant()
    def who_is_on_a_version_keeps_it(self) -> None:
        assert set(self.on) <= self.in_memory
        assert +self.swap.in_flight == Counter(self.on)

    @invariant()
    def once_something_serves_something_always_does(self) -> None:
        assert (self.swap.serving is not None) == self.has_served
        assert self.swap.serving is None or self.swap.serving in self.in_memory

    @invariant()
    def nothing_stays_that_nobody_is_on(self) -> None:
        assert self.in_memory == set(self.on) | ({self.swap.serving} - {None})


TestSwapHistory = SwapHistory.TestCase
