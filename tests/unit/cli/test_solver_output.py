"""A document on standard output is a document, whatever a solver prints."""

import ctypes

import click
import pytest

from thalweg.cli.reach.solver_output import solvers_to_stderr


def test_what_native_code_prints_goes_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    with solvers_to_stderr():
        ctypes.CDLL(None).printf(b"HighsMipSolverData\n")
    click.echo("{}")
    assert capfd.readouterr() == ("{}\n", "HighsMipSolverData\n")
