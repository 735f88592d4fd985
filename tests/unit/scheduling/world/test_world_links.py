from thalweg.scheduling.pack.nodes import Need
from thalweg.scheduling.world.tasks import Change, Part, TaskSpec, Transition
from thalweg.scheduling.world.world import World


def test_links_may_arrive_in_one_go_for_regions_nobody_named_while_a_task_waits_for_a_round_trip() -> None:
    world = World()
    world.hear("a", 1)
    need = Need(gpus=1, gpu_milli=1_000, cpu_milli=1, memory_mib=1)
    spec = TaskSpec(parts=(Part(workers=1, need=need),), origin_region="a", max_rtt_ms=10)
    world.follow(Transition(change=Change.SUBMITTED, task_id="t", decided_ms=1, spec=spec, request="{}"))
    world.set_links({("a", "b"): (1.0, 1.0, 0.0), ("c", "d"): (2.0, 1.0, 0.0)})
    network = world.network()
    assert network.rtt_ms[world.region_at("c"), world.region_at("d")] == 2.0
