"""The orders that stand, by what the planner asks of them (`scheduling.world.orders`)."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from thalweg.scheduling.ids import RegionId
from thalweg.scheduling.pack.nodes import NodeKey
from thalweg.scheduling.world.facts import TenantLimits, node_key
from thalweg.scheduling.world.orders import (
    SAID_BY_CLOUD,
    TENANT_LIMITS,
    AskedOfTask,
    Drain,
    HeldTenant,
    Moved,
    Order,
    OrderRow,
    OwnPrice,
    TenantTerms,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingOrder:
    """An order that stands, and who gave it."""

    order: Order
    who: str

    @property
    def by_notice(self) -> bool:
        """Whether a region gave it, because a cloud will take nodes away."""
        return self.who.startswith(SAID_BY_CLOUD)


@dataclass(slots=True)
class StandingOrders:
    """All that stand, by subject; and by what the planner asks."""

    by_subject: dict[str, StandingOrder] = field(default_factory=dict)
    drained_regions: dict[RegionId, Drain] = field(default_factory=dict)
    drained_nodes: dict[NodeKey, Drain] = field(default_factory=dict)
    held_tenants: set[str] = field(default_factory=set)
    terms: dict[str, TenantTerms] = field(default_factory=dict)
    prices: dict[tuple[RegionId, str, bool], float] = field(default_factory=dict)

    def __iter__(self) -> Iterator[StandingOrder]:
        """In the order of their subjects."""
        return iter([self.by_subject[subject] for subject in sorted(self.by_subject)])

    def get(self, subject: str) -> Order | None:
        """What stands about a subject."""
        standing = self.by_subject.get(subject)
        return None if standing is None else standing.order

    @property
    def drains(self) -> bool:
        """Whether any place is to be emptied."""
        return bool(self.drained_regions or self.drained_nodes)

    def objection_to_tenant(self, tenant: str) -> str | None:
        """Say why nothing of a tenant starts; None where it may."""
        return f"held: tenant {tenant} is held by an order" if tenant in self.held_tenants else None

    def obey(self, row: OrderRow) -> Order | None:
        """Let a row stand; returns the order that stood or stands now, None of a row that only tells."""
        after = row.after
        if isinstance(after, Moved | AskedOfTask) or isinstance(row.before, Moved | AskedOfTask):
            return None
        before = self.by_subject.pop(row.subject, None)
        if before is not None:
            self._forget(before.order)
        if after is not None:
            self.by_subject[row.subject] = StandingOrder(order=after, who=row.who)
            self._note(after)
        return after if after is not None else None if before is None else before.order

    def _note(self, order: Order) -> None:
        match order:
            case Drain(region=region, node_id=None):
                self.drained_regions[region] = order
            case Drain(region=region, node_id=str() as node_id):
                self.drained_nodes[node_key(region, node_id)] = order
            case HeldTenant(tenant=tenant):
                self.held_tenants.add(tenant)
            case TenantTerms(tenant=tenant):
                self.terms[tenant] = order
            case OwnPrice(region=region, gpu_model=model, spot=spot, usd_per_gpu_hour=usd):
                self.prices[region, model, spot] = usd

    def _forget(self, order: Order) -> None:
        match order:
            case Drain(region=region, node_id=None):
                del self.drained_regions[region]
            case Drain(region=region, node_id=str() as node_id):
                del self.drained_nodes[node_key(region, node_id)]
            case HeldTenant(tenant=tenant):
                self.held_tenants.discard(tenant)
            case TenantTerms(tenant=tenant):
                del self.terms[tenant]
            case OwnPrice(region=region, gpu_model=model, spot=spot):
                del self.prices[region, model, spot]

    def over(self, settled: Mapping[str, TenantLimits]) -> dict[str, TenantLimits]:
        """Put the tenants' terms over what the settings say of them."""
        limits = dict(settled)
        for tenant, terms in self.terms.items():
            given = {name: value for name in TENANT_LIMITS if (value := getattr(terms, name)) is not None}
            limits[tenant] = replace(limits.get(tenant, TenantLimits()), **given)
        return limits

    def rows(self) -> Iterable[OrderRow]:
        """The rows that lead to the same orders, from none."""
        return [
            OrderRow(subject=subject, who=standing.who, after=standing.order)
            for subject, standing in sorted(self.by_subject.items())
        ]
