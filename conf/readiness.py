"""How a supervised process says that it is ready: it makes the file that its supervisor named in the environment."""

import os
from collections.abc import Mapping
from pathlib import Path

READY_FILE = "THALWEG_READY_FILE"


def announce_ready(environ: Mapping[str, str] = os.environ) -> None:
    """Say that this process does its work now; nothing happens where nobody asked to be told."""
    if file := environ.get(READY_FILE):
        Path(file).touch()
