"""`thalweg bench`: parameters by type, one JSON document, results kept."""

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from thalweg.cli import bench_command
from thalweg.cli.bench_command import BENCHMARKS, bench, parameters


def measure(*, rate: float = 5, seconds: int = 1, settings: str = "") -> dict[str, Any]:
    return {"name": "fake", "parameters": {"rate": rate, "seconds": seconds}, "p50_ms": 1.5}


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    rate_per_s: int = 3


def measure_group(parameters: Group = Group()) -> dict[str, Any]:
    return {"rate": parameters.rate_per_s}


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(BENCHMARKS, "pack", (__name__, "measure"))
    monkeypatch.setitem(BENCHMARKS, "plan", (__name__, "measure_group"))
    monkeypatch.setattr(bench_command, "results_folder", lambda: tmp_path / "results")


def test_parameters_are_read_by_their_types() -> None:
    assert parameters(measure, ["rate=2.5", "seconds=7", "settings=a.b=c"]) == {
        "rate": 2.5,
        "seconds": 7,
        "settings": "a.b=c",
    }


@pytest.mark.parametrize("item", ["rate", "speed=1", "seconds=soon", "seconds=1.5"])
def test_a_wrong_parameter_is_refused_with_what_is_allowed(item: str) -> None:
    with pytest.raises(click.UsageError, match=item.split("=", maxsplit=1)[0]):
        parameters(measure, [item])


def test_json_is_exactly_one_document_on_standard_output(tmp_path: Path) -> None:
    result = CliRunner().invoke(bench, ["pack", "--set", "seconds=9", "--json"])

    assert result.exit_code == 0
    assert json.loads(result.stdout)["parameters"] == {"rate": 5, "seconds": 9}
    assert not (tmp_path / "results").exists()


def test_a_measurement_may_take_its_parameters_as_one_group() -> None:
    result = CliRunner().invoke(bench, ["plan", "--set", "rate_per_s=8", "--json"])

    assert json.loads(result.stdout) == {"rate": 8}


def test_a_result_is_kept_when_asked_for(tmp_path: Path) -> None:
    result = CliRunner().invoke(bench, ["pack", "--record"])

    assert result.exit_code == 0
    (kept,) = (tmp_path / "results").iterdir()
    assert json.loads(kept.read_text())["p50_ms"] == 1.5
    assert "1.5" in result.stdout


def test_every_measurement_is_there() -> None:
    for module, function in BENCHMARKS.values():
        assert callable(getattr(importlib.import_module(module), function))
