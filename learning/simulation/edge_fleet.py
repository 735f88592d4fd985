"""Edges on a virtual clock, as arrays: they come and go, serve requests by what they hold, and report when they can.

They decide nothing of a roll-out: which version an edge holds is what `rollout` desired of it when it was last
reachable.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from thalweg.learning.rollout.facts import Tally
from thalweg.learning.rollout.plan import MEASURES

Harm = Literal["none", "accuracy", "drift", "latency"]
HARMS: Final[tuple[Harm, ...]] = ("none", "accuracy", "drift", "latency")
Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Reals = npt.NDArray[np.float64]

WRONG, FAILED, SLOW, ODD = range(len(MEASURES))
DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetTerms:
    """How edges are."""

    edges: int = 1_000
    offline: float = 0.3
    """Share of them that cannot be reached, at any time."""
    long_share: float = 0.2
    """Of the edges whose absences are long."""
    short_off_s: float = 900.0
    """Mean length of a short absence."""
    long_off_s: float = 28_800.0
    """Mean length of a long one."""
    requests_per_s: float = 1.0
    """Mean of an edge; they differ by a factor of e^0.5 (a standard deviation), and by the hour by a half."""
    judged: float = 0.2
    """Share of the answers whose truth becomes known."""
    wrong: float = 0.1
    """Mean over the edges of the last good version's share; they differ by 0.03."""
    failed: float = 0.002
    slow: float = 0.1
    """Share of answers after the limit, of an edge like most; latencies are log-normal (0.5)."""
    odd: float = 0.05
    step_s: float = 300.0
    """Between two reports of an edge, and two looks."""
    harm_points: float = 0.03
    """Added to the share of wrong answers by the harms `accuracy` and, in the end, `drift`."""
    harm_latency: float = 1.5
    """Factor of the latency."""
    drift_s: float = 14_400.0
    """How long after an edge took the version `drift` has grown to its full size, in a straight line."""


