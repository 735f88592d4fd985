"""Snapshots are made when it is time, by a process of its own; a standby follows, and takes over when it must."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.ledger_rows import assigned, ledger, submitted
from thalweg.conf.settings import PlaceSettings, Settings, WarehouseSettings
from thalweg.jobs import snapshot
from thalweg.jobs.microbatch.host import Host
from thalweg.jobs.placement import ahead, snapshots, standby
from thalweg.jobs.placement.recovery import follow, recover
from thalweg.jobs.placement.snapshots import SnapshotKeeper
from thalweg.jobs.runtime.job import Stop
from thalweg.sync.delta import lease
from thalweg.sync.ledger.ledger import Ledger
from thalweg.sync.ledger.snapshot import read_snapshot


class Maker:
    """Notes when a snapshot is made, and which of them were not niced; it may fail."""

    def __init__(self) -> None:
        self.made = 0
        self.code = 0
        self.urgent = list[int]()

    def __call__(self, command: Sequence[str], stop: Stop) -> int:
        self.made += 1
        if "place.snapshot_niceness=0" in command:
            self.urgent.append(self.made)
        return self.code


def keeper(
    maker: Maker, monkeypatch: pytest.MonkeyPatch, *, every_rows: int = 10
) -> tuple[SnapshotKeeper, list[float]]:
    clock = [0.0]
    monkeypatch.setattr("thalweg.jobs.placement.snapshots.time.monotonic", lambda: clock[0])
    return SnapshotKeeper("/w", every_rows=every_rows, every_s=600, stop=Stop(), make=maker), clock


def test_one_is_made_after_enough_rows_or_long_enough_and_not_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    maker = Maker()
    kept, clock = keeper(maker, monkeypatch)
    clock[0] = 10_000.0
    kept.step()
    assert maker.made == 0, "nothing was committed"
    kept.note(9)
    kept.step()
    assert maker.made == 1, "long enough ago"
    kept.note(50)
    kept.step()
    assert maker.made == 1, "just now"
    clock[0] += snapshots.AT_MOST_EVERY_S
    kept.step()
    assert maker.made == 2
    clock[0] += 599
    kept.note(9)
    kept.step()
    assert maker.made == 2


def test_one_that_takes_long_is_made_half_of_the_time_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    made_s = list[float]()

    def make(command: Sequence[str], stop: Stop) -> int:
        made_s.append(clock[0])
        clock[0] += 400.0
        return 0

    clock = [0.0]
    monkeypatch.setattr("thalweg.jobs.placement.snapshots.time.monotonic", lambda: clock[0])
    kept = SnapshotKeeper("/w", every_rows=10, every_s=600, stop=Stop(), make=make)
    while clock[0] < 3_000:
        kept.note(10)
        kept.step()
        clock[0] += 10.0
    assert made_s == [30.0, 830.0, 1_630.0, 2_430.0], "not each ten minutes either"


def test_lives_too_short_for_a_snapshot_do_not_let_the_next_start_read_more_and_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "FIRST_AFTER_S", 0.0)  # so long each life lives, and no longer
    rows_read = list[int]()
    for life in range(6):
        held = Ledger.claim(str(tmp_path))
        kept = SnapshotKeeper(str(tmp_path), every_rows=5, every_s=1e9, stop=Stop())
        recover(held, str(tmp_path), {}, 0, behind=lambda rows, kept=kept: (rows_read.append(rows), kept.behind(rows)))  # type: ignore[misc]
        held.commit(ledger(*(submitted(f"{life}-{n}") for n in range(3)), batch_id=life), "q", life, life)
        kept.note(3)
        kept.step()
    assert max(rows_read) < 9, rows_read


def test_a_start_that_follows_few_rows_makes_none_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    maker = Maker()
    kept, clock = keeper(maker, monkeypatch)
    kept.behind(9)
    clock[0] += snapshots.FIRST_AFTER_S
    kept.note(5)
    kept.step()
    assert maker.made == 0
    kept.behind(10)
    kept.step()
    assert maker.made == 0, "not while the first batches are taken"
    clock[0] += snapshots.FIRST_AFTER_S
    kept.step()
    assert maker.made == 1


def test_a_start_that_follows_very_many_lets_the_first_one_wait_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    maker = Maker()
    maker.code = 1
    kept, clock = keeper(maker, monkeypatch)
    kept.behind(snapshots.LATE_TIMES * 10)
    for code in (1, 0, 0):
        maker.code = code
        clock[0] += snapshots.AT_MOST_EVERY_S
        kept.note(10)
        kept.step()
    assert (maker.made, maker.urgent) == (3, [1, 2]), "until one was made, and no longer"


def test_one_that_failed_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    maker = Maker()
    maker.code = 1
    kept, clock = keeper(maker, monkeypatch)
    kept.note(10)
    for _ in range(3):
        clock[0] += snapshots.AT_MOST_EVERY_S
        kept.step()
    assert maker.made == 3
    maker.code = 0
    clock[0] += snapshots.AT_MOST_EVERY_S
    kept.step()
    clock[0] += snapshots.AT_MOST_EVERY_S
    kept.step()
    assert maker.made == 4


def test_the_process_makes_one_of_what_is_committed_and_the_next_start_reads_it(tmp_path: Path) -> None:
    held = Ledger.claim(str(tmp_path))
    held.commit(ledger(submitted("a"), assigned("a", 1), batch_id=1), "q", 1, 1)
    kept = SnapshotKeeper(str(tmp_path), every_rows=1, every_s=0.001, stop=Stop())
    kept.note(2)
    time.sleep(0.01)
    kept.step()
    assert read_snapshot(str(tmp_path)).mark.rows == 2
    held.commit(ledger(submitted("b"), batch_id=2), "q", 2, 2)
    world = recover(Ledger.claim(str(tmp_path)), str(tmp_path), {}, 0)
    assert world.tasks.keys() == {"a", "b"}


def test_asked_to_stop_the_process_is_ended(tmp_path: Path) -> None:
    stop = Stop()
    threading.Timer(0.3, stop.ask).start()
    began = time.monotonic()
    code = snapshots._run((sys.executable, "-c", "import time; time.sleep(60)"), stop)
    assert code != 0
    assert time.monotonic() - began < 30


# A standby


HOLDER = """
import sys, time
from thalweg.sync.delta import lease
lease.hold_lease(sys.argv[1], "place")
print("held", flush=True)
while True:
    lease.beat(sys.argv[1], "place")
    time.sleep(0.1)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that drives the warehouse."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture(autouse=True)
