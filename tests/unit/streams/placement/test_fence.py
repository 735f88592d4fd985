import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.streams.broker.errors import FenceError
from thalweg.streams.contract.messages import AssignmentEvent
from thalweg.streams.placement.fence import Fence, FenceCounts, FenceVerdict

REGION = "aws:us-east-1"


def event(
    task_id: str, epoch: int, kind: str = "assign", decided_at: int = 1_000, region: str = REGION
) -> AssignmentEvent:
    return AssignmentEvent(
        event_id=f"{kind}-{task_id}-{epoch}",
        type=kind,  # type: ignore[arg-type]
        task_id=task_id,
        epoch=epoch,
        region=region,
        decided_at=decided_at,
    )


def judge(fence: Fence, *events: AssignmentEvent) -> list[FenceVerdict]:
    with fence.transaction():
        return [fence.admit(one) for one in events]


def test_news_is_accepted_and_repetition_and_the_past_are_not() -> None:
    fence = Fence(None)
    verdicts = judge(
        fence,
        event("t", 1),
        event("t", 1),
        event("t", 2, "revoke"),
        event("t", 1),
        event("t", 2),
        event("t", 3),
        event("t", 2, "revoke"),
        event("t", 3, "revoke"),
    )
    assert verdicts == ["accepted", "repeated", "accepted", "older", "older", "accepted", "older", "accepted"]
    assert fence.counts(REGION) == FenceCounts(accepted=4, repeated=1, older=3)
    assert fence.counts(REGION).ignored == 4


def test_a_revocation_that_overtook_its_assignment_keeps_it_from_running() -> None:
    assert judge(Fence(None), event("t", 1, "revoke"), event("t", 1)) == ["accepted", "older"]


def test_a_finished_task_is_not_run_again_but_its_next_epoch_is() -> None:
    fence = Fence(None)
    judge(fence, event("t", 1))
    fence.finish(REGION, "t", 1)
    assert judge(fence, event("t", 1), event("t", 1, "revoke"), event("t", 2)) == ["older", "older", "accepted"]


def test_finishing_an_epoch_that_is_over_changes_nothing() -> None:
    fence = Fence(None)
    judge(fence, event("t", 1), event("t", 2))
    fence.finish(REGION, "t", 1)
    assert fence.point(REGION, "t") == (2, "assigned")


def test_regions_do_not_mix() -> None:
    fence = Fence(None)
    assert judge(fence, event("t", 5), event("t", 1, region="gcp:x")) == ["accepted", "accepted"]


@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["assign", "revoke"])), max_size=30), st.randoms())
def test_whatever_the_order_and_repetition_each_step_is_admitted_at_most_once_and_the_furthest_wins(
    steps: list[tuple[int, str]], rng: random.Random
) -> None:
    shuffled = [*steps, *steps]
    rng.shuffle(shuffled)
    fence = Fence(None)
    verdicts = judge(fence, *(event("t", epoch, kind) for epoch, kind in shuffled))
    admitted = [step for step, verdict in zip(shuffled, verdicts, strict=True) if verdict is FenceVerdict.ACCEPTED]
    assert len(admitted) == len(set(admitted))
    order = [(epoch, kind == "revoke") for epoch, kind in admitted]
    assert order == sorted(order)
    if steps:
        assert order[-1] == max((epoch, kind == "revoke") for epoch, kind in steps)
    counts = fence.counts(REGION)
    assert counts.accepted + counts.ignored == len(shuffled)


def test_everything_survives_a_restart(tmp_path: Path) -> None:
    fence = Fence(tmp_path / "fence.sqlite")
    judge(fence, event("t", 3))
    with fence.transaction():
        fence.move_on("topic", 0, 17, "id-1")
    fence.close()
    again = Fence(tmp_path / "fence.sqlite")
    assert judge(again, event("t", 3), event("t", 2)) == ["repeated", "older"]
    assert again.next_offset("topic", 0, "id-1") == 17
    assert again.counts(REGION) == FenceCounts(accepted=1, repeated=1, older=1)


def test_a_topic_made_anew_is_read_from_its_beginning(tmp_path: Path) -> None:
    fence = Fence(None)
    fence.move_on("topic", 0, 17, "id-1")
    assert fence.next_offset("topic", 0, "id-2") == 0
    assert fence.next_offset("topic", 1, "id-1") == 0


def test_a_transaction_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    fence = Fence(tmp_path / "fence.sqlite")
    with pytest.raises(RuntimeError), fence.transaction():
        fence.admit(event("t", 1))
        fence.move_on("topic", 0, 1)
        raise RuntimeError
    assert fence.next_offset("topic", 0) == 0
    assert judge(fence, event("t", 1)) == ["accepted"]


