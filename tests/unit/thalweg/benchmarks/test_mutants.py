"""Mutants: where mistakes are put, that the sample is the seed's, that a mistake is tried in a copy and judged."""

import ast
import json
import subprocess
from pathlib import Path

import pytest

from thalweg.benchmarks.mutants import trial
from thalweg.benchmarks.mutants.asking import Passed, ask, ask_these
from thalweg.benchmarks.mutants.coverage_map import CoverageMap
from thalweg.benchmarks.mutants.mutations import lines_of, mutations
from thalweg.benchmarks.mutants.record import FOUND, SURVIVED, UNREACHED, Entry, Record, changing
from thalweg.benchmarks.mutants.sampling import draw, draw_another, shares, sources
from thalweg.benchmarks.mutants.trial import TreeCopy, nearest, within
from thalweg.conf.environment import PROJECT_ROOT

SOURCE = '''"""Words of 3 lines."""
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from x import y
LIMIT = 100

def f(a: int, b: int = 2) -> int:
    """Return 1 if 2."""
    log.info("said %d", 7)
    assert a != b
    if a < b and not g(a, b):
        seen.append(a + 1)
    return f"{a - b}" if a else min(a, b)

class C:
    def __repr__(self) -> str:
        return "C" * 2
'''


def test_each_kind_of_mistake_is_put_where_it_belongs_and_nowhere_else() -> None:
    found = {(one.line, one.kind, one.before, one.after) for one in mutations(SOURCE)}
    assert found == {
        (7, "constant", "2", "3"),
        (11, "and / or", "a < b and not g(a, b)", "(a < b or not g(a, b))"),
        (11, "comparison", "a < b", "(a <= b)"),
        (11, "not forgotten", "not g(a, b)", "(g(a, b))"),
        (11, "arguments swapped", "g(a, b)", "(g(b, a))"),
        (12, "call forgotten", "seen.append(a + 1)", "pass"),
        (12, "arithmetic", "a + 1", "(a - 1)"),
        (12, "constant", "1", "2"),
        (13, "nothing returned", 'f"{a - b}" if a else min(a, b)', "None"),
        (13, "branches swapped", 'f"{a - b}" if a else min(a, b)', "(min(a, b) if a else f'{a - b}')"),
        (13, "the other function", "min", "max"),
    }


def test_every_mistake_of_the_product_can_be_read_and_changes_something() -> None:
    text = (PROJECT_ROOT / "sync" / "delta" / "compaction.py").read_text(encoding="utf-8")
    whole = ast.dump(ast.parse(text))
    found = mutations(text)
    assert len(found) > 50
    for one in found:
        assert ast.dump(ast.parse(one.apply(text))) != whole, one


def test_letters_of_several_bytes_do_not_shift_the_place() -> None:
    text = 'x = f("ääß", a < b)\n'
    (one,) = (one for one in mutations(text) if one.kind == "comparison")
    assert one.apply(text) == 'x = f("ääß", (a <= b))\n'


def test_lines_of_code_are_counted_without_words() -> None:
    assert lines_of('"""One\ntwo."""\n\n# three\nx = (\n    1\n)\n\ndef f() -> None:\n    """Four."""\n') == 3


def test_the_sample_is_the_seeds_and_its_rooms_have_their_shares() -> None:
    rooms = sources(PROJECT_ROOT)
    first, again, other = draw(rooms, 40, 1), draw(rooms, 40, 1), draw(rooms, 40, 2)
    assert first == again
    assert first != other
    assert len({(one.path, one.mutation.line) for one in first}) == 40
    lines = {room: sum(map(lines_of, texts.values())) for room, texts in rooms.items()}
    assert {room: sum(one.room == room for one in first) for room in rooms} == shares(lines, 40)
    assert not [one for one in first if one.path.startswith("sync/proof/")]


def test_another_one_of_a_room_is_drawn_by_the_seed_and_never_a_line_that_was_drawn_already() -> None:
    texts = {"sync/a.py": "x = a < b\ny = f(a)\nz = 1 + a\n"}
    taken = {("sync/a.py", "x = a < b")}
    drawn = [draw_another(texts, taken, "sync", number, 5) for number in range(1, 40)]
    assert drawn == [draw_another(texts, taken, "sync", number, 5) for number in range(1, 40)]
    assert {(one.path, one.mutation.line, one.room) for one in drawn} == {("sync/a.py", 3, "sync")}
    assert [one.number for one in drawn] == [*range(1, 40)]
    assert len({one.mutation.kind for one in drawn}) == 2, "either mistake of the line, by the number"


