"""Tables fit the screen they are printed on, and nothing printed moves it."""

import json
import os
import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ledger_rows import START
from thalweg.cli.terminal import words
from thalweg.cli.terminal.cell_width import columns_of, cut_end, cut_middle
from thalweg.cli.terminal.durations import in_words
from thalweg.cli.terminal.render import (
    Column,
    Fit,
    fitted,
    print_cells,
    print_json,
    print_table,
    state_colour,
    widest_name,
)

CUT, KEEP, GO, WRAP = Fit.CUT, Fit.KEEP, Fit.GO, Fit.WRAP


@pytest.mark.parametrize(
    ("wanted", "screen", "widths"),
    [
        ([5, 100], 80, [5, 73]),
        ([5, 100, 100], 80, [5, 35, 35]),
        ([5, 30, 100], 80, [5, 30, 41]),
        ([5, 6], 80, [5, 6]),
        ([100, 100, 100], 20, [12, 12, 12]),
        ([], 80, []),
        ([5, 1_000], None, [5, 200]),
    ],
)
def test_wide_columns_share_what_the_narrow_ones_leave(
    wanted: list[int], screen: int | None, widths: list[int]
) -> None:
    assert fitted(wanted, [CUT] * len(wanted), screen) == widths


@pytest.mark.parametrize(
    ("wanted", "fits", "screen", "widths"),
    [
        ([40, 40], [KEEP, CUT], 60, [40, 18]),  # what must be whole is
        ([40, 40], [KEEP, CUT], 30, [40, 12]),  # also where the line gets longer than the screen
        ([30, 8, 9, 40], [KEEP, GO, GO, CUT], 60, [30, 8, None, 18]),  # the last that may go goes first
        ([30, 8, 9, 40], [KEEP, GO, GO, CUT], 50, [30, None, None, 18]),
        ([30, 8, 9, 40], [KEEP, GO, GO, CUT], None, [30, 8, 9, 40]),
        ([30, 500], [KEEP, WRAP], None, [30, 500]),
    ],
)
def test_what_may_go_goes_before_anything_is_cut_beyond_reading(
    wanted: list[int], fits: list[Fit], screen: int | None, widths: list[int | None]
) -> None:
    assert fitted(wanted, fits, screen) == widths


@given(
    st.lists(st.tuples(st.integers(1, 300), st.sampled_from(Fit)), max_size=12),
    st.one_of(st.none(), st.integers(1, 400)),
)
def test_names_and_numbers_are_never_cut_and_the_screen_is_kept_where_it_can_be(
    columns: list[tuple[int, Fit]], screen: int | None
) -> None:
    wanted, fits = [width for width, _ in columns], [fit for _, fit in columns]
    widths = fitted(wanted, fits, screen)
    for width, wish, fit in zip(widths, wanted, fits, strict=True):
        assert (width is None) <= (fit is GO)
        assert width == wish or fit in (CUT, WRAP) or width is None
    shown = [width for width in widths if width is not None]
    line = sum(shown) + 2 * max(len(shown) - 1, 0)
    least = [wish if fit is KEEP else min(wish, 12) for wish, fit in zip(wanted, fits, strict=True) if fit is not GO]
    if screen is not None and sum(least) + 2 * max(len(least) - 1, 0) <= screen:
        assert line <= screen


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
    assert r"a\u001b[2Jb c\u0007" in out


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


def test_what_goes_on_below_is_whole_and_what_is_left_out_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_screen(40, monkeypatch)
    columns = [Column(name="region", fit=KEEP), Column(name="nodes", fit=GO), Column(name="prices", fit=WRAP)]
    row = {"region": "aws:us-east-1-and-far-away", "nodes": 1_000_000, "prices": "A100 3.06, A100 spot 1.10, T4 0.35"}
    print_table(columns, [row])
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert max(map(len, lines[:-1])) <= 40
    assert " ".join(re.findall(r"\S+", " ".join(line[28:] for line in lines[2:-1]))) == row["prices"]
    assert lines[-1] == "(no room for: nodes; --json has all)"


