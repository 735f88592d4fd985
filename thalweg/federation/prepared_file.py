"""A file of training data, prepared as it is declared, and written in its own format.

It is read, put in the order of time and written piece by piece, so it may be larger than memory; what is sorted lies on
the disk meanwhile, beside what is written. Beside that lies what it was made by and came to, `NAME.prepared.json`.
"""

import json
import os
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from thalweg.edge.declaration import Declaration, DeclarationError
from thalweg.edge.preparation import Row, is_kept
from thalweg.edge.prepared_rows import RowError, checked_for_rows, moment_ms, named_figures, prepared
from thalweg.federation.rows_in_order import RUN_ROWS, TimedRow, rows_in_order
from thalweg.federation.table_files import NO_VALUES, PIECE_ROWS, PreparedFileError, format_of, table_file

SIDECAR: Final = ".prepared.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedFile:
    """What a preparation came to."""

    record: str | None
    """Key of the record that declares it; None where a file does."""
    revision: int
    rows_in: int
    rows_out: int
    bytes_in: int
    """Of the files, as they lie."""
    bytes_out: int
    figures: Mapping[str, str]
    """How each is told: exactly, or how far off at most."""


def prepare_file(
    source: Path, target: Path, declaration: Declaration, *, record: str | None = None, run_rows: int = RUN_ROWS
) -> PreparedFile:
    """Prepare a file.

    Args:
        source: what lies in the region.
        target: what is written, whole or not at all; of the same format.
        declaration: how.
        record: key of the record that declares it.
        run_rows: rows that are sorted in memory, where a time is declared.

    Raises:
        PreparedFileError: one of the files is none of these formats, cannot be read or cannot be written.
        DeclarationError: the declaration does not fit the file.
        RowError: a row cannot be prepared.
    """
    if format_of(source) is not format_of(target) or source.resolve() == target.resolve():
        raise PreparedFileError(f"{target}: allowed is another file of the format of {source}")
    try:
        with tempfile.TemporaryDirectory(prefix=".prepared-", dir=target.parent) as scratch:
            rows_in, rows_out = _carried_out(source, target, declaration, Path(scratch), run_rows)
    except OSError as error:
        raise PreparedFileError(f"{target}: it cannot be written: {error.strerror or error}") from error
    found = PreparedFile(
        record=record,
        revision=declaration.revision,
        rows_in=rows_in,
        rows_out=rows_out,
        bytes_in=source.stat().st_size,
        bytes_out=target.stat().st_size,
        figures=named_figures(declaration),
    )
    told = json.dumps(asdict(found) | {"declaration": msgspec.to_builtins(declaration)}, indent=1)
    _written(target.with_name(target.name + SIDECAR), lambda draft: draft.write_text(told + "\n", encoding="utf-8"))
    return found


def _carried_out(source: Path, target: Path, declaration: Declaration, scratch: Path, run_rows: int) -> tuple[int, int]:
    """Read, prepare and write; return how many rows went in and out."""
    table = table_file(source, scratch)
    checked_for_rows(declaration, table.fields)
    bounded = {demand.field: "min or max" for demand in declaration.keep if demand.one_of is None}
    for name, what in (bounded | dict.fromkeys(declaration.figures, "a figure")).items():
        if table.fields.get(name) is None and table.kinds.get(name, NO_VALUES) != NO_VALUES:
            raise DeclarationError(
                f"{what} of {name}: in {source} its type is {table.kinds[name]}; allowed are whole numbers "
                "(int8 to int64, uint8 to uint64) and floating ones (float16 to float64, float, double)"
            )
    rows_in = rows_out = 0

    def counted() -> Iterator[tuple[int, Row]]:
        nonlocal rows_in
        for row in table.rows():
            rows_in += 1
            yield rows_in, row

    rows: Iterable[tuple[int, Row]] = counted()
    if declaration.time is not None:
        timed = _with_times(rows, declaration)
        rows = ((number, row) for _, number, row in rows_in_order(timed, scratch, run_rows))
    left = prepared(declaration, rows)
    draft = scratch / target.name
    with table.writing(declaration.figures, draft) as write:
        while piece := list(islice(left, PIECE_ROWS)):
            write(piece)
            rows_out += len(piece)
    os.replace(draft, target)
    return rows_in, rows_out


def _with_times(rows: Iterable[tuple[int, Row]], declaration: Declaration) -> Iterator[TimedRow]:
    """Yield the rows that are kept, each with its time."""
    moment = declaration.time
    assert moment is not None
    for number, row in rows:
        if not is_kept(row, declaration):
            continue
        try:
            yield moment_ms(row.get(moment.field), moment, number), number, row
        except RowError:
            yield 0, number, row  # what is wrong with the row is said when its turn comes


def _written(file: Path, write: Callable[[Path], object]) -> None:
    draft = file.with_name(f".{uuid.uuid4().hex}.{file.name}")
    try:
        write(draft)
        os.replace(draft, file)
    except OSError as error:
        words = str(error.strerror or error).replace(draft.name, file.name)  # the draft is nobody's business
        raise PreparedFileError(f"{file}: it cannot be written: {words}") from error
    finally:
        draft.unlink(missing_ok=True)
