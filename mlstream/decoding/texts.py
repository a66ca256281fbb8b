"""Texts → Arrow arrays of a type, exactly or not at all. Knows no format of records.

What is not `wanted` may be anything in the array; who asks puts nulls there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from mlstream.decoding import text_kernels as kernels
from mlstream.decoding.types import arrow_type, decimal_of, unit_of
from mlstream.decoding.values import Bytes, Mask

Longs = npt.NDArray[np.int64]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1)
_UNIT_NS = {"ms": 1_000_000, "us": 1_000, "ns": 1}
_DAY_NS = 86_400_000_000_000
_MOST_NS = 2**63 - 1
_TRUE = ("true", "t", "yes", "y", "1")
_FALSE = ("false", "f", "no", "n", "0")
_NUMBER = re.compile(rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?")
_INTEGER = r"^[+-]?[0-9]+$"
_MOST_EXACT = 2**53


@dataclass(frozen=True, slots=True)
class Texts:
    """A column of texts as bytes: text `row` is `data[ends[row]:ends[row + 1]]`."""

    data: Bytes
    ends: Longs

    def __len__(self) -> int:
        return len(self.ends) - 1

    def binary(self) -> pa.Array:
        """As Arrow bytes, not copied."""
        buffers = [None, pa.py_buffer(self.ends), pa.py_buffer(self.data)]
        return pa.Array.from_buffers(pa.large_binary(), len(self), buffers)

    def at(self, row: int) -> bytes:
        """One of them."""
        return bytes(self.data[self.ends[row] : self.ends[row + 1]])

    def strings(self, wanted: Mask) -> tuple[pa.Array, Mask]:
        """As Arrow text, and those that are not UTF-8; these are empty."""
        wrong = np.zeros(len(self), np.bool_)
        found = self.binary()
        try:
            return found.cast(pa.large_string()), wrong
        except pa.ArrowInvalid:
            for row in np.flatnonzero(wanted):
                try:
                    self.at(int(row)).decode()
                except UnicodeDecodeError:
                    wrong[row] = True
            kept = pc.if_else(pa.array(wanted & ~wrong), found, pa.scalar(b"", pa.large_binary()))
            return kept.cast(pa.large_string()), wrong


def read(
    texts: Texts, wanted: Mask, word: str, *, pattern: str | None = None, implied: int | None = None
) -> tuple[pa.Array, Mask]:
    """The values that texts stand for, and the wanted texts that stand for none of that type.

    Args:
        word: the type, in the words of `types`.
        pattern: of a date or time, in chrono's signs; ISO 8601 when None.
        implied: of a decimal or float: how many digits stand behind a point that is not written.
    """
    if word == "binary":
        return texts.binary(), np.zeros(len(texts), np.bool_)
    if word in ("string", "json"):
        return texts.strings(wanted)
    if word == "int":
        values, wrong = _scaled(texts, wanted, 0, 0)
        return pa.array(values), wrong
    if word == "float":
        return _floats(texts, wanted) if implied is None else _implied_floats(texts, wanted, implied)
    if word.startswith("decimal"):
        return _decimals(texts, wanted, *decimal_of(word), -1 if implied is None else implied)
    strings, wrong = texts.strings(wanted)
    wanted = wanted & ~wrong
    if word == "bool":
        values, bad = _bools(strings, wanted)
    elif pattern is not None:
        values, bad = _by_pattern(strings, wanted, word, pattern)
    elif word == "date":
        values, bad = _dates(strings, wanted)
    elif word == "time_of_day":
        values, bad = _times_of_day(strings, wanted)
    else:
        values, bad = _times(strings, wanted, word)
    return values, wrong | bad


def check_pattern(word: str, pattern: str) -> None:
    """Check that a pattern says something, by reading what it writes.

    Raises:
        ValueError: when it cannot be used, or leaves out a part of a date or time that it must have.
    """
    kept = pl.Series([datetime(2013, 10, 27, 16, 5, 59, 123000, UTC)])
    try:
        text = (kept.dt.time() if word == "time_of_day" else kept).dt.strftime(pattern)
        parsed, wrong = _by_pattern(text.to_arrow().cast(pa.large_string()), np.array([True]), word, pattern)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as exc:
        raise ValueError(f"the format {pattern!r} cannot be used: {str(exc).splitlines()[0]}") from exc
    # Parts that a pattern leaves out are filled in with something: what was written must come back.
    same = not wrong[0] and pl.Series("", parsed).dt.to_string("%H" if word == "time_of_day" else "%Y-%m-%d")
    if not isinstance(same, pl.Series) or same[0] != ("16" if word == "time_of_day" else "2013-10-27"):
        what = {"date": "a date", "time_of_day": "a time of day"}.get(word, "a date and time")
        raise ValueError(f"the format {pattern!r} does not say {what}")


def _scaled(texts: Texts, wanted: Mask, scale: int, implied: int) -> tuple[Longs, Mask]:
    """Integers of 10^-scale that fit int64."""
    values = np.zeros(len(texts), np.int64)
    states = np.zeros(len(texts), np.uint8)
    kernels.scaled(texts.data, texts.ends, wanted, scale, implied, values, states)
    for row in np.flatnonzero(states == kernels.LONG):
        exact = _exact(texts.at(int(row)), scale, implied)
        if exact is not None and -(2**63) <= exact < 2**63:
            values[row], states[row] = exact, kernels.FITS
    return values, states != kernels.FITS


def _exact(text: bytes, scale: int, implied: int) -> int | None:
    """A number as an integer of 10^-scale, by Python's exact numbers; None when it is none, or would be rounded."""
    if _NUMBER.fullmatch(text) is None or (implied >= 0 and not text.lstrip(b"+-").isdigit()):
        return None
    try:
        found = Decimal(text.decode())
    except InvalidOperation:
        return None
    sign, digits, exponent = found.as_tuple()
    if not isinstance(exponent, int) or len(digits) + abs(exponent) > 4 * 1100:
        return None
    power = exponent - max(implied, 0) + scale
    number = int("".join(map(str, digits)))
    exact, rest = (number * 10**power, 0) if power >= 0 else divmod(number, int(10**-power))
    if rest:
        return None
    return -exact if sign else exact


