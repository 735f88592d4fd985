"""A crowd of one class that waits for its own place keeps nobody else from a turn."""

from tests.unit.scheduling.worlds import ask, node, placed, spec, where, world_of


def test_who_finds_room_is_placed_beside_a_crowd_that_fills_the_window_and_ranks_first() -> None:
    world = world_of(node("east", "n1", 4, model="H100"), node("east", "n2", 4))
    for number in range(300):
        ask(world, f"crowd-{number}", spec(gpu_models=("H100",), priority=800))
    ask(world, "other", spec(gpu_models=("A100",), tenant="other", priority=100))
    for batch in range(2):
        placed(world, batch, window_tasks=200)
    assert where(world, "other") == ["east"]
    assert sum(bool(task.copies) for task in world.tasks.values()) == 5


def test_of_a_crowd_as_many_are_placed_at_once_as_there_is_room_for() -> None:
    world = world_of(*(node("east", f"n{number}", 8) for number in range(20)))
    for number in range(300):
        ask(world, f"crowd-{number}", spec())
    placed(world)
    assert sum(bool(task.copies) for task in world.tasks.values()) == 160


def test_tasks_without_gpus_are_all_looked_at() -> None:
    world = world_of(node("east", "n1", 0, model=""))
    for number in range(90):
        ask(world, f"crowd-{number}", spec(gpus=0))
    placed(world)
    assert sum(bool(task.copies) for task in world.tasks.values()) == 90
