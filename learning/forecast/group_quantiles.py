"""Quantiles of groups, each drawn towards the coarser group that it is part of.

Rows are grouped by one column, within these by another, and so on; a group's quantiles count by how many rows it has,
the rest is the coarser group's (James, Stein 1961; Efron, Morris 1975). So a group of three says a little, and one of
a thousand speaks for itself. A group holds quantiles either of the truth itself or of its ratio to a base column, such
as what a request says: whichever fitted better there. Where requests are right, the forecast is the request; where they
are noise, it is what was usual.

Which columns, and in which order, is found by what was right on the later rows. The interval is then widened, or made
narrower, by what it takes for it to hold as many of these as it claims (Romano, Patterson, Candès 2019, conformalised
quantile regression).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from thalweg.learning.forecast.columns import Buckets, ForecastColumn, ForecastInputError, Numbers, check_finite
from thalweg.learning.forecast.scores import COVERED, QUANTILES, pinball

FEWEST: Final = 50
"""Rows to learn from: a fifth of them judges the rest, and of fewer than ten no interval of 80 % follows."""
PULL: Final = 10.0
"""Rows that the coarser group counts as: a group of ten speaks for half of its forecast."""
WORTH: Final = 0.02
"""Share of the loss that a column has to save to be taken in."""
LATER: Final = 0.2
"""Share of the rows, the latest, that columns are chosen and the interval is set by."""


@dataclass(frozen=True, slots=True)
class GroupCell:
    """A group.

    Attributes:
        count: of its rows.
        of_ratio: its quantiles are of the truth less the base.
        quantiles: three, rising.
    """

    count: int
    of_ratio: bool
    quantiles: tuple[float, float, float]


Cells = Mapping[tuple[int, ...], GroupCell]
"""Groups of one depth by the buckets of their columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupQuantiles:
    """A forecast.

    Attributes:
        columns: of the rows that it is asked with.
        base: index of the column that ratios are of; its logarithm is on the truth's scale.
        chain: indices of the columns that make groups, coarse to fine.
        cells: groups by depth; the first is of all rows.
        widen: what the interval is widened by at each end; below 0 it is made narrower.
    """

    columns: tuple[ForecastColumn, ...]
    base: int
    chain: tuple[int, ...]
    cells: tuple[Cells, ...]
    widen: float = 0.0

    @property
    def has_ratios(self) -> bool:
        """Whether the quantiles of any group are of a ratio; of none, the base says nothing."""
        return any(cell.of_ratio for cells in self.cells for cell in cells.values())

    def quantiles(self, x: Numbers) -> Numbers:
        """Forecast [N, columns] rows.

        Returns:
            [N, 3], rising in each row.
        """
        least, middle, most = self._drawn(x).T
        # An interval that is made narrower ends at the median; and rounding must not turn one round.
        return np.stack([np.minimum(least - self.widen, middle), middle, np.maximum(most + self.widen, middle)], axis=1)

    def middle(self, x: Numbers) -> Numbers:
        """Forecast the medians of [N, columns] rows."""
        return np.asarray(self.quantiles(x)[:, 1])

    def _drawn(self, x: Numbers) -> Numbers:
        base = _base_of(self.columns[self.base], x[:, self.base])
        keys, which = np.unique(_buckets(self.columns, self.chain, x), axis=0, return_inverse=True)
        which = which.ravel()
        found = np.zeros((len(x), len(QUANTILES)))
        for depth, cells in enumerate(self.cells):
            own = [cells.get(tuple(key)) for key in keys[:, :depth].tolist()]
            weight = np.array([_weight(cell) for cell in own])
            if depth == 0:
                weight = np.ones(len(own))
            level = np.array([cell.quantiles if cell else (0.0, 0.0, 0.0) for cell in own]).reshape(-1, len(QUANTILES))
            ratio = np.array([bool(cell and cell.of_ratio) for cell in own])
            said = level[which] + np.where(ratio[which], base, 0.0)[:, None]
            # Between what a group says and what the coarser one says: rising, as both are.
            found += weight[which][:, None] * (said - found)
        return found


def learnt(
    x: Numbers,
    y: Numbers,
    when: Numbers,
    columns: Sequence[ForecastColumn],
    bases: Sequence[int],
    chain: tuple[int, ...] | None = None,
) -> GroupQuantiles:
    """Learn a forecast.

    Args:
        x: [N, columns] rows.
        y: [N] truths, on the scale of the base's logarithm.
        when: [N] when each truth came about; only the order counts.
        columns: of the rows.
        bases: indices of the columns that ratios may be of; the one that does best on the later rows is.
        chain: columns that make groups; None finds them.

    Raises:
        ForecastInputError: there are too few rows, or some are no finite numbers.
    """
    if len(x) < FEWEST:
        raise ForecastInputError(f"rows: {len(x)}; allowed are {FEWEST} and more: an interval follows from no fewer")
    check_finite(x, "the rows")
    check_finite(y, "the truths")
    order = np.argsort(when, kind="stable")
    x, y = x[order], y[order]
    cut = len(x) - max(10, int(LATER * len(x)))
    earlier, later = (x[:cut], y[:cut]), (x[cut:], y[cut:])
    _, base, chain = min(
        _chosen(earlier, later, columns, base) if chain is None else _loss(earlier, later, columns, base, chain)
        for base in bases
    )
    told = grouped(*earlier, columns, base, chain).quantiles(later[0])
    return replace(grouped(x, y, columns, base, chain), widen=_widening(later[1], told))


