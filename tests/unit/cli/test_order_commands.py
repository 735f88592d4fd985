"""`thalweg drain`, `move`, `tenant`, `price`, `orders`: what is said beforehand, what is sent, and what is told."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.ledger_rows import ledger
from tests.unit.cli.test_opportunities import EAST, WEST, runs, world
from thalweg.cli.main import cli
from thalweg.client import orders as client_orders
from thalweg.streams.contract.messages import ControlOrder, OrderAnswer


def ordered(subject: str, after: dict[str, Any] | None = None, before: dict[str, Any] | None = None) -> dict[str, Any]:
    told = {"subject": subject, "who": "ann"} | {k: v for k, v in (("after", after), ("before", before)) if v}
    return {"task_id": "", "transition": "ordered", "ordered": json.dumps(told), "reason": f"about {subject}"}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[ControlOrder]:
    """Orders that were sent; each is answered with `taken`."""
    kept: list[ControlOrder] = []

    def give(_kafka: object, order: ControlOrder, _now_ms: int, _answer_s: float) -> OrderAnswer:
        kept.append(order)
        return OrderAnswer(order=order.order, answer="taken", subject="s", reason="it stands")

    monkeypatch.setattr(client_orders, "give_order", give)
    return kept


def call(*arguments: str, warehouse: Path | None = None, code: int = 0) -> Result:
    place = [] if warehouse is None else ["--warehouse", str(warehouse)]
    broker = [] if arguments[0] == "orders" else ["--bootstrap", "nobody:1"]
    result = CliRunner().invoke(cli, [*arguments, *place, *broker])
    assert result.exit_code == code, result.output
    return result


def test_a_dry_run_says_what_moves_where_and_what_it_costs_and_sends_nothing(
    tmp_path: Path, sent: list[ControlOrder]
) -> None:
    folder = world(tmp_path, runs("a", EAST, 0), runs("b", EAST, 1), runs("home", EAST, 2, allowed_regions=[EAST]))
    told = json.loads(call("drain", EAST, "--dry-run", "--json", warehouse=folder).output)
    assert {(one["task_id"], one["from"], one["to"]) for one in told["moves"]} == {
        (name, "east/A100/on-demand", "west/A100/on-demand") for name in ("a", "b")
    }
    assert told["usd_per_hour_more"] == pytest.approx(-2.0), "each is a dollar cheaper there"
    ((stays),) = told["stay"]
    assert (stays["task_id"], stays["reason"]) == ("home", "west: residency: not one of its allowed regions")
    said = call("drain", EAST, "--dry-run", warehouse=folder).output
    assert said.startswith("Dry run, nothing is sent. What would follow:")
    assert "2 copies move (2 to west)" in said and "1 copy stays" in said and not sent


def test_nothing_is_sent_without_a_yes_and_what_would_be_refused_is_said_first(
    tmp_path: Path, sent: list[ControlOrder]
) -> None:
    folder = world(tmp_path, runs("a", EAST, 0))
    assert "--yes does it" in call("drain", EAST, warehouse=folder, code=2).output
    assert "known are east, west" in call("drain", "nowhere", warehouse=folder, code=1).output
    assert "no such task" in call("move", "nobody", WEST, "--dry-run", warehouse=folder, code=1).output
    assert not sent
    assert "it stands" in call("drain", EAST, "--yes", "--who", "ann", warehouse=folder).output
    (order,) = sent
    assert (order.order, order.region, order.node_id, order.who) == ("drain", EAST, None, "ann")


def test_an_empty_place_moves_nothing_and_a_node_is_told_from_its_region(
    tmp_path: Path, sent: list[ControlOrder]
) -> None:
    folder = world(tmp_path, runs("a", EAST, 0))
    assert "nothing moves" in call("drain", WEST, "--dry-run", warehouse=folder).output
    call("undrain", f"{EAST}/east-n", warehouse=folder)
    assert (sent[-1].region, sent[-1].node_id) == (EAST, "east-n")
    told = json.loads(call("drain", f"{EAST}/east-n", "--dry-run", "--json", warehouse=folder).output)
    assert [one["to"] for one in told["moves"]] == ["west/A100/on-demand"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["drain", EAST, "--by", "2020-01-01T00:00:00Z"], "lies in the past"),
        (["drain", EAST, "--by", "soon"], "allowed are a time"),
        (["tenant", "x"], "wanted is one of"),
        (["tenant", "x", "--hold", "--most-tasks", "3"], "they cannot be combined"),
        (["tenant", "x", "--hold", "--release"], "they cannot be combined"),
        (["tenant", "x", "--quota", "-1"], "quota_gpus"),
        (["tenant", "x", "--weight", "0"], "weight"),
        (["tenant", "x", "--weight", "nan"], "weight"),
        (["price", EAST, "A100"], "wanted is a price"),
        (["price", EAST, "A100", "nan"], "no finite number"),
    ],
)
def test_a_call_that_makes_no_sense_ends_with_2_and_says_why(
    arguments: list[str], words: str, sent: list[ControlOrder]
) -> None:
    assert words in call(*arguments, code=2).output and not sent


def test_a_price_says_what_it_is_which_it_will_be_and_what_follows(tmp_path: Path, sent: list[ControlOrder]) -> None:
    price = {"type": "price", "region": EAST, "gpu_model": "A100", "usd_per_gpu_hour": 1.25}
    stands = ledger(ordered(f"price/{EAST}/A100/on-demand", after=price), batch_id=1, at_s=600)
    folder = world(tmp_path, runs("a", EAST, 0), runs("b", EAST, 1), more=[stands])
    said = call("price", EAST, "A100", "--reset", "--dry-run", warehouse=folder).output
    assert "a GPU-hour of east A100 costs 1.25 USD now, and will cost 3 USD, as the region says" in said
    assert "plans and looks at what runs use it at once" in said
    assert "2 copies go on there of 2 GPUs" in said
    told = json.loads(call("price", EAST, "A100", "--reset", "--dry-run", "--json", warehouse=folder).output)
    assert told["price"] == {"usd_now": 1.25, "usd_then": 3.0, "told_by_region": 3.0, "copies": 2, "gpus": 2.0}
    said = call("price", EAST, "A100", "1.25", "--dry-run", warehouse=folder).output
    assert "nothing new: east/A100/on-demand costs 1.25 USD a GPU-hour" in said
    assert "costs 1.25 USD now, and will cost the same" in said
    assert "says so from then on" not in said and "at once" not in said
    assert "the region itself says 3 USD: the order stands above it" in said
    assert "costs 2 USD now, and will cost 9 USD, as the order says" in call(
        "price", WEST, "A100", "9", "--dry-run", warehouse=folder
    ).output  # fmt: skip
    # What the region says already is an order all the same: it stands when the region says something else.
    said = call("price", WEST, "A100", "2", "--dry-run", warehouse=folder).output
    assert "costs 2 USD now, and will cost the same: the order says so from then on" in said
    assert "nothing new" not in said
    assert not sent


def test_a_limit_of_tasks_says_how_many_there_are_and_whether_anything_new_is_taken(
    tmp_path: Path, sent: list[ControlOrder]
) -> None:
    folder = world(tmp_path, runs("a", EAST, 0), runs("b", EAST, 1))
    full = call("tenant", "default", "--most-tasks", "2", "--dry-run", warehouse=folder).output
    assert "2 of its tasks have not ended: nothing new of it is taken until fewer than 2 have not" in full
    wide = call("tenant", "default", "--most-tasks", "1234567", "--dry-run", warehouse=folder).output
    assert "most tasks 1,234,567" in wide
    assert "2 of its tasks have not ended" in wide and "nothing new" not in wide
    held = [ledger(ordered("hold/x", {"type": "hold", "tenant": "x"}), batch_id=9)]
    folder = world(tmp_path / "held", runs("a", EAST, 0), more=held)
    freed = call("tenant", "x", "--release", "--dry-run", warehouse=folder).output
    assert "tenant x is held no more" in freed


def test_zero_is_a_value(sent: list[ControlOrder]) -> None:
    call("tenant", "x", "--quota", "0")
    call("price", EAST, "A100", "0")
    assert (sent[0].quota_gpus, sent[1].usd_per_gpu_hour) == (0.0, 0.0)


def test_orders_that_stand_and_their_history_are_read_from_the_ledger(tmp_path: Path) -> None:
    drained = {"type": "drain", "region": EAST}
    rows = ledger(
        ordered(f"drain/{EAST}", drained), ordered("hold/x", {"type": "hold", "tenant": "x"}),
        ordered(f"drain/{EAST}", None, drained), batch_id=9,
    )  # fmt: skip
    folder = world(tmp_path, runs("a", EAST, 0), more=[rows])
    stand = json.loads(call("orders", "--json", warehouse=folder).output)["orders"]
    assert [row["subject"] for row in stand] == ["hold/x"]
    history = json.loads(call("orders", "--history", "--json", warehouse=folder).output)["orders"]
    assert [(row["subject"], row["before"], row["after"]) for row in history][::2] == [
        (f"drain/{EAST}", None, drained), (f"drain/{EAST}", drained, None)
    ]  # fmt: skip
    told = json.loads(call("tenant", "x", "--hold", "--dry-run", "--json", warehouse=folder).output)
    assert told["changes"] == ["nothing new: tenant x is held"], "a copy of the world knows what stands"