def test_shares_add_up() -> None:
    assert shares({"a": 1, "b": 1, "c": 1}, 10) == {"a": 4, "b": 3, "c": 3}


def test_tests_of_a_line_are_the_fastest_first_and_compiled_code_has_those_of_its_users(tmp_path: Path) -> None:
    covered = CoverageMap()
    lines = {"scheduling/a.py": {"1": [], "2": [0], "3": [0, 1], "4": [0], "6": []}, "scheduling/kernel.py": {"1": []}}
    part = {"tests": [["slow", 9.0], ["fast", 1.0]], "failed": [], "files": lines}
    covered.add(json.loads(json.dumps(part)))
    (tmp_path / "scheduling").mkdir()
    (tmp_path / "scheduling" / "a.py").write_text(
        "from thalweg.scheduling import ids, kernel\ndef f():\n    x\n    y\ndef g():\n    z\n"
    )
    (tmp_path / "scheduling" / "kernel.py").write_text("from thalweg.scheduling.compiled import compiled\n")
    assert covered.tests_of("scheduling/a.py", 3, tmp_path) == ["fast", "slow"]
    assert covered.tests_of("scheduling/a.py", 4, tmp_path) == ["slow"]
    assert covered.tests_of("scheduling/a.py", 1, tmp_path) == ["fast", "slow"], "it runs at import"
    assert covered.tests_of("scheduling/a.py", 2, tmp_path) == ["fast", "slow"], "a test that imports it says nothing"
    assert covered.tests_of("scheduling/a.py", 6, tmp_path) == ["fast", "slow"], "a function that is called at import"
    (tmp_path / "scheduling" / "b.py").write_text("def f():\n    x\n")
    assert covered.tests_of("scheduling/b.py", 2, tmp_path) == []
    assert covered.tests_of("scheduling/kernel.py", 9, tmp_path) == ["fast", "slow"]
    assert within(["fast", "slow"], covered.seconds, most_s=5) == ["fast"]


def test_the_nearest_tests_are_those_of_two_files_where_the_modules_own_lie() -> None:
    near, far = "tests/unit/scheduling/live", "tests/properties/test_plan.py::b"
    of = [f"{near}/test_a.py::one", far, f"{near}/test_b.py::x", f"{near}/test_a.py::two", f"{near}/test_c.py::x"]
    of.append(f"{near}/test_c.py::y")
    assert set(nearest(of, "scheduling/live/gangs.py")) == {*of} - {far, f"{near}/test_b.py::x"}
    assert nearest(of, "scheduling/liveness/told.py") == []
    assert nearest(["tests/unit/thalweg/agent/test_a.py::x"], "thalweg/agent/a.py") == [
        "tests/unit/thalweg/agent/test_a.py::x"
    ]


CALC = """def larger(a: int, b: int) -> int:
    while a < 0:
        a += 10
    return a if a > b else b
"""
TEST_CALC = """from calc import larger

def test_larger():
    assert (larger(1, 2), larger(3, 2), larger(-1, 3)) == (2, 3, 9)
"""


def test_a_mistake_is_tried_in_a_copy_and_taken_out_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "START_CPU_S", 1)
    monkeypatch.setattr(trial, "ANEW_CPU_S", 0)
    tree, test = tmp_path / "tree", "test_calc.py::test_larger"
    tree.mkdir()
    (tree / "calc.py").write_text(CALC)
    (tree / "test_calc.py").write_text(TEST_CALC)
    (tree / ".venv").mkdir()
    for command in (["git", "init", "-q"], ["git", "add", "calc.py", "test_calc.py"]):
        subprocess.run(command, cwd=tree, check=True)
    copy = TreeCopy(tree, tmp_path / "copy")
    found = {(one.line, one.kind): one for one in mutations(CALC)}
    outcomes = {}
    try:
        for place in ((4, "branches swapped"), (4, "comparison"), (3, "statement forgotten")):
            with copy.with_mistake("calc.py", found[place]):
                # Whoever does not end is not waited for; whoever ends is, however slow the machine.
                tried = copy.run([test], expected_s=0.0 if place[0] == 3 else 1_000.0)
            outcomes[place] = tried.by
    finally:
        copy.close()
    assert outcomes == {
        (4, "branches swapped"): test,
        (4, "comparison"): "",  # of two that are the same either is the larger
        (3, "statement forgotten"): "did not end",
    }
    assert (copy.root / "calc.py").read_text() == (tree / "calc.py").read_text() == CALC


