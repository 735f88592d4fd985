"""What a task has written, as text that a terminal shows and does not obey.

A log is somebody else's words. Sequences in it could clear the screen, set the title, hide lines, or let the terminal
type an answer into the reader's shell.
"""

import codecs
import re
import unicodedata
from typing import Final

_COLOUR: Final = re.compile(r"\x1b\[[0-9;:]{0,64}m")
_UNFINISHED: Final = re.compile(r"(\x1b(\[[0-9;:]{0,64})?|\r)\Z")
"""What may still become a colour or the end of a line."""
_LINE_END: Final = re.compile(r"\r\n?")
_SHOWN_AS_THEY_ARE: Final = frozenset("\n\t")
_TURNS_TEXT_ROUND: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_PICTURES: Final = 0x2400
"""Where Unicode has a picture of each of the first 32 control characters."""
_DELETE: Final = 0x7F


class TerminalText:
    """Makes text of the bytes of a log, piece by piece.

    Colours are left out: no word is lost with them. A carriage return begins a new line, so that nothing is written
    over. Every other control character is a picture of itself, and a byte that is no text a question mark in a rhomb.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._kept = ""

    def add(self, piece: bytes) -> str:
        """Give what can be shown so far; a sequence that is not whole is kept for the next piece."""
        text = self._kept + self._decoder.decode(piece)
        unfinished = _UNFINISHED.search(text)
        self._kept = "" if unfinished is None else unfinished[0]
        return _shown(text if unfinished is None else text[: unfinished.start()])

    def end(self) -> str:
        """Give what was kept: nothing follows."""
        text = self._kept + self._decoder.decode(b"", final=True)
        self._kept = ""
        return _shown(text)


def _shown(text: str) -> str:
    without_colours = _COLOUR.sub("", text)
    return "".join(map(_picture, _LINE_END.sub("\n", without_colours)))


def _picture(character: str) -> str:
    if character.isprintable() or character in _SHOWN_AS_THEY_ARE:
        return character
    code = ord(character)
    if code < ord(" "):
        return chr(_PICTURES + code)
    if code == _DELETE:
        return "\u2421"
    return "\ufffd" if unicodedata.category(character) == "Cc" or character in _TURNS_TEXT_ROUND else character
