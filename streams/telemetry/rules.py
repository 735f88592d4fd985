"""Value rules: what a row must satisfy to be believed, read from a file, judged column by column.

A broken rule sends the row to quarantine with the rule's name and a reason; nothing is repaired or dropped. The same
file gives the Spark column (`streams.telemetry.rule_columns`) and the Great Expectations suite
(`streams.telemetry.rule_expectations`); tests hold the three together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from thalweg.conf.environment import TELEMETRY_RULES
from thalweg.conf.settings import ObserveSettings, SettingsError
from thalweg.conf.yaml_tree import YamlTreeError, read_tree
from thalweg.streams.contract import names
from thalweg.streams.telemetry.parse import PARSED

Bound = int | float


class RulesError(SettingsError):
    """A rule file cannot be read; the message names the rule and what is allowed."""


class FieldRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One demand on one field. A missing value breaks only `required`."""

    name: str
    field: str
    when: str | None = None
    """Only for rows of this `kind`; None means every row."""
    required: bool = False
    one_of: list[str] | None = None
    min: Bound | str | None = None
    """A number, or in a file the name of a limit."""
    max: Bound | str | None = None
    min_chars: int | None = None
    max_chars: int | None = None
    visible: bool = False
    """Only characters that can be seen, and blanks between them (`streams.contract.names`)."""
    least: float | None = None
    """0, or no less than this: what is less counts as nothing."""

    @property
    def demand(self) -> str:
        """What is allowed, in words."""
        if self.required:
            return "present"
        if self.one_of is not None:
            return "one of " + ", ".join(self.one_of)
        if self.visible:
            return names.ALLOWED
        if self.least is not None:
            return f"0, or {self.least:g} and more"
        if self.max_chars is not None:
            return f"{self.min_chars or 0} to {self.max_chars} characters"
        if self.min is None:
            return f"at most {self.max}"
        return f"at least {self.min}" if self.max is None else f"{self.min} to {self.max}"


class _RuleFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rules: list[FieldRule]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRows:
    """Rows that satisfy every rule, and rows that do not with `rule` and `reason` beside their own columns."""

    valid: pa.Table
    quarantined: pa.Table


VERDICT_COLUMNS: Final = (pa.field("rule", pa.string()), pa.field("reason", pa.string()))


def load_rules(path: Traversable, columns: Sequence[str], limits: Mapping[str, Bound]) -> tuple[FieldRule, ...]:
    """Read a rule file.

    Args:
        path: YAML.
        columns: what a rule may name.
        limits: bounds that the file names and the settings give.

    Raises:
        RulesError: the file is missing or malformed, or a rule names an unknown column or limit.
    """
    try:
        rules = msgspec.convert(read_tree(path.read_text(encoding="utf-8")).value, _RuleFile).rules
    except YamlTreeError as error:
        raise RulesError(f"rule file {path}: {error.in_full}") from error
    except (OSError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise RulesError(f"rule file {path}: {error}") from error
    for rule in rules:
        if rule.field not in columns:
            raise RulesError(f"{path}: rule {rule.name!r} names field {rule.field!r}; allowed are {', '.join(columns)}")
    return tuple(msgspec.structs.replace(rule, **_resolved(path, rule, limits)) for rule in rules)


def site_rules(observe: ObserveSettings) -> tuple[FieldRule, ...]:
    """Read the rules that the settings name.

    Raises:
        RulesError: see `load_rules`.
    """
    path: Traversable = TELEMETRY_RULES if observe.rules is None else Path(observe.rules)
    return load_rules(path, PARSED.names, {"future_limit_ms": observe.future_limit_ms})


def _resolved(path: Traversable, rule: FieldRule, limits: Mapping[str, Bound]) -> dict[str, Bound | None]:
    bounds: dict[str, Bound | None] = {}
    for side, bound in (("min", rule.min), ("max", rule.max)):
        if isinstance(bound, str) and bound not in limits:
            raise RulesError(f"{path}: rule {rule.name!r} names limit {bound!r}; allowed are {', '.join(limits)}")
        bounds[side] = limits[bound] if isinstance(bound, str) else bound
    return bounds


def broken_by(rule: FieldRule, rows: pa.Table) -> pa.ChunkedArray:
    """Mask of the rows that break one rule; never null."""
    values = rows[rule.field]
    if rule.required:
        broken = pc.is_null(values)
    elif rule.one_of is not None:
        broken = pc.and_(pc.is_valid(values), pc.invert(pc.is_in(values, pa.array(rule.one_of, values.type))))
    elif rule.visible:
        broken = _unseen(values)
    elif rule.least is not None:
        broken = pc.fill_null(pc.and_(pc.greater(values, 0), pc.less(values, rule.least)), False)
    else:
        measured = pc.utf8_length(values) if rule.max_chars is not None else values
        low, high = (rule.min_chars, rule.max_chars) if rule.max_chars is not None else (rule.min, rule.max)
        within: Any = pc.is_valid(values)
        # "Not within" instead of "below or above", so that a value that compares with nothing (NaN) is broken as well.
        if low is not None:
            within = pc.and_(within, pc.greater_equal(measured, low))
        if high is not None:
            within = pc.and_(within, pc.less_equal(measured, high))
        broken = pc.and_(pc.is_valid(values), pc.invert(pc.fill_null(within, False)))
    if rule.when is not None:
        broken = pc.and_(broken, pc.fill_null(pc.equal(rows["kind"], rule.when), False))
    return broken


def _unseen(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Mask of the names that cannot be seen: nearly all are told by a look at whole columns."""
    plain = pc.fill_null(pc.match_substring_regex(values, names.PLAIN), True)
    others = pc.unique(values.filter(pc.invert(plain))).to_pylist()
    unseen = [name for name in others if not names.can_be_seen(name)]
    return pc.is_in(values, pa.array(unseen, values.type))


def judge(rules: Sequence[FieldRule], rows: pa.Table) -> JudgedRows:
    """Split rows by the rules; a row is reported under the first rule, in their order, that it breaks."""
    first_broken: Any = None
    for number, rule in enumerate(rules):
        broken = broken_by(rule, rows)
        if pc.any(broken).as_py():
            marked = pc.if_else(broken, pa.scalar(number, pa.int32()), pa.scalar(None, pa.int32()))
            first_broken = marked if first_broken is None else pc.coalesce(first_broken, marked)
    if first_broken is None:
        empty = rows.slice(0, 0)
        for column in VERDICT_COLUMNS:
            empty = empty.append_column(column, pa.array([], column.type))
        return JudgedRows(valid=rows, quarantined=empty)
    quarantined = rows.filter(pc.is_valid(first_broken))
    broken_rules = [rules[number] for number in first_broken.drop_null().to_pylist()]
    reasons = [_reason(rule, quarantined, row) for row, rule in enumerate(broken_rules)]
    quarantined = quarantined.append_column(VERDICT_COLUMNS[0], pa.array([r.name for r in broken_rules], pa.string()))
    quarantined = quarantined.append_column(VERDICT_COLUMNS[1], pa.array(reasons, pa.string()))
    return JudgedRows(valid=rows.filter(pc.is_null(first_broken)), quarantined=quarantined)


def _reason(rule: FieldRule, rows: pa.Table, row: int) -> str:
    seen = repr(rows[rule.field][row].as_py())
    return f"{rule.field} is {seen[:200]}; allowed is {rule.demand}"
