"""Which processes a stack runs."""

from pathlib import Path

import pytest

from thalweg.conf.settings import PlaceSettings, Settings
from thalweg.processes.children import ProcessSpec
from thalweg.stack import stack
from thalweg.stack.state import StateFolder


def specs(folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> list[ProcessSpec]:
    monkeypatch.setattr(stack, "local_broker", lambda folder: ProcessSpec(name="broker", argv=("broker",)))
    return stack.local_specs(StateFolder(folder), settings, overrides, None)


def test_a_stack_is_a_broker_one_application_and_who_looks_after_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, jobs, maintain = specs(tmp_path, Settings(), monkeypatch)
    assert (broker.name, jobs.name, maintain.name) == ("broker", "jobs", "maintain")
    assert "thalweg.jobs.local" in jobs.argv


def test_with_a_standby_two_drivers_run_alike_beside_the_other_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = Settings(place=PlaceSettings(standby=True))
    _, jobs, *drivers, maintain = specs(tmp_path, wanted, monkeypatch, "place.standby=true")
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
