"""What would be under other prices, capacity, limits and settings: figures that can be checked by hand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.ledger_rows import START, submitted
from tests.unit.cli.test_opportunities import EAST, NEEDS, WEST, runs, world
from thalweg.client.orders import checked_order
from thalweg.conf.settings import PlaceSettings
from thalweg.query.questions.foreseen_change import change_in_words, foreseen_change
from thalweg.query.questions.what_if import CannotSupposeError, CapacityChange, Supposed, what_if
from thalweg.query.questions.world_copy import WorldSource, world_copy
from thalweg.scheduling.ids import RegionId, TaskId

NOW_MS = int(START.timestamp() * 1_000) + 1_800_000
IN_WEST = {**NEEDS, "allowed_regions": [WEST]}


def asked(folder: Path, **supposed: Any) -> Mapping[str, Any]:
    place = PlaceSettings()
    given = Supposed(**{"place": place, **supposed})
    return what_if(WorldSource(str(folder), place, NOW_MS), place, given, NOW_MS, lambda: 60.0)


def waits(task_id: str, **request: Any) -> list[dict[str, Any]]:
    return [submitted(task_id, **{**NEEDS, **request})]


def in_west(nodes: int, **more: Any) -> list[CapacityChange]:
    return [CapacityChange(region=RegionId(WEST), gpu_model="A100", nodes=nodes, **more)]


def test_with_nothing_supposed_nothing_differs(tmp_path: Path) -> None:
    found = asked(world(tmp_path, runs("a", EAST, 0), waits("w")))
    assert found["as_it_is"] == found["supposed"]
    assert (found["as_it_is"]["copies"], found["as_it_is"]["waiting"]) == (2, 0)
    assert found["as_it_is"]["usd_per_hour"] == pytest.approx(3.0 + 2.0), "what waits goes where it is cheaper"
    assert [found[kind]["copies"] for kind in ("starts", "waits", "elsewhere")] == [0, 0, 0]


def test_more_capacity_lets_those_in_that_wait_and_less_stops_what_ran_there(tmp_path: Path) -> None:
    folder = world(tmp_path, runs("a", WEST, 0), *(waits(f"w{n}", **IN_WEST) for n in range(3)), west_gpus=2)
    more = asked(folder, capacity=in_west(1))
    assert (more["as_it_is"]["waiting"], more["supposed"]["waiting"]) == (2, 0)
    assert (more["starts"]["copies"], more["supposed"]["capacity_gpus"]) == (2, 12)
    assert {one["to"] for one in more["starts"]["tasks"]} == {"west/A100/on-demand"}
    less = asked(folder, capacity=in_west(-1))
    assert (less["supposed"]["copies"], less["supposed"]["waiting"]) == (1, 3), "what may not go elsewhere waits"
    assert {one["from"] for one in less["elsewhere"]["tasks"]} == {"west/A100/on-demand"}
    assert asked(folder, capacity=in_west(1, gpus=4))["supposed"]["capacity_gpus"] == 14


def test_a_price_bears_on_what_waits_and_on_what_runs_where_all_is_placed_anew(tmp_path: Path) -> None:
    folder = world(tmp_path, runs("a", WEST, 0), waits("w"))
    cheap_east = [checked_order({"order": "price", "region": EAST, "gpu_model": "A100", "usd_per_gpu_hour": 0.5})]
    found = asked(folder, orders=cheap_east)
    assert [one["task_id"] for one in found["elsewhere"]["tasks"]] == ["w"]
    assert found["supposed"]["usd_per_hour"] == pytest.approx(2.0 + 0.5)
    anew = asked(folder, orders=cheap_east, afresh=True)
    assert {one["task_id"] for one in anew["elsewhere"]["tasks"]} == {"a", "w"}
    assert (anew["as_it_is"]["usd_per_hour"], anew["supposed"]["usd_per_hour"]) == pytest.approx((4.0, 1.0))


def test_limits_drains_and_settings_are_supposed_with_the_words_of_the_place_job(tmp_path: Path) -> None:
    folder = world(tmp_path, runs("a", EAST, 0), waits("w"))
    held = asked(folder, orders=[checked_order({"order": "hold", "tenant": "default"})])
    assert (held["waits"]["copies"], held["supposed"]["waiting"]) == (1, 1)
    assert "held by an order" in held["supposed"]["reasons"][0]["reason"]
    drained = asked(folder, orders=[checked_order({"order": "drain", "region": EAST})])
    assert [one["task_id"] for one in drained["elsewhere"]["tasks"]] == ["a"]
    dear = PlaceSettings.model_validate({"tenants": {"default": {"quota_gpus": 1}}})
    assert asked(folder, place=dear)["supposed"]["reasons"][0]["reason"].startswith("quota")
    with pytest.raises(CannotSupposeError, match="known are east, west"):
        asked(folder, orders=[checked_order({"order": "drain", "region": "nowhere"})])
    with pytest.raises(CannotSupposeError, match="it has 1 that are ready"):
        asked(folder, capacity=in_west(-2))
    with pytest.raises(CannotSupposeError, match="how many GPUs"):
        asked(folder, capacity=[CapacityChange(region=RegionId("new"), gpu_model="H100")])


def test_who_has_no_time_left_is_told_that_it_is_not_complete(tmp_path: Path) -> None:
    place = PlaceSettings()
    source = WorldSource(str(world(tmp_path, waits("w"))), place, NOW_MS)
    assert not what_if(source, place, Supposed(place=place), NOW_MS, lambda: 0.0)["complete"]


def test_what_an_operation_on_a_task_will_do_is_said_with_what_it_costs(tmp_path: Path) -> None:
    place, folder = PlaceSettings(), world(tmp_path, runs("a", EAST, 0, 1), waits("w"), waits("after", after=["a"]))

    def ahead(op: str, task_id: str) -> list[str]:
        return change_in_words(foreseen_change(world_copy(str(folder), place, NOW_MS), op, TaskId(task_id), NOW_MS))

    does, stops, others, frees = ahead("cancel", "a")
    assert does.startswith("it ends")
    assert stops == "copy 0 stops in east: 1.00 GPU-hours of it are lost", "two GPUs for half an hour"
    assert others == "1 other task is cancelled with it: after"
    assert frees == "2 GPUs become free, and 6.00 USD an hour are not spent any more"
    assert ahead("hold", "a") == ["it does not start until it is released", "1 copy of it that runs goes on"]
    assert ahead("hold", "w") == ["it does not start until it is released"]
    assert ahead("release", "w") == ["nothing new: it is not held, or has ended"]
    assert "no such task was submitted" in ahead("cancel", "nobody")[0]


def test_the_time_that_copies_take_is_not_taken_from_planning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spent_s, make = [0.0], WorldSource.world

    def slow(self: WorldSource, *how: Any) -> Any:
        spent_s[0] += 100.0
        return make(self, *how)

    monkeypatch.setattr(WorldSource, "world", slow)
    place = PlaceSettings()
    source = WorldSource(str(world(tmp_path, runs("a", EAST, 0), waits("w"))), place, NOW_MS)
    assert what_if(source, place, Supposed(place=place), NOW_MS, lambda: 20.0 - spent_s[0])["complete"]