CRASH = """
import os, signal, sys
from pathlib import Path
from thalweg.streams.placement.fence import Fence
from thalweg.streams.contract.messages import AssignmentEvent
fence = Fence(Path(sys.argv[1]))
def one(i):
    fence.admit(AssignmentEvent(event_id="e", type="assign", task_id=f"t{i}", epoch=1, region="r", decided_at=1))
    fence.move_on("topic", 0, i + 1)
for i in range(100):
    with fence.transaction():
        one(i)
fence.connection.execute("BEGIN IMMEDIATE")
one(100)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_after_kill_minus_9_offset_and_points_agree(tmp_path: Path) -> None:
    path = tmp_path / "fence.sqlite"
    killed = subprocess.run([sys.executable, "-c", CRASH, str(path)], check=False, cwd=os.getcwd(), timeout=60)
    assert killed.returncode == -signal.SIGKILL
    fence = Fence(path)
    resume = fence.next_offset("topic", 0)
    assert resume == 100
    replayed = judge(fence, *(event(f"t{i}", 1, region="r") for i in range(resume, 101)))
    assert replayed == ["accepted"]
    assert fence.counts("r").accepted == 101


def test_a_task_is_forgotten_only_when_it_is_over_and_long_past() -> None:
    fence = Fence(None, keep_ms=1_000)
    judge(
        fence, event("running", 1, decided_at=0), event("over", 1, decided_at=10), event("fresh", 1, decided_at=1_005)
    )
    fence.finish(REGION, "over", 1)
    fence.finish(REGION, "fresh", 1)
    assert fence.forget() == 0  # nothing read is more than keep_ms younger yet
    judge(fence, event("young", 1, decided_at=2_000))
    assert fence.forget() == 1
    assert fence.point(REGION, "over") is None
    assert fence.point(REGION, "running") == (1, "assigned")
    assert fence.point(REGION, "fresh") == (1, "finished")


def test_a_repetition_of_a_forgotten_task_is_refused_and_news_is_not(tmp_path: Path) -> None:
    fence = Fence(tmp_path / "fence.sqlite", keep_ms=1_000)
    judge(fence, event("over", 1, decided_at=10))
    fence.finish(REGION, "over", 1)
    judge(fence, event("young", 1, decided_at=5_000))
    fence.forget()
    fence.close()
    fence = Fence(tmp_path / "fence.sqlite", keep_ms=1_000)
    assert judge(fence, event("over", 1, decided_at=10), event("new", 1, decided_at=11)) == ["older", "accepted"]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 3)), max_size=40), st.integers(0, 2**32))
def test_forgetting_never_lets_anything_run_twice(moves: list[tuple[int, int]], seed: int) -> None:
    # Every event of the past is delivered again after every step, with forgetting as eager as it can be.
    rng = random.Random(seed)
    fence = Fence(None, keep_ms=0)
    past: list[AssignmentEvent] = []
    runs: set[tuple[str, int]] = set()
    epochs: dict[str, int] = {}
    for now, (task, _) in enumerate(moves, start=1):
        task_id = f"t{task}"
        epochs[task_id] = epochs.get(task_id, 0) + 1
        past.append(event(task_id, epochs[task_id], decided_at=now))
        for one in [past[-1], *rng.sample(past, k=len(past))]:
            if judge(fence, one) == ["accepted"]:
                assert (one.task_id, one.epoch) not in runs
                runs.add((one.task_id, one.epoch))
                if rng.random() < 0.7:
                    fence.finish(REGION, one.task_id, one.epoch)
        fence.forget()
    assert runs == {(one.task_id, one.epoch) for one in past}


def test_another_installations_fence_is_refused(tmp_path: Path) -> None:
    fence = Fence(tmp_path / "fence.sqlite")
    fence.bind({"cluster": "abc", "prefix": "thalweg"})
    fence.bind({"cluster": "abc", "prefix": "thalweg"})
    with pytest.raises(FenceError, match=r"belongs to cluster 'abc', here cluster is 'xyz'.*state folder of its own"):
        fence.bind({"cluster": "xyz", "prefix": "thalweg"})


def test_a_file_that_is_no_fence_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "fence.sqlite"
    path.write_bytes(b"this is not a database, it is a sentence of more than a hundred bytes" * 20)
    with pytest.raises(FenceError, match=r"fence\.sqlite: .*Move the file away"):
        Fence(path)


def test_a_later_versions_fence_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fence.sqlite"
    fence = Fence(path)
    fence.connection.execute("PRAGMA user_version = 99")
    fence.close()
    with pytest.raises(FenceError, match="format 99, known is 1"):
        Fence(path)
