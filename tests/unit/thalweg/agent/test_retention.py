import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from thalweg.agent.retention import KeptRun, RunFolders, RunRetention

RUNS = st.lists(
    st.builds(
        KeptRun,
        name=st.uuids().map(str),
        ended_s=st.floats(0, 1_000),
        size_bytes=st.integers(0, 1_000),
    ),
    max_size=30,
)


@given(RUNS, st.floats(0, 2_000), st.integers(0, 30), st.integers(0, 5_000))
def test_what_is_kept_is_within_every_bound_and_nothing_that_is_kept_is_older_than_what_is_not(
    runs: list[KeptRun], seconds: float, count: int, size_bytes: int
) -> None:
    retention = RunRetention(seconds=seconds, runs=count, size_bytes=size_bytes)
    forgotten = set(retention.to_forget(runs, 1_000))
    kept = [run for run in runs if run.name not in forgotten]
    assert len(kept) <= count
    assert sum(run.size_bytes for run in kept) <= size_bytes
    assert all(1_000 - run.ended_s <= seconds for run in kept)
    gone = [run.ended_s for run in runs if run.name in forgotten]
    assert max(gone, default=0) <= min((run.ended_s for run in kept), default=1_000)


@given(RUNS)
def test_nothing_is_forgotten_without_need(runs: list[KeptRun]) -> None:
    total = sum(run.size_bytes for run in runs)
    assert RunRetention(seconds=1_000, runs=len(runs), size_bytes=total).to_forget(runs, 1_000) == []


def made(top: Path, name: str, size_bytes: int, age_s: float) -> Path:
    folder = top / name
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "output.log").write_bytes(b"x" * size_bytes)
    now_s = (folder / "sub").stat().st_mtime
    os.utime(folder, (now_s - age_s, now_s - age_s))
    return folder


def test_the_oldest_ended_runs_are_removed_and_live_ones_never(tmp_path: Path) -> None:
    for age_s, name in enumerate(("new", "middle", "old", "live"), start=1):
        made(tmp_path, name, 100_000, age_s * 100)
    folders = RunFolders(tmp_path)
    retention = RunRetention(size_bytes=250_000)
    assert folders.sweep(retention, lambda: {"live"}) == ["old"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["live", "middle", "new"]
    assert folders.sweep(retention, lambda: {"live"}) == []
    assert folders.sweep(RunRetention(seconds=150), lambda: {"live"}) == ["middle"]


def test_what_a_task_has_closed_to_others_is_removed_and_what_links_lead_to_is_not(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    top = tmp_path / "tasks"
    closed = made(top, "closed", 10, 100)
    (closed / "link").symlink_to(outside)
    (top / "link-to-a-folder").symlink_to(outside)
    (closed / "sub").chmod(0o000)
    closed.chmod(0o500)
    os.utime(closed, (1, 1))
    assert RunFolders(top).sweep(RunRetention(runs=0), set) == ["closed"]
    assert not closed.exists()
    assert (outside / "precious").exists()


def test_no_folder_at_all_is_fine(tmp_path: Path) -> None:
    assert RunFolders(tmp_path / "tasks").sweep(RunRetention(), set) == []


def test_a_sweep_ends_soon_after_it_is_asked_to_and_the_next_one_does_the_rest(tmp_path: Path) -> None:
    for number in range(6):
        made(tmp_path, f"run-{number}", 10, 100 - number)
    folders, asked = RunFolders(tmp_path), iter([False] * 6 + [False, False, True])
    assert folders.sweep(RunRetention(runs=0), set, lambda: next(asked)) == ["run-0", "run-1"]
    assert folders.sweep(RunRetention(runs=0), set, lambda: True) == []
    assert folders.sweep(RunRetention(runs=0), set) == ["run-2", "run-3", "run-4", "run-5"]
