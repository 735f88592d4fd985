"""A file of training data, prepared before it leaves its region as it is declared, and written in its own format.

Formats are told by the name's end: Parquet, CSV (also `.csv.gz`) and numpy's `.npz`, whose arrays are columns; of an
array of two axes each column is a field of its own, `x.0`, `x.1`, …. A file has to fit into memory. Beside what is
written lies what it was made by and what it came to, `NAME.prepared.json`.
"""

import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from thalweg.edge.declaration import Declaration, DeclarationError, Figure
from thalweg.edge.preparation import Row
from thalweg.edge.prepared_rows import RowError, checked_for_rows, moment_ms, named_figures, prepared
from thalweg.federation.numpy_file import NumpyFileError, read_all_arrays

SIDECAR: Final = ".prepared.json"
LONGEST_LINE: Final = 2**20
"""Bytes of a line of a CSV file: it is read in blocks of this size, and a line lies in two of them at most."""
_NO_VALUES: Final = "null"
"""Type of a column of which no row says anything: any figure of it is none."""


class PreparedFileError(ValueError):
    """A file cannot be prepared or written; the text names it."""


class Table(Protocol):
    """A file's rows, and how such are written."""

    @property
    def fields(self) -> Mapping[str, np.dtype[Any] | None]:
        """Their type where they are numbers, by name."""

    @property
    def kinds(self) -> Mapping[str, str]:
        """What each field's type is called in such a file."""

    def columns(self, names: Sequence[str]) -> list[list[Any]]:
        """Return columns as Python's values."""

    def write(self, rows: Sequence[Row], figures: Mapping[str, Figure], file: Path) -> None:
        """Write rows of these fields as such a file."""


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


def prepare_file(source: Path, target: Path, declaration: Declaration, *, record: str | None = None) -> PreparedFile:
    """Prepare a file.

    Args:
        source: what lies in the region.
        target: what is written, whole or not at all; of the same format.
        declaration: how.
        record: key of the record that declares it.

    Raises:
        PreparedFileError: one of the files is none of these formats, cannot be read or cannot be written.
        DeclarationError: the declaration does not fit the file.
        RowError: a row cannot be prepared.
    """
    read, other = _format(source), _format(target)
    if read is not other or source.resolve() == target.resolve():
        raise PreparedFileError(f"{target}: allowed is another file of the format of {source}")
    table = read(source)
    checked_for_rows(declaration, table.fields)
    for name in declaration.figures:
        if table.fields[name] is None and table.kinds[name] != _NO_VALUES:
            raise DeclarationError(
                f"a figure of {name}: in {source} its type is {table.kinds[name]}; allowed are whole numbers "
                "(int8 to int64, uint8 to uint64) and floating ones (float16 to float64, float, double)"
            )
    taken, rows = _rows(table, declaration)
    left = list(prepared(declaration, rows))
    _written(target, lambda draft: table.write(left, declaration.figures, draft))
    found = PreparedFile(
        record=record,
        revision=declaration.revision,
        rows_in=taken,
        rows_out=len(left),
        bytes_in=source.stat().st_size,
        bytes_out=target.stat().st_size,
        figures=named_figures(declaration),
    )
    told = json.dumps(asdict(found) | {"declaration": msgspec.to_builtins(declaration)}, indent=1)
    _written(target.with_name(target.name + SIDECAR), lambda draft: draft.write_text(told + "\n", encoding="utf-8"))
    return found


def _rows(table: Table, declaration: Declaration) -> tuple[int, Iterator[tuple[int, Row]]]:
    """Return how many rows there are, and all of them by their numbers from 1, ascending by time."""
    names = list(table.fields)
    columns = table.columns(names)
    count = len(columns[0]) if columns else 0
    order: Sequence[int] = range(count)
    if (moment := declaration.time) is not None:
        times = columns[names.index(moment.field)]

        def key(place: int) -> int:
            try:
                return moment_ms(times[place], moment, place + 1)
            except RowError:
                return 0  # a row that is not kept may have no time; of another one it is said when its turn comes

        order = sorted(order, key=key)
    return count, (
        (place + 1, {name: column[place] for name, column in zip(names, columns, strict=True)}) for place in order
    )


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


