"""What has served is on the disk whole, whenever a machine stops; and what is not whole is not served."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.thalweg.serving.models import model, version
from thalweg.serving import kept_model
from thalweg.serving.kept_model import KeptModel

OLD, NEW = model(1), model(2)
FIRST, SECOND = version(1, OLD), version(2, NEW)


class PowerLostError(BaseException):
    """The machine stops here."""


def test_what_was_kept_last_is_found_again_and_nothing_beside_it(tmp_path: Path) -> None:
    kept = KeptModel(tmp_path / "digits")
    assert kept.newest() is None
    kept.keep(FIRST, OLD)
    kept.keep(SECOND, NEW)
    assert KeptModel(tmp_path / "digits").newest() == (SECOND, NEW)
    assert sorted(path.name for path in (tmp_path / "digits").iterdir()) == sorted(
        [".lock", SECOND.sha256, "kept.json"]
    )


@pytest.mark.parametrize("step", range(6))
def test_a_machine_that_stops_at_any_step_has_one_whole_version(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = KeptModel(tmp_path)
    kept.keep(FIRST, OLD)
    done = 0

    def until_power_is_lost(act: Callable[..., Any]) -> Callable[..., Any]:
        def acting(*arguments: Any) -> Any:
            nonlocal done
            if done == step:
                raise PowerLostError
            done += 1
            return act(*arguments)

        return acting

    for name in ("sync_file", "sync_folder"):
        monkeypatch.setattr(kept_model, name, until_power_is_lost(getattr(kept_model, name)))
    monkeypatch.setattr(kept_model.os, "replace", until_power_is_lost(os.replace))
    with pytest.raises(PowerLostError):
        kept.keep(SECOND, NEW)
    monkeypatch.undo()
    assert KeptModel(tmp_path).newest() in ((FIRST, OLD), (SECOND, NEW))
    kept.keep(SECOND, NEW)
    assert kept.newest() == (SECOND, NEW)


@pytest.mark.parametrize("damage", [b"", NEW, OLD[:-1]])
def test_bytes_that_are_not_those_of_the_version_are_not_found(damage: bytes, tmp_path: Path) -> None:
    kept = KeptModel(tmp_path)
    kept.keep(FIRST, OLD)
    (tmp_path / FIRST.sha256).write_bytes(damage)
    assert kept.newest() is None


def test_a_record_that_is_no_record_is_not_found(tmp_path: Path) -> None:
    kept = KeptModel(tmp_path)
    kept.keep(FIRST, OLD)
    (tmp_path / "kept.json").write_text('{"version": 1}')
    assert kept.newest() is None
