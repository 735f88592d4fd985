"""Requests follow latency and load, whatever has happened before."""

import math
import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from thalweg.serving.router import ALIKE, FIRST_PAUSE_S, MOST_PAUSE_S, Router

NAMES = ("near", "far", "farther")
TIMES = st.floats(0.001, 2.0)


class RouterHistory(RuleBasedStateMachine):
    """Requests of one caller, whose answers come in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.router = Router(random.Random(1))
        self.router.servers(NAMES)
        self.under_way: list[str] = []

    @rule(seconds=st.floats(0, 60))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(without=st.frozensets(st.sampled_from(NAMES), max_size=3))
    def a_request_is_sent(self, without: frozenset[str]) -> None:
        costs = {name: self.router.cost(name, self.now) for name in self.router.seen}
        idle = {name: costs[name] / (1 + max(seen.in_flight, seen.told)) for name, seen in self.router.seen.items()}
        paused = {name for name, seen in self.router.seen.items() if seen.pause_s and self.now < seen.again_at}
        trying = {name for name, seen in self.router.seen.items() if seen.tries}
        chosen = self.router.choose(self.now, without)
        allowed = set(self.router.seen) - without
        if not allowed:
            assert chosen is None
            return
        assert chosen in allowed
        self.under_way.append(chosen)
        ready = allowed - paused - trying
        if ready:
            assert chosen in ready, "a server that has failed is asked during its pause"
            best = min(costs[name] for name in ready)
            assert math.isinf(best) or idle[chosen] <= best * ALIKE * (1 + 1e-9), "it would be worse even when idle"

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), took=TIMES, load=st.none() | st.integers(0, 50))
    def an_answer_comes(self, data: st.DataObject, took: float, load: int | None) -> None:
        name = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        self.router.answered(name, took, self.now, load)
        assert self.router.seen[name].pause_s == 0
        assert (self.router.seen[name].response_s or 0) >= took * (1 - 1e-9), "a slow answer is not believed at once"

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def a_server_fails(self, data: st.DataObject) -> None:
        name = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        self.router.failed(name, self.now)
        assert FIRST_PAUSE_S <= self.router.seen[name].pause_s <= MOST_PAUSE_S

    @rule()
    def the_list_of_servers_is_read_again(self) -> None:
        self.router.servers(NAMES)

    @invariant()
    def what_waits_is_counted(self) -> None:
        waiting = Counter(self.under_way)
        assert all(seen.in_flight == waiting[name] for name, seen in self.router.seen.items())


TestRouterHistory = RouterHistory.TestCase


def carried_out(latency: dict[str, float], service_s: float, every_s: float, requests: int) -> Counter[str]:
    """Send requests to simulated servers, each of which answers one after the other; count who got how many."""
    router, now, got = Router(random.Random(3)), 0.0, Counter[str]()
    router.servers(latency)
    free = dict.fromkeys(latency, 0.0)
    pending: list[tuple[float, str, float]] = []
    for _ in range(requests):
        now += every_s
        for done, name, sent in sorted(item for item in pending if item[0] <= now):
            router.answered(name, done - sent, done)
        pending = [item for item in pending if item[0] > now]
        chosen = router.choose(now)
        assert chosen is not None
        free[chosen] = max(free[chosen], now + latency[chosen] / 2) + service_s
        pending.append((free[chosen] + latency[chosen] / 2, chosen, now))
        got[chosen] += 1
    return got


def test_a_far_server_gets_next_to_nothing_while_the_near_one_keeps_up() -> None:
    got = carried_out({"near": 0.005, "far": 0.150}, service_s=0.01, every_s=0.05, requests=2_000)
    assert got["near"] > 1_900, got


def test_a_far_server_helps_out_when_the_near_one_cannot_keep_up() -> None:
    got = carried_out({"near": 0.005, "far": 0.050}, service_s=0.01, every_s=0.006, requests=2_000)
    assert got["far"] > 500, got
    assert got["near"] > got["far"], got


def test_servers_that_are_alike_share_the_requests() -> None:
    got = carried_out({"one": 0.01, "other": 0.01, "third": 0.01}, service_s=0.01, every_s=0.005, requests=3_000)
    assert min(got.values()) > 600, got


@given(st.integers(1, 6))
def test_where_all_have_failed_the_one_that_is_due_first_is_asked(count: int) -> None:
    router = Router(random.Random(0))
    names = [f"s{number}" for number in range(count)]
    router.servers(names)
    for at, _ in enumerate(names):
        name = router.choose(at / 1_000)
        assert name is not None
        router.failed(name, at / 1_000)
    assert router.choose(count / 1_000) == min(names, key=lambda name: router.seen[name].again_at)


def test_a_server_that_has_failed_is_tried_by_one_request_after_its_pause() -> None:
    router = Router(random.Random(0))
    router.servers(["bad", "good"])
    router.choose(0, frozenset({"good"}))
    router.failed("bad", 0)
    router.choose(0, frozenset({"bad"}))
    router.answered("good", 0.01, 0)
    assert [router.choose(FIRST_PAUSE_S / 2) for _ in range(5)] == ["good"] * 5
    later = [router.choose(FIRST_PAUSE_S + 0.01) for _ in range(5)]
    assert later.count("bad") == 1, later