def test_a_longer_look_asks_only_the_tests_that_were_left_out(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tests = tree / "tests" / "unit" / "sync"
    tests.mkdir(parents=True)
    (tree / "sync").mkdir()
    (tree / "sync" / "calc.py").write_text(CALC)
    (tree / "sync" / "__init__.py").write_text("")
    said = "from sync.calc import larger\n\ndef test_one():\n    open('asked', 'a').write({!r})\n    assert {}\n"
    for name, claim in (("fast", "larger(1, 1) == 1"), ("slow", "larger(3, 2) == 3")):
        (tests / f"test_{name}.py").write_text(said.format(name, claim))
    subprocess.run(["git", "init", "-q"], cwd=tree, check=True)
    subprocess.run(["git", "add", "."], cwd=tree, check=True)
    fast, slow = (f"tests/unit/sync/test_{name}.py::test_one" for name in ("fast", "slow"))
    covered = CoverageMap(seconds={fast: 1.0, slow: 5.0}, lines={"sync/calc.py": {4: {fast, slow}}})
    (swapped,) = (one for one in mutations(CALC) if one.kind == "branches swapped")
    mistake = entry(path="sync/calc.py", line=4, kind=swapped.kind, before=swapped.before, after=swapped.after)
    passed = Passed(tmp_path / "passed", "a version")
    copy = TreeCopy(tree, tmp_path / "copy")
    try:
        first = ask(copy, mistake, swapped, covered, passed, most_s=2.0)
        assert (first["outcome"], first["ran"], first["left_out"]) == (SURVIVED, 1, 1)
        assert passed.read(mistake) == {fast}
        assert Passed(tmp_path / "passed", "another").read(mistake) == set(), "there the tests may say something else"
        mistake.ran = first["ran"]
        then = ask(copy, mistake, swapped, covered, passed, most_s=100.0)
        assert (then["outcome"], then["by"], then["ran"], then["left_out"]) == (FOUND, slow, 2, 0)
        assert (copy.root / "asked").read_text() == "fastslow"
        assert ask_these(copy, mistake, swapped, [slow], {}, "written") == {"later": slow, "later_stage": "written"}
        assert ask_these(copy, mistake, swapped, [fast], {}, "written") == {"later": "", "later_stage": ""}
        assert ask(copy, mistake, swapped, CoverageMap(), passed, 1.0)["outcome"] == UNREACHED
    finally:
        copy.close()


def entry(**of: object) -> Entry:
    known: dict[str, object] = {
        "number": 1,
        "room": "sync",
        "path": "a.py",
        "line": 2,
        "kind": "comparison",
        "before": "a < b",
        "after": "(a <= b)",
        "text": "if a < b:",
    }
    return Entry(**(known | of))  # type: ignore[arg-type]


def test_a_mistakes_place_is_found_again_when_lines_above_have_changed() -> None:
    text = "x = 1\n# new\n# new\nif a < b:\n    pass\n"
    found = entry().mutation_in(text)
    assert found is not None and found.line == 4
    assert entry().mutation_in("if a > b:\n    pass\n") is None


def test_a_record_is_gone_on_with_and_counts_as_it_was_and_as_it_is(tmp_path: Path) -> None:
    record = Record(
        seed=3,
        asked=4,
        lines={"sync": 10},
        entries=[
            entry(number=1, outcome=FOUND, by="t"),
            entry(number=2, outcome=SURVIVED, later="t2", later_stage="written"),
            entry(number=3, outcome=SURVIVED, equivalent=True, judgement="the bound is never reached"),
            entry(number=4),
        ],
    )
    record.write(tmp_path / "mutants.json")
    again = Record.read(tmp_path / "mutants.json")
    assert again == record
    summary = again.summary()
    assert (summary["tried"], summary["found"], summary["survived"]) == (3, 1, 2)
    assert summary["found_percent"] == pytest.approx(33.3)
    assert summary["found_with_tests_written_since_percent"] == pytest.approx(66.7)
    assert summary["judged_equivalent"] == 1


def test_what_others_wrote_into_the_record_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "mutants.json"
    Record(seed=3, asked=2, lines={"sync": 10}, entries=[entry(number=1), entry(number=2)]).write(path)
    old = Record.read(path)
    with changing(path) as record:
        record.of(2).judgement = "nobody sees it"
    with changing(path) as record:
        record.of(1).outcome = SURVIVED
    now = Record.read(path)
    assert (old.of(2).judgement, now.of(1).outcome, now.of(2).judgement) == ("", SURVIVED, "nobody sees it")
