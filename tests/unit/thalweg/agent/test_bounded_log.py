import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.agent.bounded_log import keep_short, unseen

LIMIT = 4_000
MARK = re.compile(rb"\n\[thalweg: (\d+) bytes left out here\]\n")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "output.log", os.O_RDWR | os.O_APPEND | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def content(log: int) -> bytes:
    return os.pread(log, 1 << 30, 0)


def lines(first: int, end: int) -> bytes:
    return b"".join(b"line %06d\n" % number for number in range(first, end))


def test_a_log_within_its_limit_is_left_alone(log: int) -> None:
    os.write(log, lines(0, 300))
    before = content(log)
    keep_short(log, LIMIT)
    assert content(log) == before


def test_a_longer_log_keeps_its_beginning_and_its_newest_lines_and_says_what_was_cut(log: int) -> None:
    written = lines(0, 10_000)
    os.write(log, written)
    keep_short(log, LIMIT)
    kept = content(log)
    mark = MARK.search(kept)
    assert mark is not None
    head, tail = kept[: mark.start()], kept[mark.end() :]
    assert len(kept) <= LIMIT
    assert written.startswith(head) and written.endswith(tail)
    assert len(head) + int(mark[1]) + len(tail) == len(written)
    assert tail.startswith(b"line ")


def test_a_log_that_is_cut_again_and_again_has_one_line_that_counts_all(log: int) -> None:
    for part in range(50):
        os.write(log, lines(part * 1_000, part * 1_000 + 1_000))
        keep_short(log, LIMIT)
    kept = content(log)
    (cut,) = MARK.findall(kept)
    assert int(cut) + len(MARK.sub(b"", kept)) == len(lines(0, 50_000))
    assert kept.startswith(b"line 000000\n") and kept.endswith(b"line 049999\n")


def test_one_line_without_an_end_is_cut_too(log: int) -> None:
    os.write(log, b"x" * 100_000)
    keep_short(log, LIMIT)
    assert len(content(log)) <= LIMIT


@given(st.lists(st.tuples(st.integers(0, 400), st.booleans(), st.booleans()), max_size=40))
def test_who_follows_sees_every_line_that_was_not_cut_in_between_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[int, bool, bool]]
) -> None:
    log = os.open(tmp_path_factory.mktemp("log") / "l", os.O_RDWR | os.O_APPEND | os.O_CREAT)
    try:
        shown, seen, written = b"", 0, 0
        for count, cuts, looks in [*acts, (1, False, True)]:
            os.write(log, lines(written, written + count))
            written += count
            if cuts:
                keep_short(log, LIMIT)
            if looks:
                new, seen = unseen(content(log), seen)
                shown += new
        assert seen == len(lines(0, written))
        missed = sum(map(int, MARK.findall(shown)))
        assert len(MARK.sub(b"", shown)) + missed == seen
        numbers = [int(number) for number in re.findall(rb"^line (\d{6})$", MARK.sub(b"\n", shown), re.MULTILINE)]
        assert numbers == sorted(set(numbers))
        assert numbers[-1] == written - 1
    finally:
        os.close(log)


def test_what_was_left_out_before_counts_also_where_the_task_wrote_before_the_mark(tmp_path: Path) -> None:
    log = tmp_path / "log"
    slipped = b"written between the shortening and the mark\n" * 100
    log.write_bytes(b"h" * 250 + slipped + b"\n[thalweg: 5000 bytes left out here]\n" + b"new line\n" * 1_000)
    descriptor = os.open(log, os.O_RDWR | os.O_APPEND)
    keep_short(descriptor, 1_000)
    os.close(descriptor)
    found = re.search(rb"\[thalweg: (\d+) bytes left out here\]\n(.*)", log.read_bytes(), re.DOTALL)
    assert found is not None
    assert 250 + int(found[1]) + len(found[2]) == 250 + len(slipped) + 5_000 + 9_000
