"""The value rules as Great Expectations, for a look at a sample of what is stored.

Inside a micro-batch they would cost a second and more; on a sample of some ten thousand rows in memory they take a
tenth of that. `jobs/maintain` runs them on stored telemetry: whatever they find, the stream has let through.
"""

import os
from collections.abc import Sequence
from typing import Any

import pandas as pd

from thalweg.streams.telemetry.rules import Rule

# The library reports its use to its makers unless told not to; what is measured here is nobody else's business.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

import great_expectations as gx

# Its package exports them without saying so to type checkers.
_GXE: Any = gx.expectations


def expectation(rule: Rule) -> Any:
    """Give one rule as an expectation on a pandas frame."""
    scope: dict[str, Any] = {}
    if rule.when is not None:
        scope = {"row_condition": f'kind=="{rule.when}"', "condition_parser": "pandas"}
    if rule.required:
        return _GXE.ExpectColumnValuesToNotBeNull(column=rule.field, **scope)
    if rule.one_of is not None:
        return _GXE.ExpectColumnValuesToBeInSet(column=rule.field, value_set=rule.one_of, **scope)
    if rule.max_chars is not None:
        return _GXE.ExpectColumnValueLengthsToBeBetween(
            column=rule.field, min_value=rule.min_chars, max_value=rule.max_chars, **scope
        )
    low: Any = rule.min
    high: Any = rule.max
    return _GXE.ExpectColumnValuesToBeBetween(column=rule.field, min_value=low, max_value=high, **scope)


def broken_rows(rules: Sequence[Rule], rows: pd.DataFrame) -> dict[str, list[int]]:
    """Check rows by every rule and return, for each broken one, the positions of the rows that break it.

    Args:
        rules: bounds are numbers.
        rows: the columns that the rules name; missing values are None or NaN.
    """
    frame = rows.reset_index(drop=True)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
    batch = (
        context.data_sources.add_pandas("sample")
        .add_dataframe_asset("rows")
        .add_batch_definition_whole_dataframe("all")
        .get_batch({"dataframe": frame})
    )
    broken: dict[str, list[int]] = {}
    for rule in rules:
        if frame[rule.field].isna().all() and not rule.required:
            continue  # nothing to judge, and a column without values has no type to compare with
        result = batch.validate(expectation(rule), result_format="COMPLETE")
        if not result.success:
            broken[rule.name] = list(result.result.get("unexpected_index_list") or [])
    return broken
