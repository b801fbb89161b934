"""A CSV body as a table: checked columns, and cells that pandas reads.

pandas accepts wrong tables: it fills short rows with NaN, truncates long rows, renames repeated columns and reads True
as 1. Therefore this module checks the shape first and the types afterwards.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
import pandas as pd

from spoter.error_codes import ErrorCode
from spoter.errors import InputError
from spoter.formats.body_guards import check_utf8
from spoter.formats.request import quote
from spoter.landmarks.arrays import Float64Array, IndexArray
from spoter.landmarks.estimators import NECK
from spoter.landmarks.layouts import Layout

# Enough for x and y of three estimators; it keeps a header of nothing but commas from costing minutes.
_MAX_COLUMNS = 4096
# Some editors double every line break; the limit keeps a body of nothing but line breaks from costing seconds.
_MAX_BLANK_LINES = 100_000
# Cells that mean a missing value: left empty by people, or written by NumPy and pandas.
_MISSING = ("", "nan", "NaN")
# pandas reads these as 1 and 0 in a column of numbers.
_BOOLEANS = (b"True", b"TRUE", b"true", b"False", b"FALSE", b"false")
_FIRST_LINE = re.compile(rb"\s*([^\r\n]*)")


@dataclass(frozen=True)
class RowLimit:
    """The most rows that a table may have, and the error for more rows."""

    rows: int
    error: InputError


@dataclass(frozen=True)
class Table:
    """A CSV body."""

    body: bytes  # UTF-8; lines end with a newline character
    columns: tuple[str, ...]  # unique names from the header
    header_lines: int  # lines before the first row
    row_limit: RowLimit | None = None  # checked before the cells are read

    @cached_property
    def lines(self) -> IndexArray:
        """The number of the line on which each row ends, from 1.

        Raises ``ragged_csv`` for a row with more or fewer cells than the header, ``no_frames`` for a table without
        rows, and the error of `row_limit`.
        """
        lines = np.fromiter(self._row_lines(), dtype=np.intp)
        if not len(lines):
            raise InputError(ErrorCode.NO_FRAMES, "found a header and no rows, expected at least one row")
        return lines

    def _row_lines(self) -> Iterator[int]:
        limit = self.row_limit
        rows = blank = 0
        for number, cells in self._cell_counts():
            if cells == 0:
                blank += 1
                if blank > _MAX_BLANK_LINES:
                    raise InputError(
                        ErrorCode.INVALID_CSV, f"found more than {_MAX_BLANK_LINES} blank lines", f"line {number}"
                    )
            elif cells == len(self.columns):
                rows += 1
                if limit is not None and rows > limit.rows:
                    raise limit.error
                yield number
            else:  # raised on the first such row, before megabytes of others are read
                hint = ", and matching quotes" if b'"' in self.body else ""
                raise InputError(
                    ErrorCode.RAGGED_CSV,
                    f"found {cells} cells, expected {len(self.columns)} as in the header{hint}",
                    f"line {number}",
                )

    def _cell_counts(self) -> Iterator[tuple[int, int]]:
        """Yield for each row the line on which it ends and its number of cells; 0 cells for a blank line."""
        if b'"' in self.body:
            for number, row in _parse_rows(self.body):
                if number > self.header_lines:
                    yield number, 0 if _is_blank(row) else len(row)
            return
        # Without quotes no cell holds a comma or a newline.
        for number, line in islice(enumerate(io.BytesIO(self.body), 1), self.header_lines, None):
            cells = line.count(b",") + 1
            yield number, 0 if cells == 1 and line.isspace() else cells

    def place(self, row: int, column: str | None = None) -> str:
        """Return the place of a row or a cell, such as "line 7, column pose_nose_x"."""
        return f"line {self.lines[row]}" + (f", column {column}" if column else "")

    def read_numbers(self, columns: Sequence[str]) -> Float64Array:
        """Return columns as numbers (rows, columns), NaN for an empty cell; raises ``wrong_type`` for text."""
        if not any(word in self.body for word in _BOOLEANS):
            try:
                return self._read_cells(columns, "float64")[list(columns)].to_numpy()
            except InputError:  # a column contains text
                pass
        frame = self._read_cells(columns, None)
        for column in columns:
            if frame[column].dtype.kind not in "fiu":  # it holds text, only True and False, or huge integers
                frame[column] = self._convert_column(column)
        return frame[list(columns)].to_numpy(dtype=np.float64)

    def read_strings(self, columns: Sequence[str]) -> pd.DataFrame:
        """Return columns as strings; "" for an empty cell."""
        return self._read_cells(columns, "str", ())[list(columns)]

    def _convert_column(self, column: str) -> Float64Array:
        cells = self._read_cells([column], "str")[column]
        numbers = pd.to_numeric(cells, errors="coerce")
        wrong = np.flatnonzero(numbers.isna() & cells.notna())
        if len(wrong):
            raise InputError(
                ErrorCode.WRONG_TYPE,
                f"found {quote(cells.iloc[wrong[0]])}, expected a number or an empty cell",
                self.place(wrong[0], column),
            )
        return numbers.to_numpy(dtype=np.float64)

    def _read_cells(self, columns: Sequence[str], dtype: str | None, missing: Sequence[str] = _MISSING) -> pd.DataFrame:
        rows = len(self.lines)
        try:
            frame = pd.read_csv(
                io.BytesIO(self.body),
                header=None,
                names=list(self.columns),
                usecols=list(columns),
                skiprows=self.header_lines,
                index_col=False,
                dtype=dtype,
                skipinitialspace=True,
                low_memory=dtype is not None,  # read in pieces, unless pandas infers the types
                keep_default_na=False,  # the default reads NA, null, None and more as missing
                na_values=list(missing),
            )
        except (ValueError, OverflowError) as error:  # pandas' ParserError is a ValueError
            raise InputError(ErrorCode.INVALID_CSV, f"the CSV cannot be read: {quote(str(error), 80)}") from error
        if len(frame) != rows:
            raise InputError(
                ErrorCode.INVALID_CSV, f"found {len(frame)} rows on {rows} lines, expected matching quotes"
            )
        return frame


def read_table(body: bytes) -> Table:
    """Read the header of a CSV body.

    Raises ``invalid_csv`` for a body that is not UTF-8 text or has unmatched quotes, ``duplicate_columns``, and
    ``unknown_form`` for too many columns or none.
    """
    try:
        check_utf8(body)
    except UnicodeDecodeError as error:
        raise InputError(
            ErrorCode.INVALID_CSV, "found a byte that is not UTF-8, expected CSV in UTF-8", f"byte {error.start}"
        ) from error
    nul = body.find(b"\0")
    if nul >= 0:
        raise InputError(ErrorCode.INVALID_CSV, "found a NUL character, expected text", f"byte {nul}")
    body = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    first_line = _FIRST_LINE.match(body)
    if first_line and first_line[1].count(b",") >= _MAX_COLUMNS:
        raise InputError(ErrorCode.UNKNOWN_FORM, f"found more than {_MAX_COLUMNS} columns", "header")
    lines, header = next(((lines, row) for lines, row in _parse_rows(body) if not _is_blank(row)), (0, []))
    columns = tuple(name.strip() for name in header)
    if not columns:
        raise InputError(ErrorCode.UNKNOWN_FORM, "found no header, expected column names in the first line")
    for name, count in Counter(columns).items():
        if count > 1:
            raise InputError(ErrorCode.DUPLICATE_COLUMNS, f"found the column {quote(name)} more than once", "header")
    return Table(body, columns, lines)


def axis_columns(names: Sequence[str], x: str = "_x", y: str = "_y") -> list[str]:
    """Return the names of the x and y columns of the landmarks, alternating."""
    return [name + axis for name in names for axis in (x, y)]


def landmarks_to_read(layout: Layout, present: set[str]) -> list[str]:
    """Return the layout's landmarks; if the neck is not in the table's `present`, the shoulders replace it."""
    names = list(layout.names)
    if NECK in names and NECK not in present:
        names.remove(NECK)
        names += [name for name in ("pose_left_shoulder", "pose_right_shoulder") if name not in names]
    return names


def check_columns(columns: Sequence[str], required: Sequence[str]) -> None:
    """Raise ``missing_columns`` if a `required` column is missing."""
    present = set(columns)
    missing = [name for name in required if name not in present]
    if missing:
        names = f"{', '.join(missing[:6])}{', …' if len(missing) > 6 else ''}"
        raise InputError(
            ErrorCode.MISSING_COLUMNS, f"the CSV lacks {len(missing)} of {len(required)} columns: {names}", "header"
        )


def _parse_rows(body: bytes) -> Iterator[tuple[int, list[str]]]:
    """Yield for each row of UTF-8 text the line on which it ends, and its cells; decodes piece by piece."""
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(body), "utf-8", newline=""), skipinitialspace=True)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise InputError(
            ErrorCode.INVALID_CSV, f"the CSV cannot be read: {error}", f"line {reader.line_num}"
        ) from error


def _is_blank(row: list[str]) -> bool:
    return not row or (len(row) == 1 and not row[0].strip())
