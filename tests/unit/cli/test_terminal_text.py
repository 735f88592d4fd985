"""What a terminal is shown of a log: every word, and nothing that it would obey."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.cli.terminal.terminal_text import TerminalText


def shown(*pieces: bytes) -> str:
    text = TerminalText()
    return "".join([*map(text.add, pieces), text.end()])


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        (b"plain \xc3\xa9\tend\n", "plain é\tend\n"),
        (b"\x1b[1;31mred\x1b[0m", "red"),
        (b"\x1b]0;title\x07\x1b[2J\x1b[6n", "␛]0;title␇␛[2J␛[6n"),
        (b"10 %\r20 %\r\nend", "10 %\n20 %\nend"),
        (b"safe\x08\x08\x7f", "safe␈␈␡"),
        (b"\xff\xc2\x9b2J", "\ufffd\ufffd2J"),
        ("\u202eexe.txt".encode(), "\ufffdexe.txt"),
        ("👩\u200d🔬".encode(), "👩\u200d🔬"),
        (b"\x1b[31", "␛[31"),
        (b"\x1b[" + b"1;" * 40 + b"m", "␛[" + "1;" * 40 + "m"),
    ],
)
def test_a_terminal_is_shown_text(written: bytes, seen: str) -> None:
    assert shown(written) == seen


@given(
    st.binary(max_size=40) | st.lists(st.sampled_from([b"\x1b", b"[", b"3", b"m", b"\r", b"\n", b"\xc2"])).map(b"".join)
)
def test_pieces_show_what_the_whole_shows_and_no_terminal_obeys_it(written: bytes) -> None:
    whole = shown(written)
    assert shown(*(bytes([byte]) for byte in written)) == whole
    assert not any(
        ord(character) < 32 or 0x7F <= ord(character) < 0xA0 for character in whole if character not in "\n\t"
    )