def _type_of(figure: Figure, own: np.dtype[Any]) -> np.dtype[Any]:
    """Choose how a figure is written: in the field's own type, unless that cannot hold it."""
    if figure == "count":
        return np.dtype(np.int64)
    if figure == "sum" or (figure not in ("last", "min", "max") and own.kind != "f"):
        return np.dtype(np.float64)
    return own


# numpy


@dataclass(frozen=True, slots=True)
class _ArraysFile:
    arrays: Mapping[str, NDArray[Any]]
    fields: Mapping[str, np.dtype[Any] | None]

    @property
    def kinds(self) -> Mapping[str, str]:
        return {one: str(array.dtype) for name, array in self.arrays.items() for one in _names(name, array)}

    @classmethod
    def read(cls, file: Path) -> "_ArraysFile":
        try:
            arrays = read_all_arrays(file)
        except NumpyFileError as error:
            raise PreparedFileError(str(error)) from error
        lengths = {len(array) for array in arrays.values() if array.ndim in (1, 2)}
        if len(lengths) != 1 or any(array.ndim not in (1, 2) for array in arrays.values()):
            shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "nothing"
            raise PreparedFileError(f"{file}: it has {shapes}; allowed are arrays of one or two axes, one row a sample")
        fields = {
            name: array.dtype if array.dtype.kind in "iuf" else None
            for array_name, array in arrays.items()
            for name in _names(array_name, array)
        }
        return cls(arrays, fields)

    def columns(self, names: Sequence[str]) -> list[list[Any]]:
        found: dict[str, list[Any]] = {}
        for array_name, array in self.arrays.items():
            columns = array.T.tolist() if array.ndim == 2 else [array.tolist()]
            found.update(zip(_names(array_name, array), columns, strict=True))
        return [found[name] for name in names]

    def write(self, rows: Sequence[Row], figures: Mapping[str, Figure], file: Path) -> None:
        made = {}
        for array_name, array in self.arrays.items():
            names = _names(array_name, array)
            types = [_type_of(figures[name], array.dtype) if name in figures else array.dtype for name in names]
            kind = np.result_type(*types) if types else array.dtype
            if array.ndim == 1:
                made[array_name] = np.array([row[names[0]] for row in rows], kind)
            else:
                made[array_name] = np.array([[row[name] for name in names] for row in rows], kind).reshape(
                    -1, len(names)
                )
        with file.open("wb") as target:
            np.savez(target, **made)  # type: ignore[arg-type]


def _names(array_name: str, array: NDArray[Any]) -> list[str]:
    return [array_name] if array.ndim == 1 else [f"{array_name}.{number}" for number in range(array.shape[1])]


# Arrow


@dataclass(frozen=True, slots=True)
class _ArrowFile:
    file: Path
    table: Any
    save: Callable[[Any, Path], None]
    fields: Mapping[str, np.dtype[Any] | None]

    @property
    def kinds(self) -> Mapping[str, str]:
        return {one.name: str(one.type) for one in self.table.schema}

    @classmethod
    def of(cls, file: Path, load: Callable[[Any], Any], save: Callable[[Any, Path], None]) -> "_ArrowFile":
        try:
            import pyarrow as pa
        except ModuleNotFoundError as error:
            raise PreparedFileError(f"{file}: {error}; Parquet and CSV need pip install 'thalweg[plane]'") from error
        numbers = pa.types.is_integer, pa.types.is_floating
        with _arrow_words(file):
            table = load(file)
            fields = {
                one.name: np.dtype(one.type.to_pandas_dtype()) if any(is_one(one.type) for is_one in numbers) else None
                for one in table.schema
            }
        if len(fields) != len(table.schema):
            raise PreparedFileError(f"{file}: two columns of one name; allowed is one of each")
        return cls(file, table, save, fields)

    def columns(self, names: Sequence[str]) -> list[list[Any]]:
        with _arrow_words(self.file):
            return [self.table.column(name).to_pylist() for name in names]

    def write(self, rows: Sequence[Row], figures: Mapping[str, Figure], file: Path) -> None:
        import pyarrow as pa

        kinds = dict(zip(self.table.schema.names, self.table.schema.types, strict=True))
        for name, figure in figures.items():
            if (own := self.fields[name]) is not None:
                kinds[name] = pa.from_numpy_dtype(_type_of(figure, own))
        with _arrow_words(self.file):
            arrays = [pa.array([row[name] for row in rows], kind) for name, kind in kinds.items()]
            table = pa.Table.from_arrays(arrays, names=list(kinds))
        with _arrow_words(self.file, written=True):
            self.save(table, file)


