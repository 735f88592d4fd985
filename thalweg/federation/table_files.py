"""Files of rows, read and written piece by piece: Parquet, CSV (also `.csv.gz`) and numpy's `.npz`.

Of an `.npz` arrays are columns, and each column of an array of two axes is a field of its own, `x.0`, `x.1`, …. What is
in memory is a piece of some thousand rows: of Parquet a row group, of CSV a block, and an `.npz`, which is an archive,
is unpacked on the disk first.
"""

import re
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from thalweg.edge.declaration import Figure
from thalweg.edge.preparation import Row
from thalweg.federation.numpy_file import NumpyFileError, map_all_arrays

PIECE_ROWS: Final = 8_192
"""Read and written at once: of some kilobyte each as Python has them, 8 MB."""
GROUP_ROWS: Final = 131_072
"""Of a row group of Parquet that is written: what is said once for each group weighs nothing beside so many."""
LONGEST_LINE: Final = 2**20
"""Bytes of a line of a CSV file: it is read in blocks of this size, and a line lies in two of them at most."""
NO_VALUES: Final = "null"
"""Type of a column of which no row says anything: any figure of it is none."""


class PreparedFileError(ValueError):
    """A file cannot be prepared or written; the text names it."""


Write = Callable[[Sequence[Row]], None]
"""Writes rows behind those that were written before."""


class TableFile(Protocol):
    """A file's rows, and how such are written."""

    @property
    def fields(self) -> Mapping[str, np.dtype[Any] | None]:
        """Their type where they are numbers, by name."""

    @property
    def kinds(self) -> Mapping[str, str]:
        """What each field's type is called in such a file."""

    def rows(self) -> Iterator[Row]:
        """Read the rows, as Python's values, in the order of the file."""

    def writing(self, figures: Mapping[str, Figure], file: Path) -> AbstractContextManager[Write]:
        """Write a file of rows of these fields; it is whole when the context has ended."""


def table_file(file: Path, scratch: Path) -> TableFile:
    """Look at a file.

    Args:
        file: whose name's end tells what it is.
        scratch: a folder of the caller's, who deletes it when the rows have been read and written.

    Raises:
        PreparedFileError: it is none of these formats, or cannot be read.
    """
    return format_of(file)(file, scratch)


