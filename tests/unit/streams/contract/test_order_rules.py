"""What an order may set of a tenant is one list, wherever it is read."""

from thalweg.scheduling.world.orders import TENANT_LIMITS, TenantTerms
from thalweg.streams.contract import order_rules
from thalweg.streams.contract.messages import ControlOrder


def test_the_limits_that_an_order_names_are_those_that_the_planner_knows() -> None:
    assert order_rules._LIMITS == TENANT_LIMITS == TenantTerms.__struct_fields__[1:]
    assert set(TENANT_LIMITS) < set(ControlOrder.__struct_fields__)
