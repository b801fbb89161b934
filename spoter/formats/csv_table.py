"""A CSV body as a table: its columns, checked, and its numbers, read with pandas.

pandas forgives what a request should not be forgiven: it fills short rows with NaN, cuts long ones, renames columns
that come twice and takes True for 1. So the shape is checked first, and the types after.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from spoter.error_codes import ErrorCode
from spoter.errors import InputError
from spoter.formats.body_guards import check_utf8
from spoter.formats.request import short
from spoter.landmarks.estimators import NECK
from spoter.landmarks.layouts import Layout

# Three estimators' worth of x and y; a header of commas alone must not cost minutes.
_MAX_COLUMNS = 4096
# Some editors double every line break; a body of nothing else must not cost seconds.
_MAX_BLANK_LINES = 100_000
# A cell that holds one of these is missing: what people leave, and what NumPy and pandas write.
_MISSING = ("", "nan", "NaN")
# What pandas takes for 1 and 0 where it is told to expect numbers.
_TRUTH = (b"True", b"TRUE", b"true", b"False", b"FALSE", b"false")
_FIRST_LINE = re.compile(rb"\s*([^\r\n]*)")


@dataclass(frozen=True)
class Table:
    """A CSV body.

    Attributes
    ----------
    body : bytes
        UTF-8, lines ending in a newline character.
    columns : tuple of str
        Names in the header, none of them twice.
    header_lines : int
        Lines before the first row.
    too_many : tuple of int and InputError
        Of how many rows no more are read, and what is then raised; none unless `at_most` has said so.
    """

    body: bytes
    columns: tuple[str, ...]
    header_lines: int
    too_many: tuple[int, InputError] | None = None

    def at_most(self, rows: int, error: InputError) -> Table:
        """Return a table whose `lines` raise `error` where it has more rows than `rows`, before the cells are read."""
        return replace(self, too_many=(rows, error))

    @cached_property
    def lines(self) -> np.ndarray:
        """Number of the line on which each row ends, counted from 1.

        Raises
        ------
        InputError
            ``ragged_csv`` for a row with more or fewer cells than the header; ``no_frames`` where there is no row; and
            that of `at_most`.
        """
        lines = np.fromiter(self._row_lines(), dtype=np.intp)
        if not len(lines):
            raise InputError(ErrorCode.NO_FRAMES, "found a header and no row, expected at least one")
        return lines

    def _row_lines(self) -> Iterator[int]:
        rows = blank = 0
        most = len(self.body) if self.too_many is None else self.too_many[0]
        for number, cells in self._quoted_rows() if b'"' in self.body else self._plain_rows():
            if cells == 0:
                blank += 1
                if blank > _MAX_BLANK_LINES:
                    raise InputError(
                        ErrorCode.INVALID_CSV, f"found more than {_MAX_BLANK_LINES} blank lines", f"line {number}"
                    )
            elif cells == len(self.columns):
                rows += 1
                if rows > most:
                    raise self.too_many[1]
                yield number
            else:  # at the first, whatever megabytes may follow
                hint = ", and quotes that match" if b'"' in self.body else ""
                raise InputError(
                    ErrorCode.RAGGED_CSV,
                    f"found {cells} cells, expected {len(self.columns)} as in the header{hint}",
                    f"line {number}",
                )

    def where(self, row: int, column: str | None = None) -> str:
        """Return the words for a place: "line 7, column pose_nose_x"."""
        return f"line {self.lines[row]}" + (f", column {column}" if column else "")

    def numbers(self, columns: Sequence[str]) -> np.ndarray:
        """Return columns as numbers, (rows, columns) float64; NaN for an empty cell.

        Raises
        ------
        InputError
            ``wrong_type`` for a cell that is no number.
        """
        if not any(word in self.body for word in _TRUTH):
            try:
                return self._read(columns, "float64")[list(columns)].to_numpy()
            except InputError:  # there is a word in one of the columns
                pass
        frame = self._read(columns, None)
        for column in columns:
            if frame[column].dtype.kind not in "fiu":  # a word in it, True and False alone, or huge integers
                frame[column] = self._convert(column)
        return frame[list(columns)].to_numpy(dtype=np.float64)

    def strings(self, columns: Sequence[str]) -> pd.DataFrame:
        """Return columns as they are written; "" for an empty cell."""
        return self._read(columns, "str", ())[list(columns)]

    def _convert(self, column: str) -> np.ndarray:
        cells = self._read([column], "str")[column]
        numbers = pd.to_numeric(cells, errors="coerce")
        wrong = np.flatnonzero(numbers.isna() & cells.notna())
        if len(wrong):
            found = short(cells.iloc[wrong[0]])
            raise InputError(
                ErrorCode.WRONG_TYPE, f"found {found}, expected a number or nothing", self.where(wrong[0], column)
            )
        return numbers.to_numpy(dtype=np.float64)

    def _read(self, columns: Sequence[str], dtype: str | None, missing: Sequence[str] = _MISSING) -> pd.DataFrame:
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
                low_memory=dtype is not None,  # in pieces, unless pandas is to tell the types itself
                keep_default_na=False,  # which takes NA, null, None and more for numbers that are missing
                na_values=list(missing),
            )
        except (ValueError, OverflowError) as error:  # pandas' ParserError is a ValueError
            raise InputError(ErrorCode.INVALID_CSV, f"the CSV cannot be read: {short(str(error), 80)}") from error
        if len(frame) != rows:
            raise InputError(
                ErrorCode.INVALID_CSV, f"found {len(frame)} rows on {rows} lines, expected quotes that match"
            )
        return frame

    def _quoted_rows(self) -> Iterator[tuple[int, int]]:
        """Yield the line on which each row ends and its number of cells, 0 for a blank one."""
        reader = _reader(self.body)
        try:
            for row in reader:
                if reader.line_num > self.header_lines:
                    yield reader.line_num, 0 if _is_blank(row) else len(row)
        except csv.Error as error:
            raise InputError(
                ErrorCode.INVALID_CSV, f"the CSV cannot be read: {error}", f"line {reader.line_num}"
            ) from error

    def _plain_rows(self) -> Iterator[tuple[int, int]]:
        """Do the same where there are no quotes, and so no commas or newlines within cells."""
        for number, line in enumerate(io.BytesIO(self.body), 1):
            if number > self.header_lines:
                cells = line.count(b",") + 1
                yield number, 0 if cells == 1 and not line.strip() else cells


def read_table(body: bytes) -> Table:
    """Read the header of a CSV body.

    Raises
    ------
    InputError
        ``invalid_csv`` for what is not UTF-8 text and for broken quotes; ``duplicate_columns``; ``unknown_form`` for
        too many columns or none.
    """
    try:
        check_utf8(body)
    except UnicodeDecodeError as error:
        raise InputError(
            ErrorCode.INVALID_CSV, "found what is not UTF-8, expected CSV in UTF-8", f"byte {error.start}"
        ) from error
    nul = body.find(b"\0")
    if nul >= 0:
        raise InputError(ErrorCode.INVALID_CSV, "found a NUL character, expected text", f"byte {nul}")
    body = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if _FIRST_LINE.match(body)[1].count(b",") >= _MAX_COLUMNS:
        raise InputError(ErrorCode.UNKNOWN_FORM, f"found more than {_MAX_COLUMNS} columns", "header")
    reader = _reader(body)
    try:
        header = next((row for row in reader if not _is_blank(row)), [])
    except csv.Error as error:
        raise InputError(
            ErrorCode.INVALID_CSV, f"the CSV cannot be read: {error}", f"line {reader.line_num}"
        ) from error
    columns = tuple(name.strip() for name in header)
    if not columns:
        raise InputError(ErrorCode.UNKNOWN_FORM, "found no header, expected the names of the columns in the first line")
    seen: set[str] = set()
    for name in columns:
        if name in seen:
            raise InputError(ErrorCode.DUPLICATE_COLUMNS, f"found the column {short(name)} more than once", "header")
        seen.add(name)
    return Table(body, columns, reader.line_num)


def axes(names: Sequence[str], x: str = "_x", y: str = "_y") -> list[str]:
    """Return the names of the columns of x and y of each landmark, in turn."""
    return [name + axis for name in names for axis in (x, y)]


def wanted(layout: Layout, found: set[str]) -> list[str]:
    """Return the landmarks to read of a table by name that has `found`.

    They are all of the layout's, but a neck that the table lacks, which the shoulders make up for.
    """
    names = list(layout.names)
    if NECK in names and NECK not in found:
        names.remove(NECK)
        names += [name for name in ("pose_left_shoulder", "pose_right_shoulder") if name not in names]
    return names


def check_present(found: Sequence[str], needed: Sequence[str]) -> None:
    """Raise ``missing_columns`` where one of the columns `needed` was not found."""
    there = set(found)
    missing = [name for name in needed if name not in there]
    if missing:
        listed = f"{', '.join(missing[:6])}{', …' if len(missing) > 6 else ''}"
        raise InputError(
            ErrorCode.MISSING_COLUMNS, f"the CSV lacks {len(missing)} of {len(needed)} columns: {listed}", "header"
        )


def _reader(body: bytes):
    """Return a reader of the rows of UTF-8 text, which decodes a piece at a time."""
    return csv.reader(io.TextIOWrapper(io.BytesIO(body), "utf-8", newline=""), skipinitialspace=True)


def _is_blank(row: list[str]) -> bool:
    return not row or (len(row) == 1 and not row[0].strip())
