"""What is known of places: which regions are heard, what links and prices there are, and where datasets lie.

Facts that cannot be digested are left out, each with its reason. Setting what is known already changes nothing, and
every setter tells whether it changed something: then what waits is worth another look.
"""

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from thalweg.scheduling.ids import RegionId
from thalweg.scheduling.pack.nodes import Pool
from thalweg.scheduling.problem.model import Network, local_network
from thalweg.scheduling.world.facts import (
    DatasetFacts,
    Link,
    objection_to_dataset,
    objection_to_link,
    objection_to_price,
    sorted_out,
)
from thalweg.scheduling.world.tasks import DataNeed

UNKNOWN_REGION: Final = RegionId("(unknown)")
"""A place that nothing reaches; it has index 0."""


@dataclass(slots=True, kw_only=True)
class RegionState:
    """What is known of a region's agent."""

    heard_ms: int
    """When it was heard last on the driver's wall clock, for people: silence is judged by what could be heard."""
    lost: bool = False
    confirmed: bool = False
    """True once a heartbeat arrived in this run of the job; before that nothing new is placed there."""
    needs_command: bool = False
    """It said that it starts commands and runs nothing else."""


class Geography:
    """See the module's words. Columns over regions follow `names`."""

    def __init__(self) -> None:
        self.regions: dict[RegionId, RegionState] = {}
        self.links: dict[tuple[RegionId, RegionId], Link] = {}
        self.prices: dict[tuple[RegionId, str, bool], float] = {}
        self.own_prices: Mapping[tuple[RegionId, str, bool], float] = {}
        """Ordered ones, which count above those that regions tell."""
        self.assumed_usd_per_gpu_hour = math.nan
        """For pools that nobody names a price of; NaN assumes nothing."""
        self.datasets: dict[str, DatasetFacts] = {}
        self.left_out: dict[str, dict[Hashable, str]] = {}
        """Facts that cannot be digested, by kind (links, prices, datasets) and key, each with the reason."""
        self.names: list[RegionId] = [UNKNOWN_REGION]
        self._index: dict[RegionId, int] = {UNKNOWN_REGION: 0}
        self._network: Network | None = None

    # Signs of life

    def hear(self, region: RegionId, now_ms: int) -> bool:
        """Note a sign of life; whether the region was closed before."""
        state = self.regions.setdefault(region, RegionState(heard_ms=now_ms))
        opened = state.lost or not state.confirmed
        state.heard_ms, state.lost, state.confirmed = now_ms, False, True
        return opened

    def note_runner(self, region: RegionId, *, needs_command: bool) -> bool:
        """Note how a region that was heard runs tasks; whether that is news."""
        state = self.regions[region]
        if state.needs_command == needs_command:
            return False
        state.needs_command = needs_command
        self._network = None  # by which who keeps what a class may use knows that it is to be asked again
        return True

    def runs_without_command(self, region: RegionId) -> bool:
        """Tell whether a task without a command may run in a region; yes where it never said otherwise."""
        state = self.regions.get(region)
        return state is None or not state.needs_command

    def expect(self, region: RegionId, now_ms: int) -> None:
        """Note a region that the ledger knows: it counts as lost if it stays silent."""
        self.regions.setdefault(region, RegionState(heard_ms=now_ms))

    def close(self, region: RegionId) -> bool:
        """Take a region that said goodbye for unheard; whether it was heard."""
        state = self.regions.get(region)
        if state is None or not state.confirmed:
            return False
        state.confirmed = False
        return True

    def is_heard(self, region: RegionId) -> bool:
        """Tell whether a region is there."""
        state = self.regions.get(region)
        return state is not None and state.confirmed and not state.lost

    # Facts

    def set_links(self, links: Mapping[tuple[RegionId, RegionId], Link]) -> bool:
        """Set (rtt_ms, gbps, usd_per_gb) by (from, to); NaN where unknown."""
        links, self.left_out["links"] = sorted_out(links, objection_to_link)
        if links == self.links:
            return False
        for ends in links:
            for region in ends:
                self.name(region)
        self.links = dict(links)
        self._network = None
        return True

    def set_prices(self, prices: Mapping[tuple[RegionId, str, bool], float]) -> bool:
        """Set US dollars per GPU-hour by (region, GPU model, spot)."""
        prices, self.left_out["prices"] = sorted_out(prices, objection_to_price)
        if prices == self.prices:
            return False
        self.prices = dict(prices)
        return True

    def set_datasets(self, datasets: Mapping[str, DatasetFacts]) -> bool:
        """Set where datasets lie."""
        datasets, self.left_out["datasets"] = sorted_out(datasets, objection_to_dataset)
        if datasets == self.datasets:
            return False
        self.datasets = dict(datasets)
        return True

    # What a plan reads

    def name(self, region: RegionId) -> bool:
        """Give a region that reports (or that the ledger names) an index; whether it is a new one."""
        if region in self._index:
            return False
        self._index[region] = len(self.names)
        self.names.append(region)
        self._network = None
        return True

    def index_of(self, region: RegionId) -> int:
        """Index of a region; 0 (a place that nothing reaches) for one that nobody reported yet.

        Requests may name any region. Only what regions themselves report makes one known, or anybody could grow the
        R × R network without end.
        """
        return self._index.get(region, 0)

    def where(self, item: DataNeed) -> tuple[list[int], float]:
        """Region indices of an input's copies and its size in GB; none where it is unknown (it then costs nothing)."""
        if item.dataset is not None and (facts := self.datasets.get(item.dataset)) is not None:
            return [self.index_of(place) for place in facts.regions], item.size_gb or facts.size_gb
        return ([self.index_of(item.region)], item.size_gb) if item.region is not None else ([], 0.0)

    def price_of(self, pool: Pool) -> float:
        """US dollars per GPU-hour, NaN where unknown; a pool without GPUs costs nothing per GPU-hour."""
        if not pool.gpu_model:
            return 0.0
        key = pool.region, pool.gpu_model, pool.spot
        own = self.own_prices.get(key)
        return self.prices.get(key, self.assumed_usd_per_gpu_hour) if own is None else own

    def network(self) -> Network:
        """Links between all known regions; a missing link is unreachable, a region reaches itself freely."""
        if self._network is None:
            self._network = self._build_network()
        return self._network

    def _build_network(self) -> Network:
        network = local_network(len(self.names))
        for (source, target), (rtt_ms, gbps, usd_per_gb) in self.links.items():
            at = self._index[source], self._index[target]
            network.rtt_ms[at] = np.inf if np.isnan(rtt_ms) else rtt_ms
            network.gbps[at] = 0.0 if np.isnan(gbps) else gbps
            network.usd_per_gb[at] = np.inf if np.isnan(usd_per_gb) else usd_per_gb
        return network
