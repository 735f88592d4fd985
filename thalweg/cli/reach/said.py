"""Texts that somebody says on the command line: an empty one is none, as an unset variable of a shell leaves it."""

import click


class SaidText(click.types.StringParamType):
    """A text of at least one letter.

    As a filter an empty one would mean all or none, depending on the filter, and neither was meant.
    """

    name = "text"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Give the text; an empty one ends the call with exit code 2."""
        text = str(value)
        if not text.strip():
            self.fail("seen is an empty text (an unset variable?): say what is meant, or leave it out", param, ctx)
        return text


SAID = SaidText()
