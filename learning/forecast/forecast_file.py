"""A forecast as a file: JSON that anybody can read, that runs nothing, and that is the same for the same forecast."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from thalweg.learning.forecast.columns import ForecastColumn, ForecastInputError
from thalweg.learning.forecast.group_quantiles import GroupCell, GroupQuantiles
from thalweg.learning.forecast.scores import ForecastScore

Triple = tuple[float, float, float]


class FiledGroup(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A group: its key, rows, whether its quantiles are of the ratio to the base, and these."""

    key: tuple[int, ...]
    count: Annotated[int, msgspec.Meta(ge=1)]
    of_ratio: bool
    quantiles: Triple


class FiledImportance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """By how much worse the forecast was with a column shuffled, on the rows that it was tried on."""

    column: str
    added: float
    deviation: float


class ForecastFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a file holds."""

    format: Literal["thalweg-forecast/1"] = "thalweg-forecast/1"
    what: Literal["durations", "demand"]
    """Durations in seconds, or GPU-hours asked for in an hour; truths are their logarithms."""
    rows: Annotated[int, msgspec.Meta(ge=1)]
    since: str
    until: str
    """Of what it was learnt from."""
    tried_on: Annotated[int, msgspec.Meta(ge=1)]
    scores: dict[str, ForecastScore]
    """On what came later; by what forecast it."""
    importance: tuple[FiledImportance, ...]
    columns: tuple[ForecastColumn, ...]
    base: Annotated[int, msgspec.Meta(ge=0)]
    chain: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]
    widen: float
    groups: tuple[tuple[FiledGroup, ...], ...]
    """By depth, coarse to fine."""
    usual: tuple[tuple[float, ...], ...]
    """Rows that stand for what is usual, the latest."""

    @property
    def model(self) -> GroupQuantiles:
        """The forecast."""
        return GroupQuantiles(
            columns=self.columns,
            base=self.base,
            chain=self.chain,
            cells=tuple(
                {group.key: GroupCell(group.count, group.of_ratio, group.quantiles) for group in level}
                for level in self.groups
            ),
            widen=self.widen,
        )


def filed_groups(model: GroupQuantiles) -> tuple[tuple[FiledGroup, ...], ...]:
    """Lay a forecast's groups out, in the order of their keys."""
    return tuple(
        tuple(FiledGroup(key, cell.count, cell.of_ratio, cell.quantiles) for key, cell in sorted(cells.items()))
        for cells in model.cells
    )


def written(file: ForecastFile) -> bytes:
    """Write a forecast; equal ones give equal bytes."""
    return msgspec.json.format(msgspec.json.encode(file), indent=0) + b"\n"


def read_forecast(raw: bytes) -> ForecastFile:
    """Read a forecast.

    Raises:
        ForecastInputError: it is none; the text says what is wrong with it.
    """
    try:
        found = msgspec.json.decode(raw, type=ForecastFile)
    except msgspec.DecodeError as error:
        raise ForecastInputError(f"no forecast: {error}; wanted is what thalweg forecast --out writes") from error
    if wrong := _wrong(found):
        raise ForecastInputError(f"no forecast: {wrong}; wanted is what thalweg forecast --out writes")
    return found


def no_forecast_yet(file: Path) -> str:
    """Say what to do where a forecast's file is not there."""
    return f"{file}: there is no such file; write it with thalweg forecast durations (or demand) --out {file}"


def _wrong(file: ForecastFile) -> str | None:
    """Say what does not fit together; the planner would find out in the middle of a plan."""
    width = len(file.columns)
    if not all(at < width for at in (file.base, *file.chain)) or len(set(file.chain)) < len(file.chain):
        return f"base {file.base} and chain ({_said(file.chain)}) do not name {width} columns"
    if any(not column.unit > 0 for column in file.columns):
        return "a column's unit is not above 0"
    if len(file.groups) != len(file.chain) + 1 or len(file.groups[0]) != 1:
        return f"groups of {len(file.groups)} depths, of a chain of {len(file.chain)}"
    for depth, level in enumerate(file.groups):
        for group in level:
            if len(group.key) != depth:
                return f"group ({_said(group.key)}) at depth {depth}"
            if not _rising(group.quantiles):
                return f"group ({_said(group.key)}) has quantiles {_said(group.quantiles)}"
    if any(len(row) != width or not all(map(math.isfinite, row)) for row in file.usual) or not file.usual:
        return "usual rows that are none of its columns"
    return None if math.isfinite(file.widen) else f"widen is {file.widen}"


def _said(values: Sequence[float]) -> str:
    return ", ".join(map(str, values))


def _rising(values: Sequence[float]) -> bool:
    return all(map(math.isfinite, values)) and list(values) == sorted(values)
