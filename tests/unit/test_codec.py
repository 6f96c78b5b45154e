"""The door to msgpack: what goes in comes out, and what others send is held to limits."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobd import codec
from jobd.errors import UsageError

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.binary(), inner),
    max_leaves=20,
)


@given(plain)
def test_what_goes_in_comes_out(value: Any) -> None:
    assert codec.unpack(codec.pack(value)) == value
    assert codec.pack_shared(value) == codec.pack(value)


@given(st.binary(max_size=200))
@example(b"")
@example(b"\xc1")
@example(b"\x81\xc0\x01")  # a key that is nil
@example(b"\x81\x90\x01")  # a key that cannot be hashed
@example(b"\xd4\x05x")  # an extension type
@example(b"\xd6\xff\x00\x00\x00\x00")  # a timestamp, which is an extension type too
@example(b"\x01\x01")  # two values
def test_any_bytes_are_a_value_or_refused(data: bytes) -> None:
    try:
        value = codec.unpack_foreign(data)
    except UsageError:
        return
    assert not isinstance(value, msgpack.ExtType | msgpack.Timestamp)


def nested(depth: int, kind: str) -> bytes:
    """`depth` lists or maps, each in the one before."""
    value: Any = [] if kind == "list" else {}
    for _ in range(depth - 1):
        value = [value] if kind == "list" else {"k": value}
    return codec.pack(value)


@pytest.mark.parametrize("kind", ["list", "map"])
def test_depth_is_limited(kind: str) -> None:
    codec.unpack_foreign(nested(codec.MAX_DEPTH, kind))
    with pytest.raises(UsageError, match="nested deeper"):
        codec.unpack_foreign(nested(codec.MAX_DEPTH + 1, kind))


def test_a_depth_that_would_end_the_interpreter_is_refused() -> None:
    with pytest.raises(UsageError):
        codec.unpack_foreign(b"\x91" * 100_000 + b"\xc0")


def test_length_is_limited() -> None:
    data = codec.pack(b"x" * 100)
    assert codec.unpack_foreign(data, limit=len(data)) == b"x" * 100
    with pytest.raises(UsageError, match=f"of {len(data)} bytes: at most {len(data) - 1}"):
        codec.unpack_foreign(data, limit=len(data) - 1)
    with pytest.raises(UsageError):
        codec.unpack_foreign(bytes(codec.MAX_FRAME + 1))


@pytest.mark.parametrize(
    "data",
    [
        b"\xdd\xff\xff\xff\xff",  # a list of 4 billion
        b"\xdf\xff\xff\xff\xff",  # a map of 4 billion
        b"\xdb\xff\xff\xff\xff",  # text of 4 GB
        b"\xc6\xff\xff\xff\xff",  # bytes of 4 GB
        b"\xc9\xff\xff\xff\xff\x01",  # an extension of 4 GB
    ],
)
def test_a_length_is_not_believed(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(UsageError):
            codec.unpack_foreign(data)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_keys_are_text_or_bytes() -> None:
    with pytest.raises(UsageError):
        codec.unpack_foreign(codec.pack({1: "x"}))
    assert codec.unpack(codec.pack({1: "x"})) == {1: "x"}, "our own files may have others"
