"""Values of a message's type, nearly right: drawn from the type itself, so that they come past the first check."""

from __future__ import annotations

import enum
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

WORDS = (
    "", "AR", "LUM", "GRAND", "AR1140-EZE-2026-12-01", "LUM.abcdefghijklmnopqrst", "12A", "2026-12-01", "2026-02-31", "K7Q2MX", "EZE",
    "\x00", "\x1b[2J", "../../x", "ñ" * 40, "A" * 5_000, "\u202e", "0" * 64, "abcdefghijklmnopqrstuvwxyz",
)  # fmt: skip
NUMBERS = (0, 1, -1, 2, 99, 1_000, 2**31, 2**53, 2**63 - 1, -(2**63))
DEPTH_MAX = 4


def nearly(kind: Any) -> st.SearchStrategy[Any]:
    """Return plain values as MessagePack has them, mostly of the type `kind`, with parts of it missing or wrong now and then."""
    return _of(inspect.type_info(kind), DEPTH_MAX)


def _of(info: Any, depth: int) -> st.SearchStrategy[Any]:
    single = st.one_of(st.none(), st.booleans(), st.sampled_from(NUMBERS), st.sampled_from(WORDS), st.binary(max_size=8))
    anything = st.one_of(single, st.just([]), st.just({}))
    if depth == 0:
        return anything
    # The right shape eight times of nine: what is wrong everywhere is refused at the first field.
    return st.integers(0, 8).flatmap(lambda dice: _right(info, depth) if dice else anything)


def _right(info: Any, depth: int) -> st.SearchStrategy[Any]:
    match info:
        case inspect.IntType():
            return st.one_of(st.sampled_from(NUMBERS), st.integers(0, 20))
        case inspect.StrType():
            return st.sampled_from(WORDS)
        case inspect.BytesType():
            return st.one_of(st.binary(max_size=40), st.sampled_from([b"\x90", b"\x80", b"\xc1", b"\x91" * 300]))
        case inspect.BoolType():
            return st.booleans()
        case inspect.FloatType():
            return st.floats(allow_nan=True)
        case inspect.ListType() | inspect.VarTupleType() | inspect.SetType() | inspect.FrozenSetType():
            return st.lists(_of(info.item_type, depth - 1), max_size=3)
        case inspect.TupleType():
            return st.tuples(*(_of(one, depth - 1) for one in info.item_types)).map(list)
        case inspect.DictType():
            return st.dictionaries(st.sampled_from(WORDS), _of(info.value_type, depth - 1), max_size=3)
        case inspect.UnionType():
            return st.one_of(*(_of(one, depth) for one in info.types))
        case inspect.EnumType():
            return st.sampled_from([one.value for one in info.cls if isinstance(one, enum.Enum)])
        case inspect.StructType():
            return _struct(info, depth)
        case inspect.NamedTupleType():
            return st.tuples(*(_of(field.type, depth - 1) for field in info.fields)).map(list)
        case inspect.Metadata():
            return _right(info.type, depth)
        case inspect.LiteralType():
            return st.sampled_from(list(info.values))
    return st.one_of(st.none(), st.sampled_from(WORDS), st.sampled_from(NUMBERS), st.just({}), st.just([]))


def _struct(info: inspect.StructType, depth: int) -> st.SearchStrategy[Any]:
    fields = {field.encode_name: _of(field.type, depth - 1) for field in info.fields}
    if info.array_like:
        tag = [info.tag] if info.tag is not None else []
        return st.tuples(*fields.values()).map(lambda values: [*tag, *values])
    required = {field.encode_name for field in info.fields if field.required}
    optional = {name: fields[name] for name in fields if name not in required}
    drawn = st.fixed_dictionaries({name: fields[name] for name in fields if name in required}, optional=optional)
    if info.tag is not None and info.tag_field:
        return drawn.map(lambda values: {info.tag_field: info.tag, **values})
    return drawn


def encoded(value: Any) -> bytes:
    """Return the value as MessagePack; what does not fit into it is left out."""
    try:
        return msgspec.msgpack.encode(value)
    except OverflowError:
        return b"\xc0"
