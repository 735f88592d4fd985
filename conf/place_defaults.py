"""What `place` plans with where nobody has said anything: `conf.settings` takes longer to load than a question takes.

A test compares these with the settings' own defaults.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from thalweg.conf.settings import TenantSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightDefaults:
    """As `conf.settings.WeightSettings`."""

    rtt: float = 0.0001
    risk: float = 1.0
    move: float = 1.0
    balance: float = 0.0
    wait: float = 1_000_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceDefaults:
    """Fields of `conf.settings.PlaceSettings`: what a plan is made with, and how long a parent is waited for."""

    strategy: str = "flow"
    window_tasks: int = 4_096
    heartbeat_timeout_ms: int = 10_000
    node_timeout_ms: int = 60_000
    assumed_usd_per_gpu_hour: float | None = None
    lost_spot_per_hour: float = 0.05
    longest_wait_h: float = 1_080.0
    tenants: "Mapping[str, TenantSettings]" = field(default_factory=lambda: MappingProxyType({}))
    fair_share: bool = True
    most_preempted: int = 32
    resize_every_ms: int = 60_000
    parent_wait_ms: int = 60_000
    weights: WeightDefaults = WeightDefaults()


PLACE_DEFAULTS: Final = PlaceDefaults()
