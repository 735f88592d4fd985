"""An array's elements are named after it: a name that leaves no room for the last of them is refused."""

from dataclasses import replace

import pytest

from tests.unit.scheduling.worlds import ORIGIN, spec, world_of
from thalweg.scheduling.decisions.decide import Refused, submit
from thalweg.scheduling.decisions.start_terms import LONGEST_ID
from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.world.tasks import ArrayTerms, TaskTerms


@pytest.mark.parametrize("count", [1, 2, 10, 11, 101])
def test_a_name_may_be_as_long_as_its_last_elements_allows(count: int) -> None:
    world = world_of()
    longest = LONGEST_ID - len(f"[{count - 1}]")
    for length, is_taken in ((longest, True), (longest + 1, False)):
        name = TaskId("a" * length)
        wanted = replace(spec(), terms=TaskTerms(array=ArrayTerms(name, count)))
        said = submit(world, name, wanted, "{}", "hash", ORIGIN, 0)
        assert isinstance(said, Refused) != is_taken
        if isinstance(said, Refused):
            assert f"task_id of {length} characters" in said.reason
            assert f"allowed for an array of {count:,} are {longest}" in said.reason
