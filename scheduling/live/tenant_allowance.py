"""What tenants may still take: of the world as it is, and while a plan is made."""

from thalweg.scheduling.world.occupancy import MICRO
from thalweg.scheduling.world.tasks import MILLI
from thalweg.scheduling.world.world import Holding, TenantLimits, World

_NO_LIMITS = TenantLimits()
_NOTHING = Holding()


def left_of(world: World, tenant: str) -> tuple[float, float]:
    """GPUs and US dollars an hour that a tenant may still take."""
    limits = world.tenants.get(tenant, _NO_LIMITS)
    holding = world.holdings.get(tenant, _NOTHING)
    return (
        limits.quota_gpus - holding.gpu_milli / MILLI,
        limits.budget_usd_per_hour - holding.micro_usd_per_hour / MICRO,
    )


class TenantAllowance:
    """What tenants may still take while a plan is made. Tenants without limits cost nothing here."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._left: dict[str, tuple[float, float]] = {}

    def allow(self, tenant: str, gpus: float, usd_per_hour: float) -> bool:
        """Whether so much more is within the tenant's quota and budget."""
        if tenant not in self._world.tenants:
            return True
        left_gpus, left_usd = self._left.get(tenant) or left_of(self._world, tenant)
        return gpus <= left_gpus + 1e-9 and usd_per_hour <= left_usd + 1e-9

    def spend(self, tenant: str, gpus: float, usd_per_hour: float) -> None:
        """Count it; negative amounts give back."""
        if tenant in self._world.tenants:
            left_gpus, left_usd = self._left.get(tenant) or left_of(self._world, tenant)
            self._left[tenant] = left_gpus - gpus, left_usd - usd_per_hour