def _floats(texts: Texts, wanted: Mask) -> tuple[pa.Array, Mask]:
    states = np.zeros(len(texts), np.uint8)
    plus = kernels.check_numbers(texts.data, texts.ends, wanted, states)
    for row in np.flatnonzero(states == kernels.LONG):
        text = texts.at(int(row))
        try:
            states[row] = kernels.FITS if int(float(text)) == int(text) else kernels.WRONG
        except (OverflowError, ValueError):  # too large for a float, or for a text that Python makes a number of
            states[row] = kernels.WRONG
    good = wanted & (states == kernels.FITS)
    numbers = pc.if_else(pa.array(good), texts.binary(), pa.scalar(b"0", pa.large_binary())).cast(pa.large_string())
    if plus:
        numbers = pc.utf8_ltrim(numbers, "+")
    values = numbers.cast(pa.float64())
    return values, wanted & (~good | np.isinf(values.to_numpy(zero_copy_only=False)))


def _implied_floats(texts: Texts, wanted: Mask, implied: int) -> tuple[pa.Array, Mask]:
    # Both integers are exact as float64, so the quotient is the float nearest to the number.
    values, wrong = _scaled(texts, wanted, implied, implied)
    wrong |= wanted & (np.abs(values) > _MOST_EXACT) | (wanted & (values == np.iinfo(np.int64).min))
    return pa.array(values / 10.0**implied), wrong


