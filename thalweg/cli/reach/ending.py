"""How a command ends that cannot do what it was asked: words for a person, and a document for who asked for one."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, NoReturn

import click

FAILED: Final = 1
WRONG_CALL: Final = 2


class EndedError(click.ClickException):
    """The command has ended, and said why."""

    exit_code = FAILED

    def show(self, file: Any = None) -> None:
        """Print the words as they are."""
        click.echo(self.message, err=True, file=file)


class EndedAsWrongCallError(EndedError):
    """The call or its input is wrong."""

    exit_code = WRONG_CALL


def end(message: str, code: int) -> NoReturn:
    """End the command with a message, and FAILED or WRONG_CALL."""
    raise (EndedAsWrongCallError if code == WRONG_CALL else EndedError)(message)


def wants_json(arguments: Sequence[str]) -> bool:
    """Tell whether a command line asks for a JSON document: by --json, or by --format json."""
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in own or "--format=json" in own or ("--format", "json") in pairwise(own)


def print_error(error: click.ClickException) -> None:
    """Print what ended a command as the one document that it was to print: {"error": its words, "exit_code": 2}."""
    click.echo(json.dumps({"error": error.format_message(), "exit_code": error.exit_code}))
