"""What a run left is copied to the store when it is over, before it is told: what is offered can be read."""

import io
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from thalweg.agent.artefacts import ArtefactError, Artefacts
from thalweg.agent.regular_files import NoRegularFileError, open_regular
from thalweg.agent.run_folder import RunFolder
from thalweg.agent.runners import RunOutputs

log = logging.getLogger("thalweg.agent")

_KEPT: Final = ".thalweg-kept"
"""Lies in the folder of a run whose files were copied."""


# The object store's library raises a value error for what it cannot name, and its own "not implemented".
_FAILURES: Final = (ArtefactError, NoRegularFileError, OSError, ValueError, NotImplementedError)


def not_kept(runs: Path) -> Iterator[RunFolder]:
    """Name the folders of runs that an earlier life of the agent had no time to copy."""
    if runs.is_dir():
        for path in sorted(runs.iterdir()):
            if path.is_dir() and not path.is_symlink() and not (path / _KEPT).exists():
                yield RunFolder(path)


def keep_all(folder: RunFolder, store: Artefacts, own: Artefacts) -> RunOutputs:
    """Copy logs and artefacts, and tell what a run has given.

    Args:
        folder: of a run that is over.
        store: where to.
        own: where the files are found all the same if they cannot be copied.
    """
    name = folder.path.name
    try:
        _copy(folder, [*folder.log_names(), *folder.artefact_names()], store)
    except _FAILURES as error:
        log.warning("what a run left is not in the store", extra={"fields": {"run": name, "error": str(error)}})
        outputs = folder.outputs(lambda file: own.uri(name, file), final=True)
        words = f"its log and artefacts are on the agent's disk only: {error}"
        return replace(outputs, trouble="; ".join(filter(None, (outputs.trouble, words))))
    return folder.outputs(lambda file: store.uri(name, file), final=True)


def keep_logs(folder: RunFolder, store: Artefacts) -> None:
    """Copy the logs of a run that was stopped, or ended with its agent."""
    try:
        _copy(folder, folder.log_names(), store)
    except _FAILURES as error:
        fields = {"run": folder.path.name, "error": str(error)}
        log.warning("a run's log is not in the store", extra={"fields": fields})


def _copy(folder: RunFolder, names: "Iterator[str] | list[str]", store: Artefacts) -> None:
    for name in names:
        file = open_regular(folder.path / name)
        with file or io.BytesIO() as source:
            store.put(source, folder.path.name, name)
    (folder.path / _KEPT).touch()
