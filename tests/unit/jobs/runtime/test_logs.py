"""Both forms of a log line have everything that was said."""

import io
import json
import logging

import pytest

from thalweg.conf.settings import LogSettings
from thalweg.jobs.runtime.job import set_up_logs


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_line_has_its_fields_and_its_error_in_either_form(form: str) -> None:
    stream = io.StringIO()
    set_up_logs(LogSettings(form=form), stream)  # type: ignore[arg-type]  # a literal
    try:
        raise ZeroDivisionError("why")
    except ZeroDivisionError:
        logging.getLogger("thalweg.place").exception("region lost", extra={"fields": {"region": "east", "ms": 7}})
    logging.getLogger("thalweg.place").warning("plain")
    told = stream.getvalue()
    assert "region lost" in told and "ZeroDivisionError: why" in told
    if form == "json":
        assert {"region": "east", "ms": 7}.items() <= json.loads(told.splitlines()[0]).items()
    else:
        assert "ERROR thalweg.place region lost region=east ms=7\n" in told
        assert told.endswith("WARNING thalweg.place plain\n")
