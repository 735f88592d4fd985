"""Why not this region: what truly prevents it, and what lasts longest of it first."""

from tests.unit.scheduling.worlds import ask, node, spec, world_of
from thalweg.scheduling.explain.reasons import SILENT, Explainer
from thalweg.scheduling.live.live_plan import PlanSettings
from thalweg.scheduling.pack.nodes import Need
from thalweg.scheduling.world.tasks import Part, TaskSpec
from thalweg.scheduling.world.world import World

NOTHING = TaskSpec(parts=(Part(workers=1, need=Need(gpus=0)),))


def rooms(*silent: str) -> World:
    world = world_of(node("east", "e", model="A100"), node("lab", "l", model="GB200"), heard=False)
    for region in {"east", "lab"} - set(silent):
        world.hear(region, 0)
    return world


def why_not(world: World, wanted: TaskSpec) -> dict[str, str]:
    return {option.region: option.reason for option in Explainer(world, PlanSettings()).options(wanted, 0)}


def why(world: World, wanted: TaskSpec) -> str:
    ask(world, "t", wanted)
    return Explainer(world, PlanSettings()).wait(world.tasks["t"], 0).reason or ""


def test_a_missing_model_is_a_missing_model() -> None:
    wanted = spec(1, gpu_models=("A100",))
    lab = "gpu_model: the region has GB200, the task takes only A100"
    assert why_not(rooms(), wanted) == {"east": "", "lab": lab}
    assert why_not(rooms("lab"), wanted)["lab"] == lab  # heard or not: it will not have one


def test_a_silent_region_is_silent_whatever_the_task_needs() -> None:
    for wanted in (spec(1), NOTHING):
        assert why_not(rooms("lab"), wanted) == {"east": "", "lab": SILENT}


def test_a_region_that_is_not_allowed_is_that_first() -> None:
    wanted = spec(1, gpu_models=("A100",), allowed_regions=("east",))
    assert why_not(rooms("lab"), wanted)["lab"].startswith("residency:")


def test_who_waits_for_silent_regions_alone_is_told_their_names() -> None:
    for wanted in (spec(1, allowed_regions=("lab",)), TaskSpec(parts=NOTHING.parts, allowed_regions=("lab",))):
        assert why(rooms("lab"), wanted) == "capacity: every region with a pool for it is silent: lab"


def test_too_few_regions_tells_which_of_the_few_are_silent() -> None:
    said = why(rooms("lab"), spec(1, replicas=3))
    assert said.startswith("impossible: 3 regions would have to hold a copy")
    assert said.endswith("and only 2 could, even if nothing else ran there; silent of these now: lab")
    assert "silent" not in why(rooms(), spec(1, replicas=3))
