"""A copy made while everything is written is one consistent stack; what is cut off or changed is not believed."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from tests.ledger_rows import assigned, ledger, submitted
from thalweg.agent.store import AgentStore
from thalweg.backup import make
from thalweg.backup import restore as restoring
from thalweg.backup.make import COPIED_LAST, PARTS, StackPlaces, in_order, make_backup
from thalweg.backup.manifest import MANIFEST, BackupError, Manifest, digest_of, read_manifest
from thalweg.backup.parts import METADATA
from thalweg.backup.restore import restore_backup, verify
from thalweg.checkup.stacks import restored_findings
from thalweg.jobs.placement.tables import PlaceTables
from thalweg.jobs.runtime.job import Stop
from thalweg.stack.broker import cluster_id
from thalweg.stack.state import RESTORING, StateFolder, StateFolderError
from thalweg.streams.broker.query_checkpoint import QueryCheckpoint
from thalweg.sync.delta.contracts import CONTRACTS, PLACEMENTS, TASKS
from thalweg.sync.delta.store import open_or_create
from thalweg.sync.delta.table_health import damage_of
from thalweg.sync.delta.upkeep import Upkeep
from thalweg.sync.ledger.fold_marks import FOLD_BATCH
from thalweg.sync.ledger.folds import fold_ledger
from thalweg.sync.ledger.ledger import Ledger
from thalweg.sync.ledger.put_back import put_back_in
from thalweg.sync.ledger.reading import rows_of_ledger

CLUSTER = "the-cluster-of-this-test"


def write_batch(state: Path, own: Ledger, number: int) -> None:
    """Do what a micro-batch does, in its order: plan it, commit it, end it; old batches are let go."""
    checkpoint = state / "checkpoints" / "place"
    (checkpoint / "offsets" / str(number)).write_text(f'v1\n{{}}\n{{"t.requests":{{"0":{number}}}}}')
    own.commit(ledger(submitted(f"task-{number}"), batch_id=number, driver_epoch=own.driver_epoch), "q", number, number)
    (checkpoint / "commits" / str(number)).write_text("v1\n{}")
    for part in ("offsets", "commits"):
        (checkpoint / part / str(number - 20)).unlink(missing_ok=True)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    state = StateFolder(tmp_path / "state").path
    checkpoint = state / "checkpoints" / "place"
    for part in ("offsets", "commits"):
        (checkpoint / part).mkdir(parents=True)
    (checkpoint / "metadata").write_text('{"id":"q"}')
    (checkpoint / "offsets" / ".7.crc").write_text("not of the copy")
    for contract in (TASKS, PLACEMENTS):
        open_or_create(contract, str(state / "warehouse"))
    own = Ledger.claim(str(state / "warehouse"))
    for number in range(3):
        write_batch(state, own, number)
    AgentStore(state / "agents" / "west").close()
    records = state / "broker" / "records"
    for partition in (METADATA, "t.requests-0"):
        (records / partition).mkdir(parents=True)
        (records / partition / f"{0:020}.log").write_bytes(b"records of " + partition.encode())
        (records / partition / f"{0:020}.index").write_bytes(b"is made anew")
        (records / partition / "partition.metadata").write_text("version: 0\ntopic_id: x")
    (records / "meta.properties").write_text(f"version=1\ncluster.id={CLUSTER}\n")
    (records / "recovery-point-offset-checkpoint").write_text("is made anew")
    return state


def places(state: Path) -> StackPlaces:
    return StackPlaces(state=state, warehouse=state / "warehouse", checkpoints=state / "checkpoints")


def backed_up(state: Path, name: str = "backup", *, with_records: bool = True) -> Path:
    target = state.parent / name
    make_backup(places(state), target, now_ms=1_800_000_000_000, steady=lambda: 0, with_records=with_records)
    return target


def rows(state: Path) -> list[str]:
    table = DeltaTable(str(state / "warehouse" / "decisions")).to_pyarrow_table(columns=["task_id"])
    return sorted(table.column("task_id").to_pylist())


def test_what_was_copied_is_what_is_restored(state: Path, tmp_path: Path) -> None:
    folder = backed_up(state)
    manifest = verify(folder)
    assert (manifest.cluster_id, manifest.checkpoints, manifest.agents) == (CLUSTER, {"place": 2}, ("west",))
    assert manifest.driver_epoch == 1
    assert manifest.warehouse_id == str(DeltaTable(str(state / "warehouse" / "decisions")).metadata().id)
    other = tmp_path / "other"
    restore_backup(folder, other)
    assert rows(other) == rows(state)
    assert QueryCheckpoint(other / "checkpoints" / "place").standing().batch == 2
    AgentStore(other / "agents" / "west").close()
    assert cluster_id(other / "broker") == CLUSTER
    assert not (other / RESTORING).exists()
    kept = {str(file.relative_to(other / "broker")) for file in (other / "broker").rglob("*") if file.is_file()}
    assert "records/t.requests-0/00000000000000000000.log" in kept
    assert not [name for name in kept if "index" in name or "recovery-point" in name]


@pytest.mark.parametrize("moment", range(4))
def test_a_copy_made_while_everything_is_written_is_consistent(state: Path, tmp_path: Path, moment: int) -> None:
    stop, failed = threading.Event(), list[BaseException]()
    own = Ledger.claim(str(state / "warehouse"))
    upkeep = Upkeep(str(state / "warehouse" / "decisions"))

    def write() -> None:
        number = 3
        try:
            while not stop.is_set():
                write_batch(state, own, number)
                number += 1
                if number % 10 == 0:
                    own._commits.compact(at_least=5)
                    upkeep.checkpoint()
                    upkeep.sweep(own.pending)
        except BaseException as error:
            failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while len(rows(state)) < 10 + 15 * moment and not failed:
            pass
        folder = backed_up(state)
    finally:
        stop.set()
        writer.join()
    assert not failed
    other = tmp_path / "other"
    restore_backup(folder, other)
    assert [*damage_of(str(other / "warehouse" / "decisions"))] == []
    standing = QueryCheckpoint(other / "checkpoints" / "place").standing()
    committed = Ledger.claim(str(other / "warehouse")).committed_batch("q")
    assert standing.batch is not None and committed is not None
    assert standing.batch <= committed + 1, "the checkpoint is not ahead of the ledger but for the batch in flight"
    assert len(rows(other)) == committed + 1, "nothing is missing, nothing is there twice"
    ended = sorted(int(file.name) for file in (other / "checkpoints/place/commits").iterdir())
    planned = sorted(int(file.name) for file in (other / "checkpoints/place/offsets").iterdir())
    assert planned[-1] <= ended[-1] + 1 and ended[-1] in planned


def test_tables_that_a_copy_caught_a_commit_apart_are_whole_after_a_start(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = str(state / "warehouse")
    own, tables = Ledger.claim(warehouse), PlaceTables(warehouse, every_ms=10, compact_every_s=0, stop=Stop())
    tables.look_after(own)
    tables.step()
    placed = ledger(assigned("task-2", 1), batch_id=3, driver_epoch=own.driver_epoch)
    own.commit(placed, "q", 3, 3)
    tables.hand_over(placed)
    with monkeypatch.context() as caught, pytest.raises(OSError, match="not now"):
        caught.setattr(tables._placements, "write", _not_now)
        tables.step()
    folder = backed_up(state)
    restore_backup(folder, tmp_path / "other")
    other = tmp_path / "other" / "warehouse"
    marks = [DeltaTable(other / table.name).transaction_version(FOLD_BATCH) for table in (TASKS, PLACEMENTS)]
    assert marks == [3, 2], "the files of the version of `tasks` that `placements` is of are in no backup"
    again = PlaceTables(str(other), every_ms=10, compact_every_s=0, stop=Stop())
    again.look_after(Ledger.claim(str(other)))
    again.step()
    expected = fold_ledger(pa.concat_tables([*rows_of_ledger(str(other / "decisions"))]))
    for table, wanted in zip((TASKS, PLACEMENTS), expected, strict=True):
        stored = DeltaTable(other / table.name).to_pyarrow_table()
        assert stored.sort_by("task_id").to_pylist() == wanted.sort_by("task_id").to_pylist()
    assert DeltaTable(other / PLACEMENTS.name).transaction_version(FOLD_BATCH) == 3


def _not_now(*_: object) -> None:
    raise OSError("not now")


def test_tables_are_copied_before_what_they_are_made_of() -> None:
    names = [contract.name for contract in CONTRACTS]
    ordered = [folder.name for folder in in_order([Path(name) for name in names])]
    assert sorted(ordered) == sorted(names)
    assert ordered[-1] == "decisions"
    assert set(COPIED_LAST) <= set(names)
    for first, then in (("nodes", "telemetry"), ("tasks", "tasks_archive"), ("sync_regions", "records")):
        assert ordered.index(first) < ordered.index(then)


# What is not believed


def cut_off(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def torn(folder: Path) -> None:
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text[: len(text) // 2])


def forged(folder: Path) -> None:
    (folder / MANIFEST).write_text((folder / MANIFEST).read_text().replace(CLUSTER, "another-cluster-of-this-t"))


def of_another_format(folder: Path) -> None:
    told = json.loads((folder / MANIFEST).read_text())
    told["manifest"]["format"] = 99
    (folder / MANIFEST).write_text(json.dumps({"manifest": told["manifest"], "sha256": digest_of(told["manifest"])}))


def changed(folder: Path) -> None:
    file = next((folder / "warehouse" / "decisions").glob("*.parquet"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def shortened(folder: Path) -> None:
    file = folder / "broker/records/t.requests-0/00000000000000000000.log"
    file.write_bytes(file.read_bytes()[:-1])


def lacking(folder: Path) -> None:
    (folder / "agents" / "west" / "agent.sqlite").unlink()


def with_more(folder: Path) -> None:
    (folder / "warehouse" / "decisions" / "_delta_log" / f"{99:020}.json").write_text("{}")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (cut_off, "was cut off while it was made"),
        (torn, "cannot be read"),
        (forged, "its own hash differs"),
        (of_another_format, "format 99"),
        (changed, "has other content"),
        (shortened, "bytes, not"),
        (lacking, "is missing"),
        (with_more, "is not of it"),
    ],
)
def test_a_backup_that_is_not_whole_is_refused_and_nothing_is_touched(
    state: Path, tmp_path: Path, harm: Callable[[Path], None], words: str
) -> None:
    folder = backed_up(state)
    harm(folder)
    with pytest.raises(BackupError, match=words):
        restore_backup(folder, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_backup_overwrites_nothing_and_lies_outside(state: Path, tmp_path: Path) -> None:
    folder = backed_up(state)
    with pytest.raises(BackupError, match="holds a backup"):
        make_backup(places(state), folder, now_ms=0, steady=lambda: 0)
    with pytest.raises(BackupError, match="lies in what is to be copied"):
        make_backup(places(state), state / "warehouse" / "backup", now_ms=0, steady=lambda: 0)
    with pytest.raises(BackupError, match="holds no stack"):
        make_backup(places(tmp_path / "nothing"), tmp_path / "new", now_ms=0, steady=lambda: 0)


def test_a_copy_that_fails_half_way_is_no_backup(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(make, "copy_records", full)
    with pytest.raises(OSError, match="No space"):
        backed_up(state)
    with pytest.raises(BackupError, match="cut off"):
        read_manifest(state.parent / "backup")
    monkeypatch.undo()
    with pytest.raises(BackupError, match="perhaps a backup that was cut off"):
        backed_up(state)


# In whose place


def test_nothing_that_is_there_is_overwritten(state: Path) -> None:
    folder = backed_up(state)
    before = rows(state)
    with pytest.raises(BackupError, match=r"holds checkpoints, agents, warehouse, broker already.*--keep"):
        restore_backup(folder, state)
    assert rows(state) == before


def test_no_stack_runs_where_a_backup_is_restored(state: Path, tmp_path: Path) -> None:
    folder = backed_up(state)
    other = StateFolder(tmp_path / "other")
    with other.held(), pytest.raises(StateFolderError, match="already runs"):
        restore_backup(folder, other.path)


def test_a_folder_that_is_somebody_elses_is_left_alone(state: Path, tmp_path: Path) -> None:
    folder = backed_up(state)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letters.txt").write_text("dear")
    with pytest.raises(StateFolderError, match="not a state folder"):
        restore_backup(folder, tmp_path / "other")


class Cut(BaseException):
    """The process ends here."""


def steps(folder: Path, state: Path, cut_at: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore, and die at one of its writes; whether it came to its end shows by what it raises."""
    left = cut_at

    def mortal(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **more: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                raise Cut
            return real(*args, **more)

        return call

    with monkeypatch.context() as patched:
        patched.setattr(restoring.Copier, "copy", mortal(restoring.Copier.copy))
        patched.setattr(restoring, "write_json", mortal(restoring.write_json))
        patched.setattr(Path, "rename", mortal(Path.rename))
        patched.setattr(Path, "rmdir", mortal(Path.rmdir))
        patched.setattr(restoring, "sync_folder", mortal(restoring.sync_folder))
        restore_backup(folder, state)
        yield


def test_a_restore_that_is_cut_off_anywhere_is_finished_by_the_same_call(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = backed_up(state)
    whole = rows(state)
    for cut_at in range(200):
        other = tmp_path / "other"
        try:
            list(steps(folder, other, cut_at, monkeypatch))
        except Cut:
            unfinished = (other / RESTORING).exists() and any((other / RESTORING).iterdir())
            if unfinished:
                with pytest.raises(StateFolderError, match="was cut off"):
                    StateFolder.check_whole(other)
                assert any("was cut off" in finding.seen for finding in restored_findings(other))
            if unfinished or not any((other / part).exists() for part in PARTS):
                restore_backup(folder, other)  # else it was in place, and only its end was not said
            StateFolder.check_whole(other)
            assert rows(other) == whole
            shutil.rmtree(other)
        else:
            assert rows(other) == whole
            return
    raise AssertionError("it never came to its end")


@pytest.mark.parametrize(
    ("with_records", "keep", "broker", "words"),
    [
        (True, (), None, "with the broker's records of that moment"),
        (False, (), None, "the broker begins empty under its old identity"),
        (True, ("broker",), CLUSTER, "the broker has gone on since"),
        (True, ("broker",), "another-cluster", "the broker is another cluster"),
        (True, ("broker",), None, "the broker is another cluster"),
    ],
)
def test_the_next_start_is_told_in_a_sentence_what_was_found(
    state: Path, tmp_path: Path, with_records: bool, keep: tuple[str, ...], broker: str | None, words: str
) -> None:
    folder = backed_up(state, with_records=with_records)
    other = StateFolder(tmp_path / "other").path
    if broker is not None:
        (other / "broker" / "records").mkdir(parents=True)
        (other / "broker" / "records" / "meta.properties").write_text(f"cluster.id={broker}\n")
    made: Manifest = restore_backup(folder, other, keep=keep)
    found = put_back_in(other / "warehouse")
    assert found is not None
    assert found.made_ms == made.made_ms
    assert words in found.sentence
    assert "2027-01-15 08:00:00 UTC" in found.sentence
    assert cluster_id(other / "broker") == (broker if keep else CLUSTER)
    assert [finding.seen for finding in restored_findings(other)] == [found.sentence]


def test_an_agents_file_that_is_damaged_is_no_part_of_a_backup(state: Path) -> None:
    file = state / "agents" / "west" / "agent.sqlite"
    file.write_bytes(file.read_bytes()[:4096] + b"\xff" * (file.stat().st_size - 4096))
    with pytest.raises(BackupError, match=r"malformed.*Move the file away.*make the backup again"):
        backed_up(state)
