"""A snapshot that cannot be used costs a longer start and nothing else; one that is being written is there or not."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from tests.ledger_rows import assigned, happened, ledger, submitted
from tests.properties.readings import read_by_world
from thalweg.scheduling.world.tasks import TaskState
from thalweg.streams.placement.task_specs import read_spec
from thalweg.sync.delta.contracts import DECISIONS
from thalweg.sync.delta.store import open_or_create, table_uri
from thalweg.sync.ledger import snapshot as module
from thalweg.sync.ledger.follower import Follower
from thalweg.sync.ledger.reading import LedgerVersion
from thalweg.sync.ledger.snapshot import (
    FILE_NAME,
    FORMAT,
    SnapshotError,
    decode_snapshot,
    encode_snapshot,
    read_snapshot,
    write_snapshot,
)

GOLDEN = Path(__file__).parent / "golden" / "format-1.snapshot"
NEWEST = GOLDEN.with_name(f"format-{FORMAT}.snapshot")
"""Made by the same rows; a new format brings its own, and those before it stay."""
PAST = (
    ledger(
        submitted("done", replicas=2) | {"content_hash": "ab" * 32, "topic": "t.requests", "topic_partition": 1}
        | {"topic_offset": 41, "topic_timestamp_ms": 1},
        submitted("runs", tenant="x", priority=900) | {"content_hash": "cd" * 32},
        submitted("waits", per_worker={"gpus": 64}),
        submitted("back"),
        assigned("done", 1) | {"copy": 0},
        assigned("done", 2, "gcp:us-central1") | {"copy": 1},
        assigned("runs", 1, nodes=[
            {"node_id": "n1", "workers": 1, "gpus": 1, "gpu_milli": 0, "devices": [3]},
            {"node_id": "n/é", "workers": 1, "gpus": 1, "gpu_milli": 0, "devices": [70]},
        ]),
        assigned("back", 1, "azure:westeurope"),
        batch_id=1,
    ),
    ledger(
        happened("done", "running", 1), happened("done", "succeeded", 1, region="aws:us-east-1"),
        happened("runs", "running", 1), happened("back", "evicted", 1, reason="no"),
        {"task_id": "waits", "transition": "waiting", "reason": "capacity: none"},
        happened("done", "succeeded", 2, copy=1, region="gcp:us-central1"),
        batch_id=2,
    ),
)  # fmt: skip
SINCE = ledger(happened("runs", "failed", 1, reason="exit code 1"), assigned("back", 2), batch_id=3)
NAMES = ("done", "runs", "waits", "back")


def ledger_at(folder: Path, *batches: pa.Table) -> LedgerVersion:
    open_or_create(DECISIONS, str(folder))
    uri = table_uri(str(folder), DECISIONS.name)
    for batch in batches:
        write_deltalake(uri, batch, mode="append")
    return LedgerVersion(DeltaTable(uri))


def follow(folder: Path, at: LedgerVersion) -> Follower:
    return Follower.of(str(folder), at, read_spec, 0)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A warehouse whose snapshot stands for the past, and whose ledger goes on."""
    at = ledger_at(tmp_path, *PAST)
    taken = follow(tmp_path, at).snapshot(at)
    assert taken is not None
    write_snapshot(str(tmp_path), taken)
    ledger_at(tmp_path, SINCE)
    return tmp_path


def now(folder: Path) -> LedgerVersion:
    return LedgerVersion(DeltaTable(table_uri(str(folder), DECISIONS.name)))


def test_a_start_reads_the_snapshot_and_the_rows_since(kept: Path) -> None:
    follower = follow(kept, now(kept))
    assert (follower.unused, follower.read, follower.rows) == (None, SINCE.num_rows, 16)
    assert follower.reach == {("t.requests", 1): 41}
    assert follower.world.ended.get("done") is not None
    (kept / FILE_NAME).unlink()
    whole = follow(kept, now(kept))
    assert (whole.unused, whole.read) == ("there is none", 16)
    assert read_by_world(follower.world, NAMES) == read_by_world(whole.world, NAMES)