def test_colours_are_for_a_terminal_whose_owner_wants_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def printed() -> str:
        print_table([Column(name="state", colour=state_colour)], [{"state": "failed"}])
        return capsys.readouterr().out

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b" not in printed()
    on_a_screen(80, monkeypatch)
    monkeypatch.setattr("click.utils.should_strip_ansi", lambda *_: False)
    assert "\x1b[31mfailed" in printed()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in printed()


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, ""), (0.0, "0.00"), (3.06, "3.06"), (0.0031, "0.0031"), (1204.5, "1,204.50"), (27_460_141.2, "27.5 M")],
)
def test_money_is_said_in_cents(value: float | None, said: str) -> None:
    assert words.usd(value) == said


@pytest.mark.parametrize(
    ("value", "said"), [(None, ""), (9.99e-13, "0 %"), (0.0034, "0.3 %"), (0.125, "12.5 %"), (1.0, "100 %")]
)
def test_a_share_is_said_in_per_cent(value: float | None, said: str) -> None:
    assert words.percent(value) == said


@pytest.mark.parametrize(
    ("value", "said"), [(None, ""), (0.42, "0.4 ms"), (12.3, "12 ms"), (1_400.0, "1.4 s"), (720_000.0, "12 min")]
)
def test_short_times_have_their_unit(value: float | None, said: str) -> None:
    assert words.milliseconds(value) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, ""), (7, "7"), (1204, "1,204"), (0.125, "0.125"), (27_460_141, "27.5 M"), (float("inf"), "inf")],
)
def test_amounts_have_three_digits(value: float | None, said: str) -> None:
    assert words.amount(value) == said


def test_a_moment_is_said_by_its_age() -> None:
    ago = words.ago(START)
    assert ago(START - timedelta(minutes=3)) == "3 min ago"
    assert ago(START + timedelta(hours=5)) == "in 5 h"
    assert ago(None) == ""


EMOJI = "\N{ROCKET}" * 256


@pytest.mark.parametrize("columns", [20, 80, 200])
def test_one_long_id_leaves_room_for_the_others_on_a_screen(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_screen(columns, monkeypatch)
    shown = [Column(name="task", fit=KEEP), Column(name="state", fit=KEEP), Column(name="reason", fit=GO)]
    print_table(shown, [{"task": task, "state": "ok", "reason": "why"} for task in (EMOJI, "train-1")])
    head, rule, long, short, *_ = capsys.readouterr().out.splitlines()
    assert columns_of(long) <= columns
    assert "…" in long and long.startswith("\N{ROCKET}") and "ok" in long
    assert short.startswith("train-1 ")
    assert columns_of(short[: short.index("ok")]) == columns_of(long[: long.index("ok")]), "the columns stand in line"
    assert len(rule.split()[0]) <= widest_name(columns) < columns
    assert "state" in head


def test_a_table_of_sql_is_cut_by_what_a_screen_takes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_screen(80, monkeypatch)
    print_cells(("node_id", "gpus"), [(EMOJI, 8), ("n1", 4)], exact=True)
    lines = capsys.readouterr().out.splitlines()
    assert all(columns_of(line) <= 80 for line in lines)
    assert re.search(r"…\s+8$", lines[2])


def test_in_a_pipe_and_in_json_an_id_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([Column(name="task", fit=KEEP)], [{"task": EMOJI}])
    assert EMOJI in capsys.readouterr().out
    print_json({"task": EMOJI})
    assert json.loads(capsys.readouterr().out) == {"task": EMOJI}


def test_a_uuid_is_whole_on_a_screen_of_eighty() -> None:
    assert widest_name(80) >= 36
    assert widest_name(200) == 66


@given(st.text(max_size=60), st.integers(1, 30))
def test_what_is_cut_fits_and_what_fits_is_not_cut(text: str, widest: int) -> None:
    for cut in (cut_end, cut_middle):
        found = cut(text, widest)
        assert columns_of(found) <= widest
        assert (found == text) == (columns_of(text) <= widest) or "…" in text
    assert cut_middle("train-0000-7", 7) == "tra…0-7"


@pytest.mark.parametrize("written", ["a\u0000b", "a\u202eb", "a\x9b2Jb", "a\x7fb", "a\u2066b", "a\u200eb"])
def test_no_terminal_obeys_what_somebody_named(written: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("task",), [{"task": written}])
    table = capsys.readouterr().out
    assert f"a\\u{ord(written[1]):04x}" in table
    print_json({"task": written})
    document = capsys.readouterr().out
    assert json.loads(document) == {"task": written}
    assert all(one.isprintable() or one == "\n" for one in table + document)
