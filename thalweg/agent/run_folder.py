"""The folder of a run: the files by which a task tells what it gave, and how they are read.

A task may put anything there: links, pipes, files without end. Nothing is followed, nothing blocks, nothing is read
beyond its limit, and what cannot be taken is said in words and spoils nothing else.
"""

import itertools
import math
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from thalweg.agent.regular_files import NoRegularFileError, open_regular
from thalweg.agent.runners import RunOutputs
from thalweg.streams.contract import names
from thalweg.streams.contract.decode import UndecodableError, check_depth, decoded
from thalweg.streams.contract.messages import Identifier

MAX_FILE_BYTES: Final = 16_384
"""Of a result, and of the metrics: they travel in a message and stand in a table."""
MAX_METRICS: Final = 256
MAX_ARTEFACTS: Final = 100
"""Told in a report, with addresses of `MAX_FILE_BYTES` characters in all; all are kept."""
MAX_KEPT: Final = 10_000
"""Files of one run: a folder without end must not hold up the agent."""
MAX_NAME: Final = 256
MAX_URI: Final = 2_048
_LOG: Final = re.compile(r"output(-[0-9]+)?\.log")
_LATEST_MS: Final = 253_402_300_799_999
_FILES: Final = {
    "THALWEG_RESULT": "result.json",
    "THALWEG_METRICS": "metrics.json",
    "THALWEG_CHECKPOINTED": "checkpointed",
    "THALWEG_ARTEFACTS": "artefacts",
}
_T = TypeVar("_T")
_RESULT: Final = msgspec.json.Decoder(dict[str, Any])
_METRICS: Final = msgspec.json.Decoder(dict[Identifier, float])


class RunFileError(Exception):
    """A file that a task has left cannot be taken; the message says why."""


def log_name(rank: int) -> str:
    """Name the log of a worker."""
    return f"output-{rank}.log" if rank else "output.log"


def is_log(path: Path) -> bool:
    """Tell whether it is the log of a worker."""
    return _LOG.fullmatch(path.name) is not None and stat.S_ISREG(path.lstat().st_mode)


def variables(folder: Path) -> dict[str, str]:
    """Name the environment variables that lead a task to its files."""
    return {variable: str(folder / name) for variable, name in _FILES.items()}


@dataclass(frozen=True, slots=True)
class RunFolder:
    """One run's folder."""

    path: Path

    def outputs(self, uri: Callable[[str], str], *, final: bool) -> RunOutputs:
        """Read what the task has given.

        Args:
            uri: of a file of the folder, by its name within it.
            final: whether the run is over: its result and its artefacts are read then.
        """
        troubles: list[str] = []
        metrics = _taken("metrics", self._metrics, troubles) or {}
        result = _taken("result", self._result, troubles) if final else None
        artefacts = _taken("artefacts", lambda: self._artefacts(uri, troubles), troubles) if final else None
        return RunOutputs(
            log=uri(log_name(0)),
            metrics=metrics,
            result=result,
            artefacts=artefacts or {},
            checkpointed_ms=self._checkpointed(),
            trouble="; ".join(troubles),
        )

    def log_names(self) -> Iterator[str]:
        """Name the logs of the workers."""
        yield from itertools.islice(
            (path.name for path in sorted(self.path.glob("output*.log")) if is_log(path)), MAX_KEPT
        )

    def artefact_names(self) -> Iterator[str]:
        """Name the regular files below the folder of artefacts, in order, up to `MAX_KEPT`; links are left out."""
        yield from itertools.islice(self._artefact_names(), MAX_KEPT)

    def _artefact_names(self) -> Iterator[str]:
        top = self.path / _FILES["THALWEG_ARTEFACTS"]
        if top.is_symlink():
            return
        for folder, folders, files in os.walk(top):
            folders.sort()
            for file in sorted(files):
                path = Path(folder, file)
                # A name that is no text could be neither told nor asked for.
                if str(path).isprintable() and stat.S_ISREG(path.lstat().st_mode):
                    yield path.relative_to(self.path).as_posix()

    def _result(self) -> dict[str, Any] | None:
        return self._json(_FILES["THALWEG_RESULT"], _RESULT)

    def _metrics(self) -> Mapping[str, float] | None:
        metrics = self._json(_FILES["THALWEG_METRICS"], _METRICS)
        if metrics is not None and len(metrics) > MAX_METRICS:
            raise RunFileError(f"{len(metrics)} figures; allowed are {MAX_METRICS}")
        if (wrong := next(filter(None, (names.objection("figure", name) for name in metrics or ())), None)) is not None:
            raise RunFileError(wrong)
        return metrics

    def _json(self, name: str, decoder: "msgspec.json.Decoder[_T]") -> _T | None:
        file = open_regular(self.path / name)
        if file is None:
            return None
        with file:
            text = file.read(MAX_FILE_BYTES + 1)
        if len(text) > MAX_FILE_BYTES:
            raise RunFileError(f"it is longer than {MAX_FILE_BYTES:,} bytes")
        check_depth(b"[[" + text)  # it will lie within a message, and a row
        return decoded(decoder, text)

    def _checkpointed(self) -> int | None:
        try:
            seen = (self.path / _FILES["THALWEG_CHECKPOINTED"]).lstat()
        except OSError:
            return None
        return min(max(0, math.floor(seen.st_mtime * 1_000)), _LATEST_MS)

    def _artefacts(self, uri: Callable[[str], str], troubles: list[str]) -> dict[str, str]:
        told: dict[str, str] = {}
        untold = length = 0
        for name in self.artefact_names():
            shown, address = name.partition("/")[2], uri(name)
            length += len(shown) + len(address)
            fits = len(told) < MAX_ARTEFACTS and length <= MAX_FILE_BYTES
            if fits and len(shown) <= MAX_NAME and len(address) <= MAX_URI:
                told[shown] = address
            else:
                untold += 1
        if untold:
            troubles.append(
                f"artefacts: {untold} more lie beside those named; named are {MAX_ARTEFACTS}, with names of up to "
                f"{MAX_NAME} characters, and {MAX_FILE_BYTES:,} characters in all"
            )
        return told


def _taken(what: str, read: Callable[[], _T | None], troubles: list[str]) -> _T | None:
    """Read something; what goes wrong is said beside it."""
    try:
        return read()
    except (RunFileError, NoRegularFileError, UndecodableError, OSError) as error:
        troubles.append(f"{what} not taken: {error}"[:400])
        return None