def spoilt(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / FILE_NAME
        path.write_bytes(change(path.read_bytes()))

    return spoil


def marked(**fields: Any) -> Callable[[Path], None]:
    def mark(folder: Path) -> None:
        known = read_snapshot(str(folder))
        write_snapshot(str(folder), replace(known, mark=msgspec.structs.replace(known.mark, **fields)))

    return mark


def another_history(folder: Path) -> None:
    """The ledger was put back from a copy and went on: as many rows, at the same place, and others."""
    uri = table_uri(str(folder), DECISIONS.name)
    DeltaTable(uri).delete("batch_id = 2")
    other = PAST[1].to_pylist()
    other[0]["epoch"] = 3
    write_deltalake(uri, pa.Table.from_pylist(other, schema=DECISIONS.schema), mode="append")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: (folder / FILE_NAME).unlink(), "there is none"),
        (spoilt(lambda content: b""), "it is damaged"),
        (spoilt(lambda content: content[: len(content) // 2]), "it is damaged"),
        (spoilt(lambda content: content[:900] + bytes([content[900] ^ 1]) + content[901:]), "it is damaged"),
        (spoilt(lambda content: content.replace(b"format 4\n", b"format 5\n", 1)), "it is of format 5"),
        (spoilt(lambda content: b"something else" + content), "it is damaged"),
        (marked(ledger_id="other"), "it is of ledger other"),
        (marked(version=99), "it stands for version 99"),
        (marked(rows=13), "it stands for 13 rows"),
        (marked(last_batch="00"), "its last batch, 2, is another one"),
        (
            lambda folder: DeltaTable(table_uri(str(folder), "decisions")).delete("batch_id = 1"),
            "it stands for 14 rows",
        ),
        (another_history, "its last batch, 2, is another one"),
    ],
)
def test_a_snapshot_that_cannot_be_used_is_not_and_all_rows_are_read(
    kept: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(kept)
    follower = follow(kept, now(kept))
    assert follower.unused is not None
    assert follower.unused.startswith(reason)
    whole = Follower.of("/nowhere", now(kept), read_spec, 0)
    assert follower.rows == whole.rows == now(kept).count()
    assert read_by_world(follower.world, NAMES) == read_by_world(whole.world, NAMES)


class KilledError(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("at", ["write", "sync", "rename", "after rename", "folder"])
def test_killed_while_it_writes_the_last_snapshot_or_the_new_one_is_there(
    kept: Path, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (kept / FILE_NAME).read_bytes()
    ledger_now = now(kept)
    fresh = follow(kept, ledger_now).snapshot(ledger_now)
    assert fresh is not None
    write, rename = Path.write_bytes, Path.replace

    def half(path: Path, content: bytes) -> int:
        write(path, content[: len(content) // 2])
        raise KilledError

    def killed(*_: object) -> None:
        raise KilledError

    def renamed(path: Path, target: Path) -> Path:
        rename(path, target)
        raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        match at:
            case "write":
                patch.setattr(Path, "write_bytes", half)
            case "sync":
                patch.setattr(module, "sync_file", killed)
            case "rename":
                patch.setattr(Path, "replace", killed)
            case "after rename":
                patch.setattr(Path, "replace", renamed)
            case _:
                patch.setattr(module, "sync_folder", killed)
        patch.setattr(Path, "unlink", lambda *_, **__: None)  # whoever is killed clears nothing away
        write_snapshot(str(kept), fresh)
    is_new = at in ("after rename", "folder")
    assert ((kept / FILE_NAME).read_bytes() == before) is not is_new
    follower = follow(kept, now(kept))
    assert (follower.unused, follower.read) == (None, 0 if is_new else SINCE.num_rows)
    write_snapshot(str(kept), fresh)
    assert follow(kept, now(kept)).read == 0


def test_it_is_on_the_disk_before_it_has_its_name(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    rename, sync_file, sync_folder = Path.replace, module.sync_file, module.sync_folder
    monkeypatch.setattr(Path, "replace", lambda path, target: (steps.append("rename"), rename(path, target))[1])
    monkeypatch.setattr(module, "sync_file", lambda path: (steps.append("sync"), sync_file(path)))
    monkeypatch.setattr(module, "sync_folder", lambda path: (steps.append("sync folder"), sync_folder(path)))
    write_snapshot(str(kept), read_snapshot(str(kept)))
    assert steps == ["sync", "rename", "sync folder"]


def test_what_somebody_began_long_ago_is_cleared_away_and_what_is_written_now_is_not(kept: Path) -> None:
    old, now_written = kept / f"{FILE_NAME}.1.new", kept / f"{FILE_NAME}.2.new"
    for path in (old, now_written):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    write_snapshot(str(kept), read_snapshot(str(kept)))
    assert sorted(path.name for path in kept.glob(f"{FILE_NAME}*")) == [FILE_NAME, now_written.name]


def test_snapshots_of_the_first_format_are_read_for_good() -> None:
    """Made by this test's own rows when the format was new; it is never made again."""
    golden = decode_snapshot(GOLDEN.read_bytes())
    follower = Follower._of_snapshot(golden, pa.table({}), read_spec, 0, None)
    world = follower.world
    assert (follower.rows, follower.position, follower.reach) == (14, (1, 2, 5), {("t.requests", 1): 41})
    assert [task.task_id for task in world.tasks.values()] == ["runs", "waits", "back"]
    runs = world.tasks["runs"]
    assert (runs.state, runs.epoch, runs.spec.priority, runs.spec.tenant) == (TaskState.RUNNING, 1, 900, "x")
    assert [(share.node_id, share.devices) for share in runs.copies[0].shares] == [("n1", (3,)), ("n/é", (70,))]
    assert list(world.tasks["back"].barred) == ["azure:westeurope"]
    assert world.tasks["waits"].reason == "capacity: none"
    done = world.ended.get("done")
    assert done is not None
    assert (done.state, done.epoch, done.has_content("ab" * 32)) == (TaskState.SUCCEEDED, 2, True)
    follower.follow(SINCE)
    assert world.tasks["back"].copies[0].epoch == 2


def test_what_is_written_today_is_what_was_written_when_the_format_was_new(tmp_path: Path) -> None:
    at = ledger_at(tmp_path, *PAST)
    taken = follow(tmp_path, at).snapshot(at)
    assert taken is not None
    golden = decode_snapshot(NEWEST.read_bytes())
    again = decode_snapshot(encode_snapshot(taken))
    assert repr(again.image) == repr(golden.image), "a change of the format needs a new number, and the old one is read"
    assert again.mark.last_batch == golden.mark.last_batch, "told otherwise, no older snapshot can be used"


def test_of_what_the_first_format_knew_today_is_the_same() -> None:
    golden, newest = (decode_snapshot(path.read_bytes()).image for path in (GOLDEN, NEWEST))
    assert [end.began_ms for end in golden.ends] == [0], "it does not say when a back-off began"
    assert [end.began_ms for end in newest.ends] != [0]
    unknown = replace(newest, ends=[end._replace(began_ms=0) for end in newest.ends])
    assert repr(unknown) == repr(golden)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="there is none"):
        read_snapshot(str(tmp_path))
