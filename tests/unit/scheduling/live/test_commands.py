"""A task without a command is placed only where something else than commands is run, or is told why it waits."""

from tests.unit.scheduling.worlds import ask, node, placed, planned, spec, where, world_of
from thalweg.scheduling.explain.reasons import Explainer
from thalweg.scheduling.live.live_plan import PlanSettings
from thalweg.scheduling.world.world import World


def cheap_east_starts_commands() -> World:
    world = world_of(node("east", "n1"), node("west", "n1"), usd={"east": 1.0, "west": 2.0})
    world.note_runner("east", needs_command=True)
    return world


def test_one_without_a_command_goes_where_it_can_run_and_one_with_it_where_it_is_cheapest() -> None:
    world = cheap_east_starts_commands()
    ask(world, "bare", spec(has_command=False))
    ask(world, "told", spec())
    placed(world)
    assert (where(world, "bare"), where(world, "told")) == (["west"], ["east"])


def test_regions_that_say_nothing_of_it_take_every_task() -> None:
    world = world_of(node("east", "n1"))
    ask(world, "bare", spec(has_command=False))
    placed(world)
    assert where(world, "bare") == ["east"]


def test_where_commands_alone_are_started_it_is_told_so_at_once_takes_nobodys_turn_and_counts_in_no_money() -> None:
    world = world_of(node("east", "n1", 2))
    world.note_runner("east", needs_command=True)
    ask(world, "bare", spec(gpus=2, has_command=False, priority=900, value_usd_per_hour=1e8))
    ask(world, "told", spec(gpus=2))
    made = planned(world)
    assert [one.task_id for one in made.assignments] == ["told"]
    (held,) = made.held
    assert (held.task_id, held.reason) == (
        "bare", "command: it has none, and where it could run the agents start commands and nothing else (east)"
    )  # fmt: skip
    assert made.objective < 1e3
    assert world.waiting.delay_usd_per_hour(0) < 1e3


def test_it_goes_as_soon_as_a_region_comes_or_says_that_it_can_run_it() -> None:
    world = world_of(node("east", "n1"))
    world.note_runner("east", needs_command=True)
    ask(world, "bare", spec(has_command=False))
    placed(world)
    assert where(world, "bare") == []
    world.note_runner("east", needs_command=False)
    placed(world)
    assert where(world, "bare") == ["east"]


def test_what_no_region_suits_anyhow_is_told_that_and_not_the_command() -> None:
    world = world_of(node("east", "n1"))
    world.note_runner("east", needs_command=True)
    ask(world, "bare", spec(has_command=False, gpu_models=("H100",)))
    (held,) = planned(world).held
    assert held.reason.startswith("gpu_model:")


def test_an_explanation_names_it_of_the_region_and_in_a_copy_of_the_world_believes_the_ledger() -> None:
    world = cheap_east_starts_commands()
    reasons = Explainer(world, PlanSettings())
    assert reasons.why_not(spec(has_command=False), "east", 0).startswith("command:")
    assert reasons.why_not(spec(), "east", 0) == ""
    copy = world_of(node("east", "n1"))
    ask(copy, "bare", spec(has_command=False))
    copy.tasks["bare"].reason = "command: it has none"
    assert Explainer(copy, PlanSettings()).wait(copy.tasks["bare"], 0).reason == "command: it has none"
