"""One contract for all jobs: a batch may be killed anywhere, may wait, may hold anything, and has its effects once."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.jobs.stages import STAGES, JobStage, Patience
from thalweg.jobs.microbatch.microbatch import BatchFailedError, Microbatch
from thalweg.jobs.microbatch.outcome import BatchStep
from thalweg.jobs.microbatch.retry import Retry
from thalweg.streams.broker.errors import NotAcknowledgedError
from thalweg.sync.delta.store import AnotherWriterError

JOBS = pytest.mark.parametrize("job", STAGES)
STEPS = pytest.mark.parametrize(("job", "step"), [(job, step) for job, stage in STAGES.items() for step in stage.order])
TROUBLE = {
    "full disk": lambda: OSError(28, "No space left on device"),
    "silent broker": lambda: NotAcknowledgedError(1, 1, 10, ["t"], "the broker does not answer"),
}


class KilledError(BaseException):
    """The process ends here."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every job's effects when nothing happens."""
    effects = {}
    for job, make in STAGES.items():
        stage: JobStage = make(tmp_path_factory.mktemp(job))
        stage.batches(stage.frame(), 7)
        effects[job] = stage.effects()
        assert stage.topics.letters().keys() == stage.refused
    return effects


def kill(patch: pytest.MonkeyPatch, *, before: str | None = None, after: str | None = None) -> None:
    until_done = Retry.until_done

    def killed(self: Retry, name: str, step: BatchStep) -> None:
        if name == before:
            raise KilledError
        until_done(self, name, step)
        if name == after:
            raise KilledError

    patch.setattr(Retry, "until_done", killed)


def trouble(patch: pytest.MonkeyPatch, name: str, act: Callable[[BatchStep], Callable[[], object]]) -> None:
    """Let a step act in another way."""
    in_order = Microbatch._in_order

    def troubled(self: Microbatch[Any], outcome: Any) -> list[tuple[str, BatchStep]]:
        return [(n, replace(step, act=act(step)) if n == name else step) for n, step in in_order(self, outcome)]

    patch.setattr(Microbatch, "_in_order", troubled)


@STEPS
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_before_or_after_any_step_a_batch_has_its_effects_once(
    job: str, step: str, when: str, tmp_path: Path, undisturbed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage: JobStage = STAGES[job](tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        kill(patch, **{when: step})
        stage.batches(stage.frame(), 7)
    stage.begin()
    stage.batches(stage.frame(), 7)
    assert stage.effects() == undisturbed[job]


@JOBS
def test_killed_at_one_step_after_the_other_a_batch_has_its_effects_once(
    job: str, tmp_path: Path, undisturbed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage: JobStage = STAGES[job](tmp_path)
    for step in stage.order:
        with monkeypatch.context() as patch:
            kill(patch, after=step)
            # What an earlier life has done may be left out.
            with suppress(KilledError):
                stage.batches(stage.frame(), 7)
        stage.begin()
    stage.batches(stage.frame(), 7)
    assert stage.effects() == undisturbed[job]


@STEPS
@pytest.mark.parametrize("kind", TROUBLE)
def test_what_the_outside_world_prevents_is_waited_for_and_done_once(
    job: str, step: str, kind: str, tmp_path: Path, undisturbed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage: JobStage = STAGES[job](tmp_path)
    failures = [TROUBLE[kind](), TROUBLE[kind]()]

    def fails_first(step: BatchStep) -> Callable[[], object]:
        def act() -> object:
            if failures:
                raise failures.pop()
            return step.act()

        return act

    trouble(monkeypatch, step, fails_first)
    stage.batches(stage.frame(), 7)
    assert not failures
    assert stage.effects() == undisturbed[job]


@STEPS
def test_a_step_that_went_through_without_an_answer_is_not_done_twice(
    job: str, step: str, tmp_path: Path, undisturbed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage: JobStage = STAGES[job](tmp_path)
    lost = [OSError("the answer was lost")]

    def answer_is_lost(step: BatchStep) -> Callable[[], object]:
        def act() -> object:
            answer = step.act()
            if lost:
                raise lost.pop()
            return answer

        return act

    trouble(monkeypatch, step, answer_is_lost)
    stage.batches(stage.frame(), 7)
    assert stage.effects() == undisturbed[job]


@JOBS
def test_a_batch_that_waits_ends_when_asked_to_stop_and_the_next_life_takes_it(
    job: str, tmp_path: Path, undisturbed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage: JobStage = STAGES[job](tmp_path)
    stage.begin(Patience(waits=3))
    tries = []

    def never(_: BatchStep) -> Callable[[], object]:
        def act() -> object:
            tries.append(1)
            raise OSError(28, "No space left on device")

        return act

    with monkeypatch.context() as patch, pytest.raises(BatchFailedError, match="No space left"):
        trouble(patch, stage.order[-1], never)
        stage.batches(stage.frame(), 7)
    assert len(tries) == 4
    stage.begin()
    stage.batches(stage.frame(), 7)
    assert stage.effects() == undisturbed[job]


@JOBS
def test_what_is_final_is_not_tried_again(job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage: JobStage = STAGES[job](tmp_path)
    tries = []

    def overtaken(_: BatchStep) -> Callable[[], object]:
        def act() -> object:
            tries.append(1)
            raise AnotherWriterError("decisions", 3)

        return act

    trouble(monkeypatch, stage.order[0], overtaken)
    with pytest.raises(BatchFailedError, match=r"AnotherWriterError: .*another writer"):
        stage.batches(stage.frame(), 7)
    assert len(tries) == 1


@JOBS
def test_a_poisonous_record_costs_one_life_at_most_and_is_a_dead_letter_alone(
    job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage: JobStage = STAGES[job](tmp_path)
    stage.spoil(monkeypatch)
    try:
        stage.batches(stage.frame(), 7)
    except BatchFailedError:
        assert stage.topics.records == [], "nothing of it has left"
        stage.begin()
        stage.batches(stage.frame(), 7)
    letters = stage.topics.letters()
    assert letters.keys() == {*stage.refused, stage.poison_at}
    assert letters[stage.poison_at] == "it cannot be processed (ZeroDivisionError: not thought of)"
    after = stage.effects()
    stage.begin()
    stage.batches(stage.frame(), 7)
    assert stage.effects() == after


@JOBS
def test_a_long_error_is_told_in_few_words(job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage: JobStage = STAGES[job](tmp_path)

    def fails(_: BatchStep) -> Callable[[], object]:
        def act() -> object:
            raise ValueError("x" * 100_000)

        return act

    trouble(monkeypatch, stage.order[0], fails)
    with pytest.raises(BatchFailedError) as failed:
        stage.batches(stage.frame(), 7)
    assert str(failed.value).startswith("ValueError: xxx") and len(str(failed.value)) < 600


@JOBS
def test_a_step_that_no_order_names_is_refused(job: str, tmp_path: Path) -> None:
    stage: JobStage = STAGES[job](tmp_path)
    stage.batches._order = stage.order[1:]
    with pytest.raises(BatchFailedError, match="declared are"):
        stage.batches(stage.frame(), 7)


@JOBS
def test_the_page_on_exactly_once_tells_each_jobs_order(job: str) -> None:
    page = Path("docs/explanation/exactly-once.md").read_text(encoding="utf-8")
    order = ", ".join(f"`{step}`" for step in STAGES[job].order)
    assert f"| `{job}` | {order} |" in page
