"""Which processes a stack runs."""

from pathlib import Path

import pytest

from thalweg.conf.settings import (
    FederateSettings,
    PlaceSettings,
    RolloutSettings,
    Settings,
    WarehouseSettings,
    WindowSettings,
)
from thalweg.processes.children import ProcessSpec
from thalweg.stack import stack
from thalweg.stack.state import StateFolder


def specs(folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> list[ProcessSpec]:
    monkeypatch.setattr(stack, "local_broker", lambda folder: ProcessSpec(name="broker", argv=("broker",)))
    return stack.local_specs(StateFolder(folder), settings, overrides, None)


def test_a_stack_is_a_broker_one_application_and_who_looks_after_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, jobs, maintain, window = specs(tmp_path, Settings(), monkeypatch)
    assert (broker.name, jobs.name, maintain.name, window.name) == ("broker", "jobs", "maintain", "window")
    assert "thalweg.jobs.local" in jobs.argv


def test_nobody_waits_for_the_window_and_a_setting_leaves_it_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, window = specs(tmp_path, Settings(), monkeypatch, "place.strategy=greedy")
    assert window.may_fail
    assert {"place.strategy=greedy", f"window.port={window.ports['window']}"} <= set(window.argv)
    assert StateFolder(tmp_path).port("window") == window.ports["window"]
    without = specs(tmp_path, Settings(window=WindowSettings(enabled=False)), monkeypatch)
    assert "window" not in [spec.name for spec in without]


def test_with_a_standby_two_drivers_run_alike_beside_the_other_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = Settings(place=PlaceSettings(standby=True))
    _, jobs, *drivers, maintain, _ = specs(tmp_path, wanted, monkeypatch, "place.standby=true")
    assert "thalweg.jobs.local" in jobs.argv
    assert [driver.name for driver in (*drivers, maintain)] == ["place-1", "place-2", "maintain"]
    for driver in drivers:
        assert "thalweg.jobs.place" in driver.argv
        assert "place.standby=true" in driver.argv
        assert driver.announces_ready
        assert driver.again is not None
        assert driver.again().name == driver.name
    ports = [port for spec in (jobs, *drivers) for port in spec.ports.values()]
    assert len(set(ports)) == 3


def test_a_setting_starts_the_process_of_roll_outs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = Settings(rollout=RolloutSettings(enabled=True))
    *_, rollouts, window = specs(tmp_path, wanted, monkeypatch, "rollout.enabled=true")
    assert (rollouts.name, window.name) == ("rollouts", "window")
    assert {"thalweg.jobs.roll_out", "rollout.enabled=true"} <= set(rollouts.argv)
    assert rollouts.again is not None and rollouts.again().argv == rollouts.argv


def test_a_setting_starts_the_centre_of_learning_with_its_payloads_beside_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = Settings(federate=FederateSettings(enabled=True))
    *_, centre, window = specs(tmp_path, wanted, monkeypatch, "federate.enabled=true")
    assert (centre.name, window.name) == ("centre", "window")
    assert {"thalweg.jobs.federate", f"federate.payloads={tmp_path / 'payloads'}"} <= set(centre.argv)
    assert centre.announces_ready and not centre.may_fail and centre.needs == ("broker",)
    assert centre.again is not None and centre.again().argv == centre.argv
    elsewhere = wanted.model_copy(update={"warehouse": WarehouseSettings(path="s3://bucket/tables")})
    *_, centre, _ = specs(tmp_path, elsewhere, monkeypatch)
    assert "federate.payloads=s3://bucket/payloads" in centre.argv