def _decimals(texts: Texts, wanted: Mask, precision: int, scale: int, implied: int) -> tuple[pa.Array, Mask]:
    values = np.zeros(len(texts), np.int64)
    states = np.zeros(len(texts), np.uint8)
    kernels.scaled(texts.data, texts.ends, wanted, scale, implied, values, states)
    limit = 10**precision
    long: dict[int, int] = {}
    for row in np.flatnonzero(states == kernels.LONG):
        exact = _exact(texts.at(int(row)), scale, implied)
        if exact is None or abs(exact) >= limit:
            states[row] = kernels.WRONG
        else:
            long[int(row)], states[row] = exact, kernels.FITS
    wrong = states != kernels.FITS
    if limit < 2**63:
        wrong |= np.abs(values) >= limit
    return decimal_array(values, precision, scale, long), wrong


def decimal_array(values: Longs, precision: int, scale: int, long: dict[int, int] | None = None) -> pa.Array:
    """Integers of 10^-scale as decimals; `long` has those that do not fit int64, by their rows."""
    words = np.empty((len(values), 2), np.int64)
    words[:, 0] = values
    words[:, 1] = values >> 63
    for row, value in (long or {}).items():
        words[row] = np.frombuffer(value.to_bytes(16, "little", signed=True), np.int64)
    return pa.Array.from_buffers(pa.decimal128(precision, scale), len(values), [None, pa.py_buffer(words)])


def _bools(strings: pa.Array, wanted: Mask) -> tuple[pa.Array, Mask]:
    small = pc.utf8_lower(strings)
    true = pc.is_in(small, pa.array(_TRUE, pa.large_string()))
    false = pc.is_in(small, pa.array(_FALSE, pa.large_string()))
    return true, wanted & ~pc.or_(true, false).to_numpy(zero_copy_only=False)


