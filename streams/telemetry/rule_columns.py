"""The value rules as one Spark column, for telemetry that is judged inside Spark: history read back, other sources.

One expression names the first rule that a row breaks, so that judging and splitting is one pass without a shuffle.
"""

from collections.abc import Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812

from thalweg.streams.contract import names
from thalweg.streams.telemetry.rules import FieldRule


def broken_rule(rules: Sequence[FieldRule]) -> Column:
    """Name of the first rule that the row breaks, null if none. The frame has the columns the rules name."""
    first = F.lit(None).cast("string")
    for rule in reversed(rules):
        first = F.when(_is_broken(rule), F.lit(rule.name)).otherwise(first)
    return first


def reason(rules: Sequence[FieldRule]) -> Column:
    """Say what was seen and what is allowed, for the first rule that the row breaks."""
    words = F.lit(None).cast("string")
    for rule in reversed(rules):
        seen = F.coalesce(F.col(rule.field).cast("string"), F.lit("missing"))
        text = F.concat(F.lit(f"{rule.field} is "), seen, F.lit(f"; allowed is {rule.demand}"))
        words = F.when(_is_broken(rule), text).otherwise(words)
    return words


def split(rows: DataFrame, rules: Sequence[FieldRule]) -> tuple[DataFrame, DataFrame]:
    """Split rows into those that satisfy every rule, and the others with `rule` and `reason` beside their columns."""
    judged = rows.withColumn("rule", broken_rule(rules))
    valid = judged.where(F.col("rule").isNull()).drop("rule")
    quarantined = judged.where(F.col("rule").isNotNull()).withColumn("reason", reason(rules))
    return valid, quarantined


def _is_broken(rule: FieldRule) -> Column:
    value = F.col(rule.field)
    if rule.required:
        broken = value.isNull()
    elif rule.one_of is not None:
        broken = value.isNotNull() & ~value.isin(*rule.one_of)
    elif rule.visible:
        broken = F.coalesce(value.rlike(names.unseen_pattern()), F.lit(False))
    elif rule.least is not None:
        broken = F.coalesce((value > F.lit(0)) & (value < F.lit(rule.least)), F.lit(False))
    else:
        measured = F.length(value) if rule.max_chars is not None else value
        low, high = (rule.min_chars, rule.max_chars) if rule.max_chars is not None else (rule.min, rule.max)
        # Spark orders NaN above every number, so an upper bound catches it; a missing value breaks nothing here.
        sides = [measured < F.lit(low)] * (low is not None) + [measured > F.lit(high)] * (high is not None)
        broken = F.coalesce(reduce(Column.__or__, sides), F.lit(False))
    return broken & F.coalesce(F.col("kind") == rule.when, F.lit(False)) if rule.when is not None else broken
