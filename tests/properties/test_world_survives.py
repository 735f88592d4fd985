"""Whatever is accepted, placement goes on, and its ledger rebuilds it: see `world_histories`."""

import pytest

from tests.properties.world_histories import live


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_the_world_survives_whatever_is_accepted_and_is_what_its_ledger_says(first: int) -> None:
    for seed in range(first, first + 10):
        live(seed, batches=2 + seed % 24)
