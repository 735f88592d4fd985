"""Numbers of options: finite, since a limit of NaN refuses nothing and one of infinity is met by nothing."""

import math
from typing import Any, Final

import click


class _Finite(click.types.FloatParamType):
    """Any finite number."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it; what is not finite is a wrong call."""
        return _finite(self, super().convert(value, param, ctx), param, ctx)


class FiniteRange(click.FloatRange):
    """A finite number within limits."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it; what is not finite, or outside the limits, is a wrong call."""
        return _finite(self, super().convert(value, param, ctx), param, ctx)


FINITE: Final = _Finite()


def _finite(kind: click.ParamType[Any], number: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
    if not math.isfinite(number):
        kind.fail(f"{number} is no finite number.", param, ctx)
    return float(number)
