"""Words of others, cut where a word ends."""

import pytest

from thalweg.conf.words import cut_short


@pytest.mark.parametrize(
    ("text", "longest", "cut"),
    [
        ("short", 10, "short"),
        ("as long as it may be", 20, "as long as it may be"),
        ("Publishing the same records again is safe", 39, "Publishing the same records again is …"),
        ("Publishing the same records again is safe", 36, "Publishing the same records again …"),
        ("of\n  two lines", 20, "of two lines"),
        ("s3://a-very-long-address/of-one-word", 10, "s3://a-ve…"),
        ("", 10, ""),
    ],
)
def test_a_long_text_ends_behind_a_whole_word_with_an_ellipsis(text: str, longest: int, cut: str) -> None:
    assert cut_short(text, longest) == cut
    assert len(cut) <= longest
