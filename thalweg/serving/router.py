"""Which server gets a request: two that may be nearest and least busy are drawn, the better one gets it.

What a server costs is its response time, an average that forgets, times the requests that wait there: the rule of
Finagle's "peak EWMA" balancer, so that a slow answer counts at once and is forgotten over `FORGET_S`. Of two at random
the better one (Mitzenmacher 2001, doi:10.1109/71.963420), so that many callers who see the same do not all go to the
same server. Drawn are only those that, were they idle, would be no worse than the best one is now: a far server gets
nothing as long as the near ones are not so busy that it would answer sooner.
"""

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

FORGET_S: Final = 10.0
"""After so long without a new answer, e⁻¹ of what was measured remains: ten seconds outlast a pause of the caller."""
ALIKE: Final = 1.25
"""Response times that differ by less are noise, and both servers are drawn."""
FIRST_PAUSE_S: Final = 0.5
MOST_PAUSE_S: Final = 30.0
"""A server that fails is left alone so long, twice as long each time; then one request tries it."""
UNTOLD_S: Final = 5.0
"""How long what a server has told of its load counts."""


@dataclass(slots=True)
class ServerSeen:
    """What is known of one server."""

    response_s: float | None = None
    """Average response time; None before the first answer."""
    measured_at: float = 0.0
    in_flight: int = 0
    """Requests of this caller that wait for it."""
    told: int = 0
    """Requests of all callers that it said were on it."""
    told_at: float = -math.inf
    pause_s: float = 0.0
    again_at: float = -math.inf
    """When it is tried again after a failure."""
    tries: bool = False
    """Whether the one request that tries it again is under way."""


@dataclass(slots=True)
class Router:
    """Of one caller and model. Time is steady, in seconds, and is given."""

    rng: random.Random
    seen: dict[str, ServerSeen] = field(default_factory=dict)
    """By address."""

    def servers(self, addresses: Iterable[str]) -> None:
        """Say which servers there are now; of those that stay, what was measured stays."""
        self.seen = {address: self.seen.get(address) or ServerSeen() for address in dict.fromkeys(addresses)}

    def choose(self, now: float, without: frozenset[str] = frozenset()) -> str | None:
        """Choose a server, and count the request as waiting there until `answered` or `failed`.

        Args:
            now: the time.
            without: servers that have failed this request already.

        Returns:
            Its address; None where there is none left. Where all are paused after failures, the one whose pause ends
            first: something is better than nothing.
        """
        left = {address: seen for address, seen in self.seen.items() if address not in without}
        if not left:
            return None
        ready = {address: seen for address, seen in left.items() if _is_ready(seen, now)}
        if not ready:
            chosen = min(left, key=lambda address: (left[address].again_at, address))
        else:
            chosen = self._of_two(self._candidates(ready, now), now)
        seen = self.seen[chosen]
        seen.in_flight += 1
        seen.tries = seen.pause_s > 0
        return chosen

    def answered(self, address: str, response_s: float, now: float, load: int | None = None) -> None:
        """Note an answer.

        Args:
            address: of the server.
            response_s: how long it took.
            now: the time.
            load: requests on the server, as it said with its answer.
        """
        seen = self._ended(address)
        if seen is None:
            return
        kept = math.exp(-max(0.0, now - seen.measured_at) / FORGET_S)
        average = kept * (seen.response_s or 0.0) + (1 - kept) * response_s
        seen.response_s = max(average, response_s)  # a peak is believed at once
        seen.measured_at = now
        seen.pause_s, seen.again_at = 0.0, -math.inf
        if load is not None:
            seen.told, seen.told_at = load, now

    def failed(self, address: str, now: float) -> None:
        """Note that a server did not answer, or said that it cannot."""
        seen = self._ended(address)
        if seen is None:
            return
        seen.pause_s = min(MOST_PAUSE_S, 2 * seen.pause_s or FIRST_PAUSE_S)
        seen.again_at = now + seen.pause_s

    def cost(self, address: str, now: float) -> float:
        """Say how long one more request there is expected to take, in seconds.

        Of a server that nothing is known of it is 0, and without end while the first one is under way.
        """
        return _cost(self.seen[address], now)

    def _ended(self, address: str) -> ServerSeen | None:
        seen = self.seen.get(address)
        if seen is not None:
            seen.in_flight = max(0, seen.in_flight - 1)
            seen.tries = False
        return seen

    def _candidates(self, ready: dict[str, ServerSeen], now: float) -> list[str]:
        best = min(_cost(seen, now) for seen in ready.values())
        return sorted(address for address, seen in ready.items() if _idle(seen, now) <= best * ALIKE)

    def _of_two(self, candidates: list[str], now: float) -> str:
        drawn = self.rng.sample(candidates, min(2, len(candidates)))
        return min(drawn, key=lambda address: _cost(self.seen[address], now))


def _is_ready(seen: ServerSeen, now: float) -> bool:
    return not seen.pause_s or (now >= seen.again_at and not seen.tries)


def _idle(seen: ServerSeen, now: float) -> float:
    """Response time without anybody who waits. Of who is not asked it is forgotten, so that all are tried again."""
    if seen.response_s is None:
        return math.inf if seen.in_flight else 0.0
    if seen.in_flight:
        return seen.response_s
    return seen.response_s * math.exp(-max(0.0, now - seen.measured_at) / FORGET_S)


def _cost(seen: ServerSeen, now: float) -> float:
    told = seen.told if now - seen.told_at <= UNTOLD_S else 0
    return _idle(seen, now) * (1 + max(seen.in_flight, told))
