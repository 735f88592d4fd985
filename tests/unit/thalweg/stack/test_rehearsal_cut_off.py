"""A rehearsal that is cut off leaves nothing: told to end it puts its folder away, killed the next one does."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENCE_S
from thalweg.stack.rehearsal import SCRATCH

REHEARSING = """
import signal, sys
from pathlib import Path
from thalweg.stack import rehearsal
folder = Path(sys.argv[1])
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may have asked not to hear it
def rehearse(_java, scratch, _missing):
    (scratch / "half an archive").write_text("of 50 MB")
    print("begun", flush=True)
    sys.stdin.read()
rehearsal._rehearse = rehearse
rehearsal.archives_folder = lambda: folder
rehearsal.archive_of = lambda jar_set, _java: folder / f"{jar_set}.jsa"
rehearsal.ensure_archives(lambda _words: None, java=object())
"""


def begun(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", REHEARSING, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == "begun\n", process.stderr.read()
    return process


def ended(process: subprocess.Popen[str], number: signal.Signals | None) -> int:
    if number is not None:
        process.send_signal(number)
    process.communicate(timeout=PATIENCE_S)
    return process.returncode


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_one_that_is_told_to_end_puts_its_folder_away(number: signal.Signals, tmp_path: Path) -> None:
    process = begun(tmp_path)
    assert [name.startswith(SCRATCH) for name in os.listdir(tmp_path)] == [True]
    assert ended(process, number) in (128 + number, -number)
    assert os.listdir(tmp_path) == []


def test_what_a_killed_one_left_is_taken_away_by_the_next_and_what_is_in_use_is_left(tmp_path: Path) -> None:
    killed, living = begun(tmp_path), begun(tmp_path)
    (left, of_living) = sorted(os.listdir(tmp_path), key=lambda name: (tmp_path / name).stat().st_mtime_ns)
    ended(killed, signal.SIGKILL)
    assert set(os.listdir(tmp_path)) == {left, of_living}
    third = begun(tmp_path)
    assert left not in os.listdir(tmp_path) and of_living in os.listdir(tmp_path)
    assert (ended(living, None), ended(third, None)) == (0, 0)
    assert os.listdir(tmp_path) == []
