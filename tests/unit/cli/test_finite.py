"""No option of the product takes a number that is not finite: a limit of NaN refuses nothing."""

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from thalweg.cli.main import cli


def floats(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Parameter]]:
    """Walk all commands for parameters that are floats."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from floats(found, (*path, name))
    for parameter in command.params:
        if isinstance(parameter.type, click.types.FloatParamType | click.FloatRange):
            yield f"{' '.join(path)} {parameter.name}", parameter


def test_no_float_of_any_command_takes_nan_or_infinity() -> None:
    found = dict(floats(cli))
    assert {"model shrink smaller", "model shrink points", "submit cpus", "rollout start share"} <= set(found)
    takes = []
    for name, parameter in found.items():
        for number in ("nan", "inf", "-inf"):
            try:
                parameter.type.convert(number, parameter, None)
            except click.BadParameter:
                continue
            takes.append((name, number))
    assert not takes


@pytest.mark.parametrize("option", ["--smaller=nan", "--smaller=inf", "--points=nan"])
def test_the_gate_of_shrink_cannot_be_turned_off(option: str) -> None:
    call = ["model", "shrink", __file__, f"--held-out={__file__}", "--out=o.onnx", option]
    result = CliRunner().invoke(cli, call)
    assert result.exit_code == 2 and "no finite number" in result.output, result.output