def format_of(file: Path) -> Callable[[Path, Path], TableFile]:
    """Tell a file's format by the end of its name.

    Raises:
        PreparedFileError: it is none of these.
    """
    for end, read in _FORMATS.items():
        if file.name.endswith(end):
            return read
    raise PreparedFileError(f"{file}: allowed are files that end in {', '.join(_FORMATS)}")


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
    scratch: Path

    @property
    def kinds(self) -> Mapping[str, str]:
        return {one: str(array.dtype) for name, array in self.arrays.items() for one in _names(name, array)}

    @classmethod
    def read(cls, file: Path, scratch: Path) -> "_ArraysFile":
        try:
            arrays = map_all_arrays(file, scratch)
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
        return cls(arrays, fields, scratch)

    def rows(self) -> Iterator[Row]:
        names = list(self.fields)
        many = len(next(iter(self.arrays.values())))
        for begin in range(0, many, PIECE_ROWS):
            columns: list[list[Any]] = []
            for array in self.arrays.values():
                piece = array[begin : begin + PIECE_ROWS]
                columns += piece.T.tolist() if piece.ndim == 2 else [piece.tolist()]
            for values in zip(*columns, strict=True):
                yield dict(zip(names, values, strict=True))

    @contextmanager
    def writing(self, figures: Mapping[str, Figure], file: Path) -> Iterator[Write]:
        """Write each array to a file of its own, and put them into one archive when it is known how long they are."""
        kinds = {name: self._kind(name, figures) for name in self.arrays}
        parts = {name: self.scratch / f"written-{number}" for number, name in enumerate(kinds)}
        many = 0
        for part in parts.values():
            part.touch()

        def write(rows: Sequence[Row]) -> None:
            nonlocal many
            many += len(rows)
            for name, kind in kinds.items():
                fields = _names(name, self.arrays[name])
                values = [row[fields[0]] for row in rows] if self.arrays[name].ndim == 1 else [
                    [row[field] for field in fields] for row in rows
                ]  # fmt: skip
                with parts[name].open("ab") as target:
                    target.write(np.array(values, kind).tobytes())

        yield write
        with zipfile.ZipFile(file, "w") as archive:
            for name, kind in kinds.items():
                shape = (many, *self.arrays[name].shape[1:])
                header = {"descr": npy.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
                with archive.open(f"{name}.npy", "w", force_zip64=True) as target:
                    npy.write_array_header_1_0(target, header)
                    with parts[name].open("rb") as source:
                        shutil.copyfileobj(source, target)

    def _kind(self, name: str, figures: Mapping[str, Figure]) -> np.dtype[Any]:
        array = self.arrays[name]
        types = [_type_of(figures[one], array.dtype) if one in figures else array.dtype for one in _names(name, array)]
        return np.result_type(*types) if types else array.dtype


def _names(array_name: str, array: NDArray[Any]) -> list[str]:
    return [array_name] if array.ndim == 1 else [f"{array_name}.{number}" for number in range(array.shape[1])]


# Arrow


Save = Callable[[Path, Any], AbstractContextManager[Callable[[Any], None]]]
"""Writes tables of a schema to a file, one behind the other."""


@dataclass(frozen=True, slots=True)
class _ArrowFile:
    file: Path
    schema: Any
    batches: Callable[[], Iterator[Any]]
    save: Save
    fields: Mapping[str, np.dtype[Any] | None] = field(init=False)

    def __post_init__(self) -> None:
        import pyarrow as pa

        _check_names(self.file, self.schema)
        numbers = pa.types.is_integer, pa.types.is_floating
        fields = {
            one.name: np.dtype(one.type.to_pandas_dtype()) if any(is_one(one.type) for is_one in numbers) else None
            for one in self.schema
        }
        object.__setattr__(self, "fields", fields)

    @property
    def kinds(self) -> Mapping[str, str]:
        return {one.name: str(one.type) for one in self.schema}

    def rows(self) -> Iterator[Row]:
        batches = _read_on(self.file, self.batches)
        done = 0
        for batch in batches:
            for begin in range(0, batch.num_rows, PIECE_ROWS):
                piece = batch.slice(begin, PIECE_ROWS)
                self._check_text(piece, done + begin)
                with arrow_words(self.file):
                    rows = piece.to_pylist()
                yield from rows
            done += batch.num_rows

    def _check_text(self, piece: Any, before: int) -> None:
        import pyarrow as pa

        if not self.file.name.endswith((".csv", ".csv.gz")):
            return
        for one, column in zip(piece.schema, piece.columns, strict=True):
            if pa.types.is_binary(one.type):  # what is not UTF-8 is not text to Arrow
                _check_text(self.file, one.name, column.to_pylist(), before)

    @contextmanager
    def writing(self, figures: Mapping[str, Figure], file: Path) -> Iterator[Write]:
        import pyarrow as pa

        kinds = dict(zip(self.schema.names, self.schema.types, strict=True))
        for name, figure in figures.items():
            if (own := self.fields[name]) is not None:
                kinds[name] = pa.from_numpy_dtype(_type_of(figure, own))
        schema = pa.schema(list(kinds.items()))
        waits: list[Any] = []

        def put(tables: Sequence[Any]) -> None:
            with arrow_words(self.file, written=True):
                save(pa.concat_tables(tables))

        def write(rows: Sequence[Row]) -> None:
            with arrow_words(self.file):
                waits.append(pa.Table.from_pylist(list(rows), schema))
            if sum(table.num_rows for table in waits) >= GROUP_ROWS:
                put(waits)
                waits.clear()

        saving = self.save(file, schema)
        with arrow_words(self.file, written=True):
            save = saving.__enter__()
        try:
            yield write
            if waits:
                put(waits)
        finally:
            with arrow_words(self.file, written=True):
                saving.__exit__(None, None, None)


def _check_names(file: Path, schema: Any) -> None:
    if len(set(schema.names)) != len(schema):
        raise PreparedFileError(f"{file}: two columns of one name; allowed is one of each")


def _read_on(file: Path, batches: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    """Read batch after batch, with words for what is wrong with any of them, and for nothing that readers raise."""
    with arrow_words(file):
        left = batches()
    while True:
        with arrow_words(file):
            batch = next(left, None)
        if batch is None:
            return
        yield batch


@contextmanager
def arrow_words(file: Path, *, written: bool = False) -> Iterator[None]:
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


def _need_arrow(file: Path) -> None:
    try:
        import pyarrow  # noqa: F401
    except ModuleNotFoundError as error:
        raise PreparedFileError(f"{file}: {error}; Parquet and CSV need pip install 'thalweg[plane]'") from error


def _read_parquet(file: Path, scratch: Path) -> TableFile:
    _need_arrow(file)
    from pyarrow import parquet

    @contextmanager
    def save(target: Path, schema: Any) -> Iterator[Callable[[Any], None]]:
        with parquet.ParquetWriter(target, schema) as writer:
            yield lambda table: writer.write_table(table, row_group_size=GROUP_ROWS)

    with arrow_words(file):
        found = parquet.ParquetFile(file)
        return _ArrowFile(file, found.schema_arrow, lambda: found.iter_batches(PIECE_ROWS), save)


def _read_csv(file: Path, scratch: Path) -> TableFile:
    _need_arrow(file)
    import pyarrow as pa
    from pyarrow import csv

    @contextmanager
    def save(target: Path, schema: Any) -> Iterator[Callable[[Any], None]]:
        with pa.output_stream(str(target), compression="gzip" if target.name.endswith(".gz") else None) as stream:
            csv.write_csv(schema.empty_table(), stream)
            yield lambda table: csv.write_csv(table, stream, csv.WriteOptions(include_header=False))

    with arrow_words(file):
        schema = _csv_types(file)
        return _ArrowFile(file, schema, lambda: iter(_csv_blocks(file, schema)), save)


def _csv_blocks(file: Path, schema: Any = None) -> Any:
    """Open a CSV file for its blocks; without a schema types are those of the first block."""
    import pyarrow as pa
    from pyarrow import csv

    types = None if schema is None else dict(zip(schema.names, schema.types, strict=True))
    try:
        return csv.open_csv(
            file,
            read_options=csv.ReadOptions(block_size=LONGEST_LINE),
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=csv.ConvertOptions(column_types=types),
        )
    except pa.ArrowInvalid as error:
        raise _said_of_lines(file, error) from error


def _said_of_lines(file: Path, error: Exception) -> Exception:
    if "straddl" not in str(error):
        return error
    return PreparedFileError(
        f"{file}: it has a line of more than {LONGEST_LINE:,} bytes; allowed are lines up to that in CSV, and values "
        "of any length in Parquet"
    )


_AT_COLUMN: Final = re.compile(r"In CSV column #(\d+)")


def _csv_types(file: Path) -> Any:
    """Find the types that hold all of a CSV file: of each column the first of Arrow's that all values fit.

    Arrow says them when it has the whole file in memory. Here the types of the first block are tried on all blocks, and
    a column that a value does not fit goes on to the next one.
    """
    import pyarrow as pa

    order = [
        pa.null(), pa.int64(), pa.bool_(), pa.date32(), pa.time32("s"), pa.timestamp("s"), pa.timestamp("s", "UTC"),
        pa.timestamp("ns"), pa.timestamp("ns", "UTC"), pa.float64(), pa.string(), pa.binary(),
    ]  # fmt: skip
    schema = _csv_blocks(file).schema
    _check_names(file, schema)
    while True:
        try:
            for _ in _csv_blocks(file, schema):
                pass
            return schema
        except pa.ArrowInvalid as error:
            at = _AT_COLUMN.match(str(error))
            if at is None:
                raise _said_of_lines(file, error) from error
            place = int(at.group(1))
            one = schema.field(place)
            schema = schema.set(place, pa.field(one.name, order[order.index(one.type) + 1]))


def _check_text(file: Path, column: str, values: Sequence[bytes | None], before: int) -> None:
    for number, value in enumerate(values, before + 1):
        try:
            (value or b"").decode()
        except UnicodeDecodeError as error:
            seen = bytes(error.object[max(0, error.start - 20) : error.start + 20])
            raise PreparedFileError(
                f"{file}: row {number}: {column} is not UTF-8 ({seen!r}); allowed is text in UTF-8, as made by "
                f"iconv -f latin1 -t utf-8"
            ) from error


_FORMATS: Final[Mapping[str, Callable[[Path, Path], TableFile]]] = {
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".csv.gz": _read_csv,
    ".npz": _ArraysFile.read,
}
