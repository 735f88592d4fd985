"""When those who run in a pool are expected to leave."""

import pytest

from tests.unit.scheduling.worlds import ask, node, placed, spec, world_of
from thalweg.scheduling.live.pool_ends import PoolEnds
from thalweg.scheduling.world.value import HOUR_MS


@pytest.mark.parametrize(("workers", "hours"), [(1, 4.0), (2, 2.0), (4, 1.0)])
def test_who_began_with_fewer_workers_than_it_asked_for_stays_for_longer(workers: int, hours: float) -> None:
    world = world_of(node("east", "n", workers))
    ask(world, "t", spec(workers=4, min_workers=1, max_workers=4, expected_s=3_600.0))
    placed(world)
    assert world.tasks["t"].copies[0].workers == workers
    assert PoolEnds(world, 0).ends(0).hours.tolist() == pytest.approx([hours])
    assert PoolEnds(world, int(HOUR_MS / 2)).ends(0).hours.tolist() == pytest.approx([hours - 0.5])