def _by_pattern(strings: pa.Array, wanted: Mask, word: str, pattern: str) -> tuple[pa.Array, Mask]:
    found = pl.Series("", strings)
    if word == "date":
        parsed = found.str.to_date(pattern, strict=False)
    elif word == "time_of_day":
        parsed = found.str.to_time(pattern, strict=False)
    else:
        parsed = found.str.to_datetime(pattern, time_unit=unit_of(word), strict=False)  # type: ignore[arg-type]
        if unit_of(word) == "ns":  # polars lets nanoseconds overflow
            coarse = found.str.to_datetime(pattern, time_unit="us", strict=False).to_physical()
            parsed = parsed.set(coarse.abs() > _MOST_NS // 1000, None)
    values = parsed.to_arrow()
    if word == "time_of_day":  # a leap second may lead into the next day
        values = pc.if_else(pc.less(values.cast(pa.int64()), _DAY_NS), values, pa.scalar(None, values.type))
    if word.startswith("time") and word != "time_of_day" and values.type.tz is None:
        values = values.cast(pa.timestamp(values.type.unit)).cast(pa.int64())
    values = values.cast(arrow_type(word))
    return values, wanted & values.is_null().to_numpy(zero_copy_only=False)


def _times(strings: pa.Array, wanted: Mask, word: str) -> tuple[pa.Array, Mask]:
    """ISO 8601, UTC unless it says otherwise, or a whole number of the unit since 1970."""
    numeric = pc.match_substring_regex(strings, _INTEGER).to_numpy(zero_copy_only=False) & wanted
    values, wrong = _iso_times(strings, wanted & ~numeric, word)
    if numeric.any():
        chosen = strings.filter(pa.array(numeric))
        texts = Texts(
            np.frombuffer(b"".join(text.encode() for text in chosen.to_pylist()), np.uint8),
            np.cumsum([0, *pc.binary_length(chosen).to_pylist()]).astype(np.int64),
        )
        numbers, bad = _scaled(texts, np.ones(len(chosen), np.bool_), 0, 0)
        values[numeric] = numbers
        wrong[numeric] = bad
    return pa.array(values).cast(arrow_type(word)), wrong


def parse_times(strings: pa.Array, wanted: Mask, word: str) -> tuple[Longs, Mask]:
    """ISO 8601 texts, UTC unless they say otherwise → units since 1970 (finer parts are cut off), and the others."""
    return _iso_times(strings, wanted, word)


def _iso_times(strings: pa.Array, wanted: Mask, word: str) -> tuple[Longs, Mask]:
    values = np.zeros(len(strings), np.int64)
    wrong = np.zeros(len(strings), np.bool_)
    rows = np.flatnonzero(wanted)
    if not len(rows):
        return values, wrong
    unit = unit_of(word)
    chosen = strings.take(pa.array(rows))
    for kind in (pa.timestamp(unit, tz="UTC"), pa.timestamp(unit)):
        try:
            values[rows] = _cast_times(chosen, kind).to_numpy()
        except pa.ArrowInvalid:  # other forms, finer than the unit, some with and some without a zone
            continue
        return values, wrong
    for row, text in zip(rows, chosen.to_pylist(), strict=True):
        try:
            values[row] = _moment(text, unit)
        except (ValueError, OverflowError):
            wrong[row] = True
    return values, wrong


def _cast_times(strings: pa.Array, kind: pa.DataType) -> pa.Array:
    """ISO 8601 texts → units since 1970; one that does not fit is an error. (Old releases let nanoseconds overflow.)

    Raises:
        pa.ArrowInvalid: when one is of another form, or does not fit.
    """
    found = strings.cast(kind).cast(pa.int64())
    if kind.unit == "ns":
        said = pc.utf8_slice_codeunits(strings, 0, 4).cast(pa.int64())
        years = pc.year(found.cast(pa.timestamp("ns")))
        if pc.any(pc.greater(pc.abs(pc.subtract(years, said)), 1)).as_py():  # a zone may lead into another year
            raise pa.ArrowInvalid("a time does not fit into nanoseconds")
    return found


def _moment(text: str, unit: str) -> int:
    if unit == "ns":  # finer than Python's
        for kind in (pa.timestamp(unit, tz="UTC"), pa.timestamp(unit)):
            try:
                return int(_cast_times(pa.array([text]), kind)[0].as_py())
            except pa.ArrowInvalid:
                continue
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    number: int = (moment - _EPOCH) // timedelta(microseconds=1) * 1000 // _UNIT_NS[unit]
    if not -(2**63) <= number < 2**63:
        raise OverflowError(text)
    return number


def _dates(strings: pa.Array, wanted: Mask) -> tuple[pa.Array, Mask]:
    values = np.zeros(len(strings), np.int32)
    wrong = np.zeros(len(strings), np.bool_)
    rows = np.flatnonzero(wanted)
    chosen = strings.take(pa.array(rows))
    try:
        values[rows] = chosen.cast(pa.date32()).cast(pa.int32()).to_numpy()
    except pa.ArrowInvalid:
        for row, text in zip(rows, chosen.to_pylist(), strict=True):
            try:
                values[row] = (date.fromisoformat(text) - _EPOCH_DAY).days
            except ValueError:
                wrong[row] = True
    return pa.array(values).cast(pa.date32()), wrong


def _times_of_day(strings: pa.Array, wanted: Mask) -> tuple[pa.Array, Mask]:
    values, wrong = _by_pattern(strings, wanted, "time_of_day", "%H:%M:%S%.f")
    if not wrong.any():
        return values, wrong
    numbers = pc.fill_null(values.cast(pa.int64()), 0).to_numpy().copy()
    for row in np.flatnonzero(wrong):  # other forms that ISO 8601 has
        try:
            found = time.fromisoformat(strings[int(row)].as_py())
        except ValueError:
            continue
        if found.tzinfo is None:
            seconds = (found.hour * 60 + found.minute) * 60 + found.second
            numbers[row] = (seconds * 1_000_000 + found.microsecond) * 1000
            wrong[row] = False
    return pa.array(numbers).cast(pa.time64("ns")), wrong
