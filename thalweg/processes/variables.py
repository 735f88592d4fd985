"""Environment variables for a while: what this process, and whoever it starts meanwhile, is told."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def variables_set(more: Mapping[str, str]) -> Iterator[None]:
    """Set variables, and put back what was: the folder or server that they name goes away."""
    before = dict(os.environ)
    os.environ |= more
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before