def no_lease_is_kept() -> Iterator[None]:
    yield
    for held in lease._held.values():
        held.close()
    lease._held.clear()


def standing_by(folder: Path, host: Host, stop: Stop) -> threading.Thread:
    place = PlaceSettings(standby=True, takeover_ms=1_500)
    settings = Settings(warehouse=WarehouseSettings(path=str(folder)), place=place)
    thread = threading.Thread(target=standby.stand_by, args=(settings, "place", lambda: 0, stop, host), daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("how", ["killed", "stands still"])
def test_a_standby_follows_and_takes_over_when_the_driver_is_gone(
    tmp_path: Path, holder: "subprocess.Popen[str]", how: str
) -> None:
    held = Ledger.claim(str(tmp_path))  # the driver's hand, lent to the test
    held.commit(ledger(submitted("a"), batch_id=1), "q", 1, 1)
    host = Host()
    thread = standing_by(tmp_path, host, Stop())
    held.commit(ledger(assigned("a", 1), batch_id=2), "q", 2, 2)
    time.sleep(2.5)
    assert thread.is_alive(), "it works"
    holder.send_signal(9 if how == "killed" else 19)
    thread.join(20)
    assert not thread.is_alive()
    assert host.without_lease is (how == "stands still")
    followed = host.take_followed()
    assert followed is not None
    assert followed.rows == 2, "it has followed"
    held.commit(ledger(submitted("late"), batch_id=3), "q", 3, 3)
    world = recover(Ledger.claim(str(tmp_path)), str(tmp_path), {}, 0, followed)
    assert world is followed.world
    assert world.tasks.keys() == {"a", "late"}, "and misses nothing that was committed before its claim"
    assert world.tasks["a"].copies[0].epoch == 1


def test_what_was_followed_of_another_ledger_is_not_believed(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, names in ((one, "ab"), (other, "xy")):
        held = Ledger.claim(str(folder))
        held.commit(ledger(*(submitted(name) for name in names), batch_id=1), "q", 1, 1)
    follower = follow(str(one), Ledger.claim(str(one)).now(), {}, 0)
    world = recover(Ledger.claim(str(other)), str(other), {}, 0, follower)
    assert world.tasks.keys() == {"x", "y"}


def test_on_an_object_store_nobody_stands_by(tmp_path: Path) -> None:
    settings = Settings(warehouse=WarehouseSettings(path="s3://bucket/warehouse"), place=PlaceSettings(standby=True))
    with pytest.raises(standby.StandbyRefusedError, match="local file system only"):
        standby.stand_by(settings, "place", lambda: 0, Stop(), Host())


def test_a_process_of_its_own_keeps_what_the_ledger_has_and_nothing_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thalweg.jobs.snapshot.os.nice", lambda _: 0)
    settings = Settings(warehouse=WarehouseSettings(path=str(tmp_path)))
    snapshot.run(settings)
    assert list(tmp_path.iterdir()) == [], "a warehouse that nobody has placed in"
    held = Ledger.claim(str(tmp_path))
    held.commit(ledger(submitted("a"), assigned("a", 1), batch_id=1), "q", 1, 1)
    snapshot.run(settings)
    kept = read_snapshot(str(tmp_path))
    assert kept.mark.rows == 2 and len(kept.image.tasks) == 1


def test_who_waits_for_its_turn_has_compiled_and_its_jvm_warm_by_then(
    tmp_path: Path, holder: "subprocess.Popen[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[object] = []
    monkeypatch.setattr(ahead, "have_compiled", lambda _: done.append("compiled"))
    monkeypatch.setattr(standby, "warm", lambda spark, _, pattern: done.append((spark, pattern)))
    settings = Settings(
        warehouse=WarehouseSettings(path=str(tmp_path)), place=PlaceSettings(standby=True, takeover_ms=60_000)
    )
    stop, host = Stop(), Host()
    waits = threading.Thread(target=ahead.stand_by, args=("a session", settings, lambda: 0, stop, host), daemon=True)
    waits.start()
    deadline = time.monotonic() + 60
    while len(done) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert waits.is_alive(), "the other one works"
    stop.ask()
    waits.join(20)
    assert done[0] == "compiled"
    assert [one[0] for one in done[1:] if isinstance(one, tuple)] == ["a session"]
    assert host.followed is None, "there is no ledger yet"


def test_where_nobody_works_nobody_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standby, "warm", lambda *_: pytest.fail("it starts at once"))
    settings = Settings(warehouse=WarehouseSettings(path=str(tmp_path)), place=PlaceSettings(standby=True))
    ahead.stand_by(None, settings, lambda: 0, Stop(), Host())  # type: ignore[arg-type]


class Warming:
    """A session whose query has ended its first batch at once, or never."""

    def __init__(self, *, fails: bool) -> None:
        self.isActive, self.lastProgress = True, {"batchId": 0}
        self.fails, self.stopped, self.folder = fails, False, Path()
        self.writeStream = self

    def option(self, _name: str, folder: str) -> "Warming":
        self.folder = Path(folder)
        (self.folder / "offsets").mkdir()
        return self

    def foreachBatch(self, _batch: object) -> "Warming":  # noqa: N802 (Spark's name)
        return self

    def start(self) -> "Warming":
        if self.fails:
            raise OSError("no broker answers")
        return self

    def stop(self) -> None:
        self.stopped = True


@pytest.mark.parametrize("fails", [False, True])
def test_a_query_that_only_warms_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    query = Warming(fails=fails)
    monkeypatch.setattr(standby, "read_pattern", lambda *_, **__: query)
    if fails:
        with pytest.raises(OSError, match="no broker"):
            standby.warm(None, Settings(), "t.requests")  # type: ignore[arg-type]
    else:
        standby.warm(None, Settings(), "t.requests")  # type: ignore[arg-type]
        assert query.stopped
    assert query.folder != Path() and not query.folder.exists()
