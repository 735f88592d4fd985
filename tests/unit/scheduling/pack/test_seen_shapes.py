"""What was asked for, by shape: faded, bounded, and told region by region."""

from thalweg.scheduling.pack import seen_shapes
from thalweg.scheduling.pack.nodes import Need, Nodes, Pool
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.pack.seen_shapes import SeenShapes

ONE, TWO = Need(gpus=1), Need(gpus=2)


def test_workers_are_counted_where_they_may_go() -> None:
    seen = SeenShapes()
    seen.count([((ONE, frozenset({0, 1, 2})), 1)], 3)
    seen.count([((ONE, frozenset({0, 3})), 4), ((TWO, frozenset({2})), 1)])
    assert seen.asked == 4
    assert seen.within([0, 1]) == {(ONE, frozenset({0, 1})): 3.0, (ONE, frozenset({0})): 4.0}
    assert seen.within([2]) == {(ONE, frozenset({2})): 3.0, (TWO, frozenset({2})): 1.0}
    assert seen.within([9]) == {}


def test_what_two_shapes_have_in_common_here_is_one() -> None:
    seen = SeenShapes()
    seen.count([((ONE, frozenset({0, 1})), 1)])
    seen.count([((ONE, frozenset({0, 2})), 1)])
    assert seen.within([0]) == {(ONE, frozenset({0})): 2.0}


def test_what_was_asked_for_long_ago_fades() -> None:
    seen = SeenShapes()
    seen.count([((ONE, frozenset({0})), 1)], seen_shapes.LONG_AGO)
    seen.count([((TWO, frozenset({0})), 1)], seen_shapes.LONG_AGO)
    told = seen.within([0])
    assert told[TWO, frozenset({0})] == 2 * told[ONE, frozenset({0})]
    assert seen.asked == 2 * seen_shapes.LONG_AGO


def test_the_rarest_are_forgotten_beyond_a_thousand() -> None:
    seen = SeenShapes()
    seen.count([((TWO, frozenset({0})), 1)], 10)
    for cpu in range(3 * seen_shapes.MOST_SHAPES):
        seen.count([((Need(gpus=1, cpu_milli=cpu), frozenset({0})), 1)])
    told = seen.within([0])
    assert len(told) <= seen_shapes.MOST_SHAPES
    assert told[TWO, frozenset({0})] == 10.0


def test_a_packer_values_one_region_a_call_anew_and_only_after_much_was_asked_for() -> None:
    nodes = Nodes()
    for region in ("east", "west"):
        nodes.set_node(f"{region}-n", Pool(region, "A100"), gpus=8, cpu_milli=0, memory_mib=0)
    packer, seen = Packer(nodes), SeenShapes()
    packer.learn_from(seen)
    for pool in (0, 1):
        assert packer.place(ONE, [pool]) is not None

    def outlooks() -> list[int]:
        return [id(packer._boards[region].outlook) for region in ("east", "west")]

    begin = outlooks()
    seen.count([((TWO, frozenset({0, 1})), 1)], 63)
    packer.learn_from(seen)
    assert outlooks() == begin
    seen.count([((TWO, frozenset({0, 1})), 1)])
    packer.learn_from(seen)
    first = outlooks()
    assert first[0] != begin[0] and first[1] == begin[1]
    packer.learn_from(seen)
    second = outlooks()
    assert second[0] == first[0] and second[1] != first[1]
    packer.learn_from(seen)
    assert outlooks() == second
    assert (packer._boards["east"].outlook.shapes[:, 0] == 2).all()
