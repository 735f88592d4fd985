"""The value rules as Great Expectations, for a look at a sample of what is stored.

Inside a micro-batch they would cost a second and more; on a sample of some ten thousand rows in memory they take a
tenth of that. `jobs/maintain` runs them on stored telemetry: whatever they find, the stream has let through.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from thalweg.streams.contract import names
from thalweg.streams.telemetry.rules import FieldRule

# The library reports its use to its makers unless told not to; what is measured here is nobody else's business.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

import great_expectations as gx

# Its package exports them without saying so to type checkers.
_GXE: Any = gx.expectations


def expectation(rule: FieldRule) -> Any:
    """Give one rule as an expectation on a pandas frame."""
    scope: dict[str, Any] = {"meta": {"rule": rule.name}}
    if rule.when is not None:
        scope |= {"row_condition": f'kind=="{rule.when}"', "condition_parser": "pandas"}
    if rule.required:
        return _GXE.ExpectColumnValuesToNotBeNull(column=rule.field, **scope)
    if rule.one_of is not None:
        return _GXE.ExpectColumnValuesToBeInSet(column=rule.field, value_set=rule.one_of, **scope)
    if rule.visible:
        return _GXE.ExpectColumnValuesToNotMatchRegex(column=rule.field, regex=names.unseen_pattern(), **scope)
    if rule.least is not None:
        scope |= {"row_condition": f"{rule.field} > 0", "condition_parser": "pandas"}
        return _GXE.ExpectColumnValuesToBeBetween(column=rule.field, min_value=rule.least, **scope)
    if rule.max_chars is not None:
        return _GXE.ExpectColumnValueLengthsToBeBetween(
            column=rule.field, min_value=rule.min_chars, max_value=rule.max_chars, **scope
        )
    low: Any = rule.min
    high: Any = rule.max
    return _GXE.ExpectColumnValuesToBeBetween(column=rule.field, min_value=low, max_value=high, **scope)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the library found."""

    broken: Mapping[str, Sequence[int]]
    """By broken rule, the positions of the rows that break it."""
    result: Any
    """The library's own result of the suite."""

    def page(self) -> str:
        """Draw the library's own page of it."""
        from great_expectations.render import renderer, view

        drawing: Any = renderer
        paper: Any = view
        return str(paper.DefaultJinjaPageView().render(drawing.ValidationResultsPageRenderer().render(self.result)))


def suite(rules: Sequence[FieldRule]) -> gx.ExpectationSuite:
    """Give the rules as a suite; each expectation carries its rule's name."""
    made = gx.ExpectationSuite(name="telemetry")
    for rule in rules:
        made.add_expectation(expectation(rule))
    return made


def validate(rules: Sequence[FieldRule], rows: pd.DataFrame) -> Report:
    """Check rows by every rule.

    Args:
        rules: bounds are numbers.
        rows: the columns that the rules name; missing values are None or NaN.
    """
    frame = rows.reset_index(drop=True)
    # A column without values has nothing to judge, and no type to compare with.
    judged = [rule for rule in rules if rule.required or not frame[rule.field].isna().all()]
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
    batch = (
        context.data_sources.add_pandas("sample")
        .add_dataframe_asset("rows")
        .add_batch_definition_whole_dataframe("all")
        .get_batch({"dataframe": frame})
    )
    result: Any = batch.validate(suite(judged), result_format="COMPLETE")
    broken = {
        str(one.expectation_config.meta["rule"]): list(one.result.get("unexpected_index_list") or [])
        for one in result.results
        if not one.success
    }
    return Report(broken=broken, result=result)


def broken_rows(rules: Sequence[FieldRule], rows: pd.DataFrame) -> Mapping[str, Sequence[int]]:
    """Check rows by every rule; by broken rule, the positions of the rows that break it."""
    return validate(rules, rows).broken
