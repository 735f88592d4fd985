"""What the client sends about many tasks, and what it takes for their ends."""

import asyncio
from typing import Any

import pytest

from thalweg.client.async_client import AsyncClient
from thalweg.client.client import (
    Client,
    InvalidRequestError,
    Outcome,
    OutcomeState,
    WaitTimeoutError,
    _Followed,
    _shares,
    checked_request,
    outcome_of,
)
from thalweg.streams.contract.messages import Answer, TaskEnd


def end(task_id: str, ended_at: int, state: str = "succeeded", **more: Any) -> TaskEnd:
    return TaskEnd(event_id="e", task_id=task_id, state=state, tenant="t", ended_at=ended_at, **more)  # type: ignore[arg-type]


def test_ids_are_dealt_out_to_few_messages_that_are_not_too_large() -> None:
    assert list(_shares([])) == []
    assert [len(share) for share in _shares([f"t{n}" for n in range(25_000)])] == [10_000, 10_000, 5_000]
    long = ["ä" * 256 for _ in range(4_000)]
    shares = list(_shares(long))
    assert sum(map(len, shares)) == 4_000
    assert all(sum(len(one.encode()) + 3 for one in share) <= 800_000 for share in shares)
    assert len(shares) == 3


def test_an_end_of_before_it_was_asked_to_run_again_is_none() -> None:
    followed = _Followed()
    followed.hear_end(end("t", 5))
    assert followed.told_end is not None
    followed.ask("rerun", 10)
    assert followed.told_end is None
    followed.hear_end(end("t", 9))
    assert followed.told_end is None
    followed.hear_end(end("t", 10))
    assert followed.told_end is not None


def test_an_end_brings_the_results() -> None:
    told = end("t", 1, "failed", region="x", epoch=3, exit_code=2, metrics={"loss": 0.5}, result={"a": 1}, reason="why")
    assert outcome_of(told) == Outcome(
        task_id="t", state=OutcomeState.FAILED, region="x", epoch=3, exit_code=2, detail="why",
        metrics={"loss": 0.5}, result={"a": 1},
    )  # fmt: skip


class SlowClient:
    """Tasks that end one after the other, each at its own look."""

    def __init__(self, looks: dict[str, int]) -> None:
        self.looks = looks
        self.closed = False

    def submit(self, request: dict[str, Any], keep_unknown: bool = False) -> str:
        return str(request["task_id"])

    def wait(self, task_id: str, timeout_s: float, *, attempts: int) -> Outcome:
        self.looks[task_id] -= 1
        if self.looks[task_id] > 0:
            raise WaitTimeoutError(task_id, timeout_s, "running")
        return Outcome(task_id=task_id, state=OutcomeState.SUCCEEDED)

    def answered(self, task_ids: list[str], op: str, *, timeout_s: float) -> dict[str, Answer]:
        self.looks["answers"] -= 1
        return (
            {} if self.looks["answers"] > 0 else {t: Answer(task_id=t, op="submit", answer="taken") for t in task_ids}
        )

    def close(self) -> None:
        self.closed = True


def connected(looks: dict[str, int]) -> tuple[AsyncClient, SlowClient]:
    slow, client = SlowClient(looks), AsyncClient()
    client._connect = lambda: slow  # type: ignore[assignment, return-value]
    return client, slow


def test_coroutines_wait_beside_each_other_and_a_cancelled_one_hinders_none() -> None:
    client, slow = connected({"a": 3, "b": 1, "never": 10**9, "answers": 2})

    async def go() -> list[Outcome]:
        async with client:
            assert await client.submit({"task_id": "a"}) == "a"
            assert set(await client.answered(["a", "b"], timeout_s=60)) == {"a", "b"}
            endless = asyncio.create_task(client.wait("never", timeout_s=600))
            found = await asyncio.gather(client.wait("a", timeout_s=60), client.wait("b", timeout_s=60))
            endless.cancel()
            with pytest.raises(asyncio.CancelledError):
                await endless
            with pytest.raises(WaitTimeoutError, match="within 0 s; last seen: running"):
                await client.wait("never", timeout_s=0)
            return list(found)

    assert [outcome.task_id for outcome in asyncio.run(go())] == ["a", "b"]
    assert slow.closed


def test_asyncio_has_every_call_for_tasks() -> None:
    calls = {name for name, call in vars(Client).items() if callable(call) and not name.startswith("_")}
    assert calls - {"assignments", "close"} <= vars(AsyncClient).keys()


def test_who_has_not_entered_is_told_so() -> None:
    with pytest.raises(RuntimeError, match="async with AsyncClient"):
        asyncio.run(AsyncClient().submit({"task_id": "t"}))


@pytest.mark.parametrize("op", ["cancel", "hold", "release", "rerun"])
def test_a_text_is_no_list_of_ids(op: str) -> None:
    client = object.__new__(Client)  # nothing may be sent, so there is nothing to send with
    with pytest.raises(InvalidRequestError, match="wanted is a list of ids"):
        client.change(op, "abc")


def test_what_is_no_mapping_is_no_request() -> None:
    with pytest.raises(InvalidRequestError, match="wanted is a TaskRequest or a mapping, seen 'hello'"):
        checked_request("hello", "submit")  # type: ignore[arg-type]
    for command in ([""], ["a", "b\0c"]):
        with pytest.raises(InvalidRequestError, match="command"):
            checked_request({"task_id": "t", "command": command}, "submit")
