"""Tables fit the screen they are printed on, and nothing printed moves it."""

import os

import pytest

from thalweg.cli.durations import in_words
from thalweg.cli.render import _widest_cell, print_cells, print_table


@pytest.mark.parametrize(
    ("wanted", "screen", "widest"),
    [
        ([5, 100], 80, 73),
        ([5, 100, 100], 80, 35),
        ([5, 30, 100], 80, 41),
        ([5, 6], 80, 6),
        ([100, 100, 100], 20, 12),
        ([], 80, 12),
        ([5, 100], None, 200),
    ],
)
def test_wide_columns_share_what_the_narrow_ones_leave(wanted: list[int], screen: int | None, widest: int) -> None:
    assert _widest_cell(wanted, screen) == widest


def on_a_screen(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((columns, 24)))


def test_a_table_is_as_wide_as_the_screen_and_no_wider(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_screen(80, monkeypatch)
    print_cells(("task", "reason"), [("t1", "capacity: " + "x" * 200), ("t2", "y" * 60)])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) == 80
    assert "y" * 60 in lines[3]
    assert lines[2].endswith("…")


def test_without_a_screen_a_reason_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("reason",), [{"reason": "x" * 150}])
    assert "x" * 150 in capsys.readouterr().out


def test_what_would_move_the_cursor_is_shown_as_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name",), [{"name": "a\x1b[2Jb\r\nc\x07"}])
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\x07" not in out and "\r" not in out
    assert "a\ufffd[2Jb c" in out


def test_people_get_seconds_and_four_digits_and_sql_gets_all(capsys: pytest.CaptureFixture[str]) -> None:
    row = ("2026-01-02T03:04:05.678901Z", 0.123456789, 35928124.5, 1234.5)
    print_cells("abcd", [row])
    assert capsys.readouterr().out.splitlines()[2].split() == ["2026-01-02T03:04:05Z", "0.1235", "35,928,124", "1,234"]
    print_cells("abcd", [row], exact=True)
    assert "2026-01-02T03:04:05.678901Z" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "words"), [(-1, "0 s"), (0, "0 s"), (95, "95 s"), (720, "12 min"), (10_800, "3 h"), (259_200, "3 days")]
)
def test_a_duration_is_said_as_a_person_says_it(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
