"""The record of a campaign of the line: it goes on where it stopped, and speaks for one code only."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from thalweg.cli.place_sim_command import place_sim
from thalweg.conf.environment import PROJECT_ROOT
from thalweg.proof.campaign import FailedHistory, LineCampaign
from thalweg.proof.campaign_record import LineRecord, code_digest, extended, played_modules, read_record
from thalweg.sync.proof.campaign_record import RecordUnusableError, write_record

NOW = datetime(2026, 11, 30, 1, tzinfo=UTC)
LEAST_DEATHS = 10_000


def begun(histories: int = 40, seed: int = 5) -> LineRecord:
    return LineRecord(
        histories=histories, seed=seed, begun_at=NOW, ended_at=NOW, code=code_digest(), commit=None, machine={}
    )


def played(histories: int, seed: int, **more: object) -> LineCampaign:
    counts = {"died_at": {"before ledger": 2 * histories}, "happened": {"submit": histories}, "tasks": {"failed": 1}}
    found = {"failed": 0, "deaths": 2 * histories, "seconds": 1.5, "processes": 2} | counts | more
    return LineCampaign(histories=histories, seed=seed, **found)  # type: ignore[arg-type]


def test_parts_add_up_and_failures_stay() -> None:
    failure = FailedHistory(seed=7, violations=["lost: t"], acts=[], replay="")
    first = extended(begun(), played(10, 5, failed=1, failures=[failure]), NOW)
    whole = extended(first, played(30, 15, died_at={"before ledger": 1, "publish": 59}), NOW)
    assert whole.complete and not first.complete
    assert (whole.done, whole.failed, whole.deaths, whole.running_seconds) == (40, 1, 80, 3.0)
    assert whole.died_at == {"publish": 59, "before ledger": 21}
    assert whole.failures == (failure,)
    with pytest.raises(ValueError, match="do not follow"):
        extended(first, played(1, 16), NOW)


def test_a_record_of_another_campaign_or_of_other_code_is_not_continued(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    assert read_record(path, 40, 5) is None
    write_record(path, begun())
    assert read_record(path, 40, 5) == begun()
    with pytest.raises(RecordUnusableError, match="name another file"):
        read_record(path, 41, 5)
    write_record(path, msgspec.structs.replace(begun(), code="0" * 32))
    with pytest.raises(RecordUnusableError, match="other code"):
        read_record(path, 40, 5)
    path.write_text("{}")
    with pytest.raises(RecordUnusableError, match="no record"):
        read_record(path, 40, 5)


def test_the_digest_covers_what_is_played() -> None:
    played_line = {
        "jobs.placement.placer", "sync.ledger.ledger", "sync.delta.commits", "streams.placement.fence", "agent.agent",
        "scheduling.live.micro_batch", "scheduling.world.world", "audit.accounts", "proof.books", "proof.stage",
    }  # fmt: skip
    modules = set(played_modules())
    assert played_line <= modules
    assert "proof.breaks" not in modules and not any(name.startswith("cli.") for name in modules)


def test_the_command_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    call = ["--histories", "2", "--seed", "3", "--processes", "1", "--record", str(path)]
    first = CliRunner().invoke(place_sim, [*call, "--at-most", "1"])
    assert first.exit_code == 0, first.output
    assert "1 histories from seed 3: 0 failed" in first.output
    kept = read_record(path, 2, 3)
    assert kept is not None and kept.done == 1
    assert CliRunner().invoke(place_sim, call).exit_code == 0
    whole = read_record(path, 2, 3)
    assert whole is not None and whole.complete and whole.begun_at == kept.begun_at
    assert CliRunner().invoke(place_sim, ["--at-most", "1"]).exit_code == 2


def test_the_committed_record_is_of_this_code_and_without_a_failure() -> None:
    path = PROJECT_ROOT / "benchmarks" / "results" / "place-sim.json"
    if not path.exists():
        pytest.skip("no campaign is recorded")
    record = msgspec.json.decode(path.read_bytes(), type=LineRecord)
    assert record.code == code_digest(), "run the campaign again: the code that is played has changed since"
    assert record.failed == 0 and record.deaths >= LEAST_DEATHS
