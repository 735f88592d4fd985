"""The tutorial of twenty trainings is run as it stands: a stack, three regions, real processes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

from tests.patience import PATIENCE_S
from thalweg.bootstrap.jars import ensure_jars
from thalweg.conf.environment import PROJECT_ROOT, find_java
from thalweg.query.sql.query import query

pytestmark = pytest.mark.acceptance

PAGE: Final = (PROJECT_ROOT / "docs" / "tutorial" / "train-and-pick.md").read_text(encoding="utf-8")
# In the page's order: a file's name, what is waited for, the language, the text.
SNIPPETS: Final = re.findall(
    r"(?:<!-- file: (\S+) -->\n)?(?:<!-- then: ([^\n]+) -->\n)?```(\w+)\n(.*?)^```$",
    PAGE,
    flags=re.MULTILINE | re.DOTALL,
)
DONE: Final = "--- that was the snippet ---"


class Reader:
    """Somebody who types what the page shows into one shell, in a clone whose environment is ours."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        clone = folder / "clone"
        clone.mkdir()
        (clone / ".venv").symlink_to(sys.prefix)
        self.shell = subprocess.Popen(
            ["bash", "-eu"],
            cwd=clone,
            env={**os.environ, "THALWEG_STATE": str(self.state), "TMPDIR": str(folder)},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def types(self, snippet: str) -> str:
        """Run a snippet; return what it printed."""
        assert self.shell.stdin is not None
        assert self.shell.stdout is not None
        self.shell.stdin.write(f"{{\n{snippet}}} < /dev/null\necho '{DONE}'\n")
        self.shell.stdin.flush()
        lines: list[str] = []
        for line in self.shell.stdout:
            if line.rstrip() == DONE:
                return "".join(lines)
            lines.append(line)
        raise AssertionError(f"the shell ended with {self.shell.wait()} at\n{snippet}\nafter\n{''.join(lines)}")

    def writes(self, name: str, text: str) -> None:
        """Save a file where the shell is."""
        (Path(self.types("pwd\n").strip()) / name).write_text(text, encoding="utf-8")

    def waits_for_regions(self) -> None:
        """Look as a person does, until three regions are heard."""
        limit = time.monotonic() + PATIENCE_S
        while self._heard() < 3:
            assert time.monotonic() < limit, "three regions are not heard"
            time.sleep(1)

    def _heard(self) -> int:
        rows = json.loads(self.types("thalweg regions --json\n"))["regions"]
        return sum(1 for row in rows if row["state"] == "heard")

    def asks(self, statement: str) -> list[dict[str, Any]]:
        return query(statement, str(self.state / "warehouse")).dicts()

    def ends(self) -> None:
        """End what the shell has started: all of it is in its session."""
        environ = os.environ | {"THALWEG_STATE": str(self.state)}
        subprocess.run([sys.executable, "-m", "thalweg", "down"], env=environ, check=False)
        with suppress(ProcessLookupError):
            os.killpg(self.shell.pid, signal.SIGKILL)
        self.shell.wait()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    ensure_jars(find_java())
    made = Reader(tmp_path)
    yield made
    made.ends()


def test_the_page_has_what_the_test_runs() -> None:
    assert [name for name, _, _, _ in SNIPPETS if name] == ["desk.yaml", "sweep.yaml", "plain.py", "library.py"]
    assert [then for _, then, _, _ in SNIPPETS if then] == ["three regions are heard"]
    assert sum(language == "sh" for _, _, language, _ in SNIPPETS) >= 6
    assert len(SNIPPETS) == PAGE.count("\n```") // 2


def test_twenty_trainings_in_three_regions_and_the_best_is_picked(reader: Reader) -> None:
    printed: list[str] = []
    for name, then, language, text in SNIPPETS:
        if name:
            reader.writes(name, text)
            continue
        assert language == "sh", text
        printed.append(reader.types(text))
        if then:
            reader.waits_for_regions()

    gave = {
        row["task_id"]: json.loads(row["result"])
        for row in reader.asks("select task_id, result from results where ends and result is not null")
    }
    trainings = {task_id: result for task_id, result in gave.items() if task_id.startswith("sweep[")}
    assert sorted(result["seed"] for result in trainings.values()) == list(range(20))
    assert len({result["accuracy"] for result in trainings.values()}) > 1, "the seeds make no difference"
    best = gave["sweep-best"]
    assert best["of"] == 20
    assert best["accuracy"] == max(result["accuracy"] for result in trainings.values()) > 0.8
    assert trainings[best["best"]]["accuracy"] == best["accuracy"]
    regions = reader.asks(
        "select region, count(*) as n from results where task_id like 'sweep[%' and state = 'succeeded' group by region"
    )
    assert {row["region"] for row in regions} == {"bern", "oslo", "porto"}
    model = Path(re.sub(r"^file://[^/]*", "", best["model"]))
    assert model.is_file()

    shown = "".join(printed)
    assert "20 elements: 20 succeeded" in shown
    assert json.dumps(best["best"]) in shown
    # The other ways lead to the same.
    for way in ("plain", "library"):
        assert gave[f"{way}-best"]["of"] == 3
        assert [gave[f"{way}[{index}]"] for index in range(3)] == [trainings[f"sweep[{index}]"] for index in range(3)]
    assert str(gave["library-best"]) in shown
    assert printed[-1] == "" or "topped" in printed[-1]