def grouped(
    x: Numbers, y: Numbers, columns: Sequence[ForecastColumn], base: int, chain: Sequence[int]
) -> GroupQuantiles:
    """Take the quantiles of groups by given columns, coarse to fine; the interval is as it comes out."""
    buckets = _buckets(columns, chain, x)
    log_base = _base_of(columns[base], x[:, base])
    return GroupQuantiles(
        columns=tuple(columns),
        base=base,
        chain=tuple(chain),
        cells=tuple(_cells(buckets[:, :depth], y, log_base) for depth in range(len(chain) + 1)),
    )


_Rows = tuple[Numbers, Numbers]
_Judged = tuple[float, int, tuple[int, ...]]
"""Loss on the later rows, base, chain."""


def _loss(
    earlier: _Rows, later: _Rows, columns: Sequence[ForecastColumn], base: int, chain: tuple[int, ...]
) -> _Judged:
    told = grouped(*earlier, columns, base, chain).quantiles(later[0])
    return pinball(later[1], told), base, chain


def _chosen(earlier: _Rows, later: _Rows, columns: Sequence[ForecastColumn], base: int) -> _Judged:
    """Take in one column after the other, always that which saves most on the later rows."""
    best = _loss(earlier, later, columns, base, ())
    while left := [at for at in range(len(columns)) if at not in best[2]]:
        further = min(_loss(earlier, later, columns, base, (*best[2], at)) for at in left)
        if further[0] > best[0] * (1.0 - WORTH) or best[0] == 0.0:
            break
        best = further
    return best


def _widening(truth: Numbers, told: Numbers) -> float:
    """Say what it takes for the interval to hold the share that it claims."""
    outside = np.sort(np.maximum(told[:, 0] - truth, truth - told[:, 2]))
    place = int(np.ceil(COVERED * (len(outside) + 1))) - 1
    return float(outside[min(place, len(outside) - 1)])


def _weight(cell: GroupCell | None) -> float:
    return 0.0 if cell is None else cell.count / (cell.count + PULL)


def _base_of(column: ForecastColumn, values: Numbers) -> Numbers:
    return np.asarray(np.log(np.maximum(values, column.unit)))


def _buckets(columns: Sequence[ForecastColumn], chain: Sequence[int], x: Numbers) -> Buckets:
    if not chain:
        return np.zeros((len(x), 0), np.int64)
    return np.stack([columns[at].buckets(x[:, at]) for at in chain], axis=1)


def _cells(buckets: Buckets, y: Numbers, base: Numbers) -> dict[tuple[int, ...], GroupCell]:
    """Take quantiles of all groups at once: rows are sorted by group and value, and quantiles lie at places in it."""
    keys, which = (
        np.unique(buckets, axis=0, return_inverse=True)
        if buckets.shape[1]
        else (np.zeros((1, 0), np.int64), np.zeros(len(y), np.int64))
    )
    which = which.ravel()
    counts = np.bincount(which, minlength=len(keys))
    own, own_loss = _group_quantiles(which, counts, y)
    ratio, ratio_loss = _group_quantiles(which, counts, y - base)
    of_ratio = ratio_loss < own_loss
    told = np.where(of_ratio[:, None], ratio, own)
    return {
        tuple(key): GroupCell(count, of, (least, middle, most))
        for key, count, of, (least, middle, most) in zip(
            keys.tolist(), counts.tolist(), of_ratio.tolist(), told.tolist(), strict=True
        )
    }


def _group_quantiles(which: Buckets, counts: Buckets, values: Numbers) -> tuple[Numbers, Numbers]:
    """[groups, 3] quantiles, and [groups] the pinball loss of each within its group."""
    order = np.lexsort((values, which))
    values, which = values[order], which[order]
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    place = starts[:, None] + (counts[:, None] - 1) * np.array(QUANTILES)
    below = np.floor(place).astype(np.int64)
    above = np.minimum(below + 1, (starts + counts - 1)[:, None])
    found = values[below] + (place - below) * (values[above] - values[below])
    off = values[:, None] - found[which]
    levels = np.array(QUANTILES)
    loss = np.maximum(levels * off, (levels - 1.0) * off).sum(axis=1)
    return np.asarray(found), np.add.reduceat(loss, starts)
