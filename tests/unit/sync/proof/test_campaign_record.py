"""A campaign's record: it goes on where it stopped, and speaks for one code only."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from thalweg.conf.environment import PROJECT_ROOT
from thalweg.sync.proof import campaign_record
from thalweg.sync.proof.campaign import run_campaign
from thalweg.sync.proof.campaign_record import (
    CampaignRecord,
    RecordUnusableError,
    code_digest,
    extended,
    read_record,
    simulated_modules,
    write_record,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def begun(histories: int = 30, seed: int = 5) -> CampaignRecord:
    return CampaignRecord(
        histories=histories, seed=seed, begun_at=NOW, ended_at=NOW, code=code_digest(), commit=None, machine={}
    )


def test_two_parts_add_up_to_the_whole(tmp_path: Path) -> None:
    record = begun()
    for _ in range(2):
        write_record(tmp_path / "r.json", record)
        found = read_record(tmp_path / "r.json", 30, 5)
        assert found is not None
        record = extended(found, run_campaign(15, found.seed + found.done, processes=1), NOW)
    whole = run_campaign(30, 5, processes=1)
    assert record.complete and record.happened == whole.happened and record.failed == 0


def test_a_part_that_does_not_follow_is_not_added() -> None:
    with pytest.raises(ValueError, match="do not follow"):
        extended(begun(), run_campaign(1, 7, processes=1), NOW)


def test_failures_stay_in_the_record() -> None:
    record = extended(begun(20, 0), run_campaign(20, 0, processes=1, mutant="forget-at-once"), NOW)
    assert record.failed > 0 and record.failures[0].replay


def test_a_record_of_another_campaign_or_of_other_code_is_not_continued(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    assert read_record(path, 30, 5) is None
    write_record(path, begun())
    with pytest.raises(RecordUnusableError, match="name another file"):
        read_record(path, 31, 5)
    write_record(path, msgspec.structs.replace(begun(), code="0" * 32))
    with pytest.raises(RecordUnusableError, match="other code"):
        read_record(path, 30, 5)
    path.write_text("{}")
    with pytest.raises(RecordUnusableError, match="no record"):
        read_record(path, 30, 5)


def test_the_digest_covers_what_runs_live_and_not_its_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    live = {"protocol.merge", "protocol.policies", "replica.replica", "centre.centre", "centre.key_merge"}
    assert live | {"proof.oracle", "proof.simulator"} <= set(simulated_modules())
    before = code_digest()
    for name in simulated_modules():
        path = Path(name.replace(".", "/")).with_suffix(".py")
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text((PROJECT_ROOT / "sync" / path).read_text())
    monkeypatch.setattr(campaign_record, "_ROOM", tmp_path)
    assert code_digest() == before
    merge_file = tmp_path / "protocol" / "merge.py"
    merge = merge_file.read_text()
    merge_file.write_text("# a word more\n" + merge.replace("Join field by field", "Join the fields"))
    assert code_digest() == before
    merge_file.write_text(merge.replace("max(left.deleted, right.deleted)", "left.deleted"))
    assert code_digest() != before


def test_the_committed_record_is_of_this_code_and_without_a_failure() -> None:
    path = PROJECT_ROOT / "benchmarks" / "results" / "sync-sim.json"
    if not path.exists():
        pytest.skip("no campaign is recorded")
    record = msgspec.json.decode(path.read_bytes(), type=CampaignRecord)
    assert record.code == code_digest(), "run the campaign again: the simulated code has changed since"
    assert record.failed == 0 and record.done > 0
