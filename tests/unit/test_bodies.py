"""Bodies: what was put is there whole or is called damaged; uploads survive lost replies."""

from __future__ import annotations

import os
import stat
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobd.core.commands import Body
from jobd.errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
    QueueDamagedError,
    RefusedError,
)
from jobd.journal.bodies import CHUNK, Bodies, upload_key
from tests.support.attempt_rig import file_size_limit

KEY = b"k" * 16
LIMIT = 1 << 20


@pytest.fixture
def bodies(tmp_path: Path) -> Iterator[Bodies]:
    one = Bodies(tmp_path / "bodies")
    yield one
    one.close()


def path_of(tmp_path: Path, name: str) -> Path:
    return tmp_path / "bodies" / name[:2] / name


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, 3 * CHUNK + 7])
def test_put_and_read(bodies: Bodies, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    body = bodies.put(data)
    assert body == Body(body.name, size, zlib.crc32(data))
    assert len(body.name) == 32
    assert bodies.read(body) == data
    assert all(len(chunk) <= CHUNK for chunk in bodies.chunks(body))
    path = path_of(tmp_path, body.name)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == [body.name]


def test_every_damage_is_told(bodies: Bodies, tmp_path: Path) -> None:
    data = os.urandom(100)
    body = bodies.put(data)
    path = path_of(tmp_path, body.name)
    for at in range(100):
        for bit in range(8):
            path.write_bytes(data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :])
            with pytest.raises(QueueDamagedError, match=str(path)):
                bodies.read(body)
        path.write_bytes(data[:at])
        with pytest.raises(QueueDamagedError, match="damaged"):
            bodies.read(body)
    path.write_bytes(data + b"more")
    with pytest.raises(QueueDamagedError, match="damaged"):
        bodies.read(body)
    path.unlink()
    with pytest.raises(QueueDamagedError, match="missing"):
        bodies.read(body)


def test_a_link_is_not_followed(bodies: Bodies, tmp_path: Path) -> None:
    body = bodies.put(b"x" * 10)
    path = path_of(tmp_path, body.name)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(QueueDamagedError, match="link"):
        bodies.read(body)


@pytest.mark.parametrize("name", ["", "x" * 32, "../" + "a" * 29, "A" * 32, "a" * 31, "a" * 33])
def test_names_are_names(bodies: Bodies, name: str) -> None:
    with pytest.raises(ValueError, match="hex"):
        bodies.read(Body(name, 0, 0))
    with pytest.raises(ValueError, match="hex"):
        bodies.remove(name)


def test_remove(bodies: Bodies) -> None:
    body = bodies.put(b"x")
    bodies.remove(body.name)
    bodies.remove(body.name)
    bodies.remove("0" * 32)
    with pytest.raises(QueueDamagedError):
        bodies.read(body)


def test_full_disk(bodies: Bodies, tmp_path: Path) -> None:
    with file_size_limit(5000):
        with pytest.raises(RefusedError, match="later"):
            bodies.put(b"x" * 6000)
        assert bodies.upload(KEY, 0, b"y" * 4000, False, limit=LIMIT) == 4000
        with pytest.raises(RefusedError):
            bodies.upload(KEY, 4000, b"y" * 4000, True, limit=LIMIT)
    # half a body does not stay
    files = [path for path in (tmp_path / "bodies").rglob("*") if path.is_file()]
    assert [path.parent.name for path in files] == ["uploads"]
    assert bodies.upload(KEY, 4000, b"y" * 4000, True, limit=LIMIT) == 8000
    assert bodies.read(bodies.uploaded(KEY)) == b"y" * 8000


def test_upload_over_lost_replies_and_a_restart(tmp_path: Path) -> None:
    data = os.urandom(1000)
    sent = [(0, 400, False), (0, 400, False), (400, 700, False), (300, 700, False)]
    for offset, end, last in sent:
        bodies = Bodies(tmp_path / "bodies")
        assert bodies.upload(KEY, offset, data[offset:end], last, limit=LIMIT) == max(400, end)
        with pytest.raises(NotFoundError, match="again"):
            bodies.uploaded(KEY)
        bodies.close()
    bodies = Bodies(tmp_path / "bodies")
    for _ in range(2):
        assert bodies.upload(KEY, 700, data[700:], True, limit=LIMIT) == 1000
    assert bodies.upload(KEY, 0, data[:400], False, limit=LIMIT) == 1000
    bodies.close()
    bodies = Bodies(tmp_path / "bodies")
    body = bodies.uploaded(KEY)
    assert (body.size, body.crc) == (1000, zlib.crc32(data))
    assert bodies.read(body) == data
    with pytest.raises(ConflictError, match="complete"):
        bodies.upload(KEY, 1000, b"more", True, limit=LIMIT)
    bodies.close()


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=5))
def test_upload_in_any_pieces(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[int, int]]
) -> None:
    data = os.urandom(300)
    bodies = Bodies(tmp_path_factory.mktemp("bodies"))
    at = 0
    for begin, end in pieces:
        # from anywhere in what was sent before, to anywhere
        begin = min(begin, at)
        end = max(begin, end)
        assert bodies.upload(KEY, begin, data[begin:end], False, limit=LIMIT) == max(at, end)
        at = max(at, end)
    bodies.upload(KEY, at, data[at:], True, limit=LIMIT)
    assert bodies.read(bodies.uploaded(KEY)) == data
    bodies.close()


def test_upload_refusals(bodies: Bodies) -> None:
    with pytest.raises(ConflictError, match="order"):
        bodies.upload(KEY, 1, b"x", False, limit=LIMIT)
    with pytest.raises(InvalidError, match="at most 10"):
        bodies.upload(KEY, 8, b"xyz", False, limit=10)
    # another sender's upload of the same key is another upload
    bodies.upload(upload_key(0, KEY), 0, b"root", True, limit=LIMIT)
    bodies.upload(upload_key(1000, KEY), 0, b"alice", True, limit=LIMIT)
    assert bodies.read(bodies.uploaded(upload_key(0, KEY))) == b"root"
    assert bodies.read(bodies.uploaded(upload_key(1000, KEY))) == b"alice"


def test_sweep(tmp_path: Path) -> None:
    bodies = Bodies(tmp_path / "bodies", clock=lambda: time.time() + 25 * 3600)
    used, unused = bodies.put(b"used"), bodies.put(b"unused")
    bodies.upload(KEY, 0, b"half", False, limit=LIMIT)
    fresh = bodies.put(b"fresh")
    os.utime(path_of(tmp_path, fresh.name), (time.time() + 7200, time.time() + 7200))
    (tmp_path / "bodies" / "README").write_text("a stray file")
    removed = bodies.sweep({used.name})
    assert unused.name in removed
    assert len(removed) == 2
    assert bodies.read(used) == b"used"
    assert bodies.read(fresh) == b"fresh"
    assert list((tmp_path / "bodies/uploads").iterdir()) == []
    assert bodies.sweep({used.name}) == []
    bodies.close()
