"""Every decision says what has become of it and where it belongs, or the index is not written."""

from pathlib import Path

import pytest

from thalweg.conf.environment import PROJECT_ROOT
from thalweg.reference.decisions import GROUPS, DecisionHeaderError, decisions_page, read_decisions

FOLDER = PROJECT_ROOT / "docs" / "decisions"


def decision(folder: Path, number: str, below_the_title: str) -> None:
    (folder / f"{number}-x.md").write_text(f"# {int(number)}. Title {number}\n\n{below_the_title}")


def test_every_decision_has_a_status_and_a_group() -> None:
    found = read_decisions(FOLDER)
    assert len(found) == len(list(FOLDER.glob("[0-9]*.md")))
    assert {one.group for one in found} <= {*GROUPS}


def test_the_index_groups_them_in_order_with_their_status(tmp_path: Path) -> None:
    decision(tmp_path, "0003", "Status: accepted\nGroup: Plan\n\n**Context.** …\n")
    decision(tmp_path, "0002", "Status: superseded by 0003\nGroup: Plan\n\n**Context.** …\n")
    decision(tmp_path, "0007", "Status: rejected idea\nGroup: Project\n\n**Context.** …\n")
    page = decisions_page(tmp_path)
    places = [page.index(text) for text in ("## Project", "Title 0007", "## Plan", "Title 0002", "Title 0003")]
    assert places == sorted(places)
    assert "| [0002](0002-x.md) | Title 0002 | superseded by 0003 |" in page


@pytest.mark.parametrize(
    ("below_the_title", "said"),
    [
        ("**Context.** Why.\n", "wanted are a Status and a Group below the title, seen is '**Context.** Why.'"),
        ("Group: Plan\nStatus: accepted\n\n", "wanted are a Status and a Group"),
        ("Status: accepted\n\n**Context.**", "wanted are a Status and a Group"),
        ("Status: done\nGroup: Plan\n\n", "no such status: 'done'"),
        ("Status: superseded by 0009\nGroup: Plan\n\n", "there is no decision 0009"),
        ("Status: accepted\nGroup: Plans\n\n", "no such group: 'Plans'"),
    ],
)
def test_what_is_missing_is_named_with_what_is_allowed(tmp_path: Path, below_the_title: str, said: str) -> None:
    decision(tmp_path, "0001", below_the_title)
    decision(tmp_path, "0002", "Status: accepted\nGroup: Plan\n\n")
    with pytest.raises(DecisionHeaderError) as caught:
        decisions_page(tmp_path)
    message = str(caught.value)
    assert f"0001-x.md: {said}" in message or said in message.splitlines()[0]
    assert "0002-x.md" not in message
    assert "Status: accepted | rejected idea" in message
    assert "Plan | Policy" in message
