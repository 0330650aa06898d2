"""Columns of Parquet files and of data sets of the Hugging Face hub, some rows at a time, by pyarrow and datasets.

Neither is imported before such a source is opened; both come with the extra `data`.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from seqlib.data.lines import missing_file
from seqlib.util.errors import DataError, UsageError, hint

HUB = "hf:"
_ROWS = 4096


def is_hub(file: str) -> bool:
    """Whether a source is a data set of the hub, ``hf:name[:config][:split]``."""
    return file.startswith(HUB)


def local_handle(file: str) -> str:
    """The handle of a data set with the absolute path in it where its name is a folder."""
    name, colon, rest = file.removeprefix(HUB).partition(":")
    return f"{HUB}{Path(name).absolute()}{colon}{rest}" if Path(name).is_dir() else file


def column_names(file: str) -> list[str]:
    """Names of the columns; those within a struct as ``outer.inner``. Raises DataError, and UsageError without the
    libraries.
    """
    with _opened(file) as source:
        return _names(source.schema)


def row_count(file: str) -> int:
    """How many rows there are. Raises as ``column_names``."""
    with _opened(file) as source:
        return source.rows


def data_bytes(file: str) -> int:
    """About how many bytes the uncompressed columns take, all of them. Raises as ``column_names``."""
    with _opened(file) as source:
        return source.nbytes


def read_columns(file: str, columns: list[str]) -> Iterator[tuple[Any, ...]]:
    """The values of the rows in these columns; some 4,096 rows are in memory. Raises DataError naming the nearest
    columns for one that is not there, and for damage.
    """
    with _opened(file) as source:
        there = _names(source.schema)
        for column in columns:
            if column not in there:
                also = f"(columns: {', '.join(there)}){hint(column, there)}"
                raise DataError(f"{file}: there is no column {column!r} {also}")
        paths = [(column, "") if column in source.schema.names else column.split(".", 1) for column in columns]
        for batch in source.batches(list(dict.fromkeys(name for name, _ in paths))):
            values = [_values(batch.column(name), inner) for name, inner in paths]
            yield from zip(*values, strict=True)


@dataclass(frozen=True)
class _Source:
    """An opened table: its Arrow schema, rows, bytes, and batches of some rows in columns of these names."""

    schema: Any
    rows: int
    nbytes: int
    batches: Callable[[list[str]], Iterator[Any]]


@contextmanager
def _opened(file: str) -> Iterator[_Source]:
    """A table, opened; what pyarrow says of damage becomes a DataError."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UsageError(f"{file}: reading it needs pyarrow, which comes with the extra `data`") from None
    try:
        if is_hub(file):
            data = _hub(file)
            yield _Source(
                data.data.schema,
                data.num_rows,
                data.data.nbytes,
                lambda names: data.select_columns(names).with_format("arrow").iter(batch_size=_ROWS),
            )
            return
        if not Path(file).exists():
            raise missing_file(file)
        with pyarrow.parquet.ParquetFile(file) as table:
            groups = range(table.metadata.num_row_groups)
            nbytes = sum(table.metadata.row_group(n).total_byte_size for n in groups)
            yield _Source(
                table.schema_arrow,
                table.metadata.num_rows,
                nbytes,
                lambda names: table.iter_batches(batch_size=_ROWS, columns=names),
            )
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise DataError(
            f"{file}: not a Parquet table, or damaged or cut short ({reason}); fetch or export it again"
        ) from None


@lru_cache(maxsize=8)
def _hub(handle: str) -> Any:
    """The data set of a handle, fetched into the hub's own cache and memory-mapped from there; no code of it is run.

    With one more part the name of a configuration is tried before that of a split; the split is train by default.
    """
    try:
        import datasets
    except ImportError:
        raise UsageError(f"{handle}: reading it needs the library datasets, the extra `data`") from None
    name, *parts = re.split(r":(?![^\[]*\])", handle.removeprefix(HUB))  # not within train[:80%]
    if not name or len(parts) > 2 or not all(parts):
        raise UsageError(f"{handle!r}: expected hf:name, hf:name:split, hf:name:config or hf:name:config:split")
    try:
        config, split = None, "train"
        if len(parts) == 2:
            config, split = parts
        elif parts:
            known = parts[0] in datasets.get_dataset_config_names(name)
            config, split = (parts[0], split) if known else (None, parts[0])
        found = datasets.load_dataset(name, config, split=split)
    except Exception as error:  # of many libraries: network, names, formats
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        raise DataError(
            f"{handle}: cannot be loaded: {type(error).__name__}: {reason}; check name, configuration and split, "
            "and the network (HF_HUB_OFFLINE=1 reads what was fetched before)"
        ) from error
    return found


def _names(schema: Any) -> list[str]:
    return [
        name
        for field in schema
        for name in (
            [f"{field.name}.{field.type.field(n).name}" for n in range(field.type.num_fields)]
            if str(field.type).startswith("struct<")
            else [field.name]
        )
    ]


def _values(column: Any, inner: str) -> list[Any]:
    values = column.to_pylist()
    return [None if value is None else value[inner] for value in values] if inner else values