@contextmanager
def _arrow_words(file: Path, *, written: bool = False) -> Iterator[None]:
    """Turn what Arrow raises at a file's contents into words with its name; what the disk says stays when it writes."""
    import pyarrow as pa

    try:
        yield
    except UnicodeDecodeError as error:
        raise PreparedFileError(f"{file}: the names of its fields are not UTF-8 ({error.object!r})") from error
    except (OSError, pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        if isinstance(error, PreparedFileError) or (written and isinstance(error, OSError)):
            raise
        did = "its rows cannot be written in this format" if written else "it cannot be read"
        raise PreparedFileError(f"{file}: {did}: {error}") from error


def _read_parquet(file: Path) -> Table:
    def load(file: Path) -> Any:
        from pyarrow import parquet

        return parquet.read_table(file)

    def save(table: Any, file: Path) -> None:
        from pyarrow import parquet

        parquet.write_table(table, file)

    return _ArrowFile.of(file, load, save)


def _read_csv(file: Path) -> Table:
    def load(file: Path) -> Any:
        import pyarrow as pa
        from pyarrow import csv

        try:
            table = csv.read_csv(
                file,
                read_options=csv.ReadOptions(block_size=LONGEST_LINE),
                parse_options=csv.ParseOptions(newlines_in_values=True),
            )
        except pa.ArrowInvalid as error:
            if "straddl" not in str(error):
                raise
            raise PreparedFileError(
                f"{file}: it has a line of more than {LONGEST_LINE:,} bytes; allowed are lines up to that in CSV, and "
                "values of any length in Parquet"
            ) from error
        for one, column in zip(table.schema, table.columns, strict=True):
            if pa.types.is_binary(one.type):  # what is not UTF-8 is not text to Arrow
                _check_text(file, one.name, column.to_pylist())
        return table

    def save(table: Any, file: Path) -> None:
        import pyarrow as pa
        from pyarrow import csv

        with pa.output_stream(str(file), compression="gzip" if file.name.endswith(".gz") else None) as stream:
            csv.write_csv(table, stream)

    return _ArrowFile.of(file, load, save)


def _check_text(file: Path, column: str, values: Sequence[bytes | None]) -> None:
    for number, value in enumerate(values, 1):
        try:
            (value or b"").decode()
        except UnicodeDecodeError as error:
            seen = bytes(error.object[max(0, error.start - 20) : error.start + 20])
            raise PreparedFileError(
                f"{file}: row {number}: {column} is not UTF-8 ({seen!r}); allowed is text in UTF-8, as made by "
                f"iconv -f latin1 -t utf-8"
            ) from error


_FORMATS: Final[Mapping[str, Callable[[Path], Table]]] = {
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".csv.gz": _read_csv,
    ".npz": _ArraysFile.read,
}


def _format(file: Path) -> Callable[[Path], Table]:
    for end, read in _FORMATS.items():
        if file.name.endswith(end):
            return read
    raise PreparedFileError(f"{file}: allowed are files that end in {', '.join(_FORMATS)}")
