"""The newest error in a folder of logs, among everything else that lies there."""

import json
from pathlib import Path

from thalweg.stack.logs import newest_error


def line(at: str, level: str = "error", **fields: str) -> str:
    return json.dumps({"at": at, "level": level, "logger": "thalweg.local", **fields})


def test_it_is_the_newest_over_all_logs_and_names_what_was_raised(tmp_path: Path) -> None:
    assert newest_error(tmp_path) is None
    trace = 'Traceback (most recent call last):\n  File "x.py", line 1\nValueError: cannot convert\n\tat py4j.Protocol'
    jobs = [
        "26/11/21 23:15:19 ERROR MicroBatchExecution: a JVM's own words",
        line("2026-11-21T23:15:20.793+00:00", message="query ended", job="place", error=trace),
        line("2026-11-21T23:16:00.000+00:00", level="info", message="started", job="place"),
        '{"at": "2026-11-21T23:17:00.000+00:00", "level": "err',
    ]
    (tmp_path / "jobs.log").write_text("\n".join(jobs))
    (tmp_path / "agents-1.log").write_text(line("2026-11-21T23:15:00.000+00:00", message="broker away"))
    assert newest_error(tmp_path) == "2026-11-21T23:15:20Z jobs: place query ended: ValueError: cannot convert"
    (tmp_path / "agents-2.log").write_text(line("2026-11-21T23:18:00.000+00:00", message="broker away"))
    assert newest_error(tmp_path) == "2026-11-21T23:18:00Z agents-2: broker away"