class EdgeFleet:
    """All edges of one roll-out."""

    def __init__(self, terms: FleetTerms, harm: Harm, rng: np.random.Generator) -> None:
        """Draw how the edges are, in a state as after a long time.

        Args:
            terms: of the edges.
            harm: what the new version does.
            rng: draws everything.
        """
        self.terms, self.harm, self.rng = terms, harm, rng
        size = terms.edges
        self.candidate: Flags = np.zeros(size, bool)
        """Who holds the new version beside the last good one."""
        self.only_new: Flags = np.zeros(size, bool)
        """Who holds the new version alone."""
        self.ever: Flags = np.zeros(size, bool)
        """Who has ever held both."""
        self.requests = 0.0
        self.exposed = 0.0
        """Requests that the new version answered."""
        off_s = np.where(rng.random(size) < terms.long_share, terms.long_off_s, terms.short_off_s)
        on_s = off_s * (1 - terms.offline) / terms.offline if terms.offline > 0 else np.full(size, np.inf)
        self._goes = 1 - np.exp(-terms.step_s / on_s)
        self._comes = 1 - np.exp(-terms.step_s / off_s)
        self.online: Flags = rng.random(size) >= terms.offline
        self._rate = terms.requests_per_s * np.exp(rng.normal(-0.125, 0.5, size))
        self._rate_sum = float(self._rate.sum())
        self._phase = rng.random() * 2 * math.pi
        spread = 0.03**2
        often = terms.wrong * (1 - terms.wrong) / spread - 1
        self._wrong = rng.beta(terms.wrong * often, (1 - terms.wrong) * often, size)
        self._latency = rng.normal(0.0, 0.15, size)
        self._limit = 0.5 * _quantile_of_normal(1 - terms.slow)
        self._age_s = np.zeros(size)
        self._own = np.zeros((len(MEASURES), 4, size), np.int64)
        self._told = np.zeros((len(MEASURES), 4, size), np.int64)
        self._sums = np.zeros((len(MEASURES), 4), np.int64)

    def step(self, now_s: float, share: float) -> None:
        """Let one step pass: some go, some come, all serve.

        Args:
            now_s: at its beginning.
            share: of the requests that the new version answers where there are two.
        """
        terms, rng = self.terms, self.rng
        drawn = rng.random(terms.edges)
        self.online = np.where(self.online, drawn >= self._goes, drawn < self._comes)
        load = 1 + 0.5 * math.sin(2 * math.pi * now_s / DAY_S + self._phase)
        self.requests += self._rate_sum * load * terms.step_s
        if self.only_new.any():
            self.exposed += float(self._rate[self.only_new].sum()) * load * terms.step_s
        held = np.flatnonzero(self.candidate)
        if held.size:
            self._serve(held, load, share)
            self._age_s[held] += terms.step_s

    def _serve(self, held: Numbers, load: float, share: float) -> None:
        rng, terms = self.rng, self.terms
        came = rng.poisson(self._rate[held] * load * terms.step_s)
        new = rng.binomial(came, share)
        last = came - new
        self.exposed += float(new.sum())
        latency = self._latency[held] + 0.1 * (load - 1)  # slower where there is more to do, for both versions
        worse = self._worse(held)
        slower = math.log(terms.harm_latency) if self.harm == "latency" else 0.0
        for arm, count in enumerate((new, last)):
            first = 2 * arm
            is_new = arm == 0
            wrong = np.clip(self._wrong[held] + (worse if is_new else 0.0), 0, 1)
            slow = _above((self._limit - latency - (slower if is_new else 0.0)) / 0.5)
            judged = rng.binomial(count, terms.judged)
            for measure, outcomes, chance in (
                (WRONG, judged, wrong),
                (FAILED, count, terms.failed),
                (SLOW, count, slow),
                (ODD, count, terms.odd),
            ):
                self._own[measure, first, held] += outcomes
                self._own[measure, first + 1, held] += rng.binomial(outcomes, chance)

    def _worse(self, held: Numbers) -> Reals | float:
        if self.harm == "accuracy":
            return self.terms.harm_points
        if self.harm == "drift":
            return self.terms.harm_points * np.minimum(1.0, self._age_s[held] / self.terms.drift_s)
        return 0.0

    def report(self) -> None:
        """Let who is reachable tell its sums."""
        tell = np.flatnonzero(self.online & self.ever)
        if tell.size:
            self._sums += (self._own[:, :, tell] - self._told[:, :, tell]).sum(axis=2)
            self._told[:, :, tell] = self._own[:, :, tell]

    def tally(self) -> Tally:
        """Return the sums over all that was told."""
        return tuple((row[0], row[1], row[2], row[3]) for row in self._sums.tolist())

    def heard(self, within: Flags) -> int:
        """Count the edges among some that have told outcomes of the new version."""
        return int((within & (self._told[SLOW, 0] > 0)).sum())

    def desire(self, candidate: Flags, only_new: bool) -> None:
        """Let who is reachable take what is desired.

        Args:
            candidate: of whom both versions are desired.
            only_new: whether the new one alone is desired of all.
        """
        on = self.online
        took = on & candidate & ~self.candidate
        self.candidate = np.where(on, candidate, self.candidate)
        self.only_new = np.where(on, only_new, self.only_new)
        self.ever |= took

    def converged(self, only_new: bool) -> bool:
        """Tell whether every edge serves what is desired, and nothing else."""
        return not self.candidate.any() and bool((self.only_new == only_new).all())


def _above(z: Reals) -> Reals:
    """Return the share of a normal distribution above z, to 1e-7 (Abramowitz and Stegun 26.2.17)."""
    size = np.abs(z)
    t = 1 / (1 + 0.2316419 * size)
    poly = t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
    tail = np.exp(-size * size / 2) / math.sqrt(2 * math.pi) * poly
    return np.where(z >= 0, tail, 1 - tail)


def _quantile_of_normal(share: float) -> float:
    least, most = -8.0, 8.0
    for _ in range(60):
        middle = (least + most) / 2
        if 1 - float(_above(np.array([middle]))[0]) < share:
            least = middle
        else:
            most = middle
    return (least + most) / 2
