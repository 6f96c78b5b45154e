"""Output folders: what is kept of what an attempt left, and what a client makes of it."""

from __future__ import annotations

import io
import os
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobctl.unpack import Unpacker, safe_parts
from jobd.daemon import outputs
from jobd.daemon.outputs import Packing, sanitised
from jobd.daemon.workdir import Inputs, Workdir
from jobd.errors import ConflictError, QueueDamagedError, UsageError
from jobd.journal.bodies import Bodies


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Workdir]:
    bodies = Bodies(tmp_path / "bodies")
    work = Workdir(tmp_path / "work", 1, 1, bodies, output_limit=1000)
    work.prepare(Inputs())
    yield work
    bodies.close()


def kept(work: Workdir) -> tuple[dict[str, bytes | None], str | None]:
    """What is in the tar (None: a folder), and the note."""
    output = work.collect_output()
    if output.body is None:
        return {}, output.note
    data = work._bodies.read(output.body)
    found: dict[str, bytes | None] = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            assert member.isreg() or member.isdir()
            assert (member.uid, member.uname) == (0, "")
            file = archive.extractfile(member)
            found[member.name] = file.read() if file is not None else None
    assert output.files == sum(value is not None for value in found.values())
    return found, output.note


def out(work: Workdir) -> Path:
    return work.task_dir / "out"


def test_files_and_folders_come_as_they_are(work: Workdir) -> None:
    (out(work) / "a" / "empty").mkdir(parents=True)
    (out(work) / "a" / "b").write_bytes(b"x" * 513)
    (out(work) / "ä file").write_bytes(b"")
    (out(work) / ("n" * 200)).write_bytes(b"long")
    found, note = kept(work)
    assert found == {
        "a": None, "a/empty": None, "a/b": b"x" * 513, "ä file": b"", "n" * 200: b"long",
    }  # fmt: skip
    assert note is None


def test_nothing_but_plain_files_is_kept(work: Workdir, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the host's own")
    (out(work) / "link").symlink_to(secret)
    (out(work) / "folder").symlink_to("/etc")
    os.link(secret, out(work) / "second name")
    os.mkfifo(out(work) / "pipe")
    server = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(out(work))  # a socket's path is short
    server.bind("socket")
    os.chdir(here)
    server.close()
    (out(work) / "good").write_text("good")
    found, note = kept(work)
    assert found == {"good": b"good"}
    assert "1 with other names (hard links)" in str(note)
    assert "4 links, pipes, sockets or devices" in str(note)


def test_only_what_cannot_be_kept_leaves_a_note_and_no_file(work: Workdir) -> None:
    (out(work) / "link").symlink_to("/etc/passwd")
    output = work.collect_output()
    assert (output.body, output.files) == (None, 0)
    assert output.note


def test_the_size_is_bounded_and_what_fits_is_kept(work: Workdir) -> None:
    (out(work) / "a").write_bytes(b"a" * 600)
    (out(work) / "b").touch()
    os.truncate(out(work) / "b", 1 << 40)
    (out(work) / "c").write_bytes(b"c" * 400)
    (out(work) / "d").write_bytes(b"d")
    found, note = kept(work)
    assert list(found) == ["a", "c"]
    assert note == "output not kept whole: left out: 2 beyond 1000 bytes in all"


def test_number_depth_and_length_are_bounded(
    work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "MOST", 50)
    place = out(work)
    for _ in range(40):
        place = place / "d"
        place.mkdir()
    for name in range(30):
        (out(work) / f"f{name}").touch()
    (out(work) / "z").mkdir()
    found, note = kept(work)
    assert len(found) == 50
    assert "d/" * 31 + "d" not in found, "the 32nd folder is not looked into"
    assert "1 deeper than 32 folders" in str(note)
    assert "beyond 50 files and folders" in str(note)
    monkeypatch.setattr(outputs, "LONGEST", 5)
    assert "longer path" in str(kept(work)[1])


def test_names_cannot_speak_to_a_terminal(work: Workdir) -> None:
    folder = os.fsencode(out(work))
    for name in (b"a\x1b[2J", b"\xff", "b\u202ec".encode(), b"a\nb", b"a%0Ab"):
        with open(folder + b"/" + name, "wb") as file:
            file.write(b"x")
    found, note = kept(work)
    assert set(found) == {"a%1B[2J", "%FF", "b%E2%80%AEc", "a%0Ab"}
    assert "control characters" in str(note)


def test_a_file_that_shrinks_while_it_is_read_does_not_shift_the_rest(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"x" * 2000)
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    packing = Packing(folder, 1 << 20)
    data = bytearray()
    for chunk in packing.chunks():
        if not data:
            os.truncate(tmp_path / "a", 100)
        data += chunk
    os.close(folder)
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        sizes = [(member.name, member.size) for member in archive]
    assert sizes == [("a", 2000), ("b", 2000)]
    assert "its end is zeros" in str(packing.note)


def test_a_printable_name_is_left_alone() -> None:
    assert sanitised("plain näme.tar.gz") == "plain näme.tar.gz"


# -- the client's side


def tar(*members: tuple[str, bytes, bytes]) -> bytes:
    """A tar of members of a name, a type and a content; links lead to the content."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind == tarfile.REGTYPE:
                info.size = len(content)
            else:
                info.linkname = content.decode()
            archive.addfile(info, io.BytesIO(content))
    return made.getvalue()


def unpacked(data: bytes, folder: Path) -> None:
    with Unpacker(str(folder)) as unpacker:
        for start in range(0, len(data), 1000):
            unpacker.write(data[start : start + 1000])
        unpacker.finish()


def test_what_was_packed_is_unpacked(work: Workdir, tmp_path: Path) -> None:
    (out(work) / "a" / "empty").mkdir(parents=True)
    (out(work) / "a" / "run").write_bytes(b"#!/bin/sh")
    (out(work) / "a" / "run").chmod(0o4755)
    body = work.collect_output().body
    assert body is not None
    unpacked(work._bodies.read(body), tmp_path / "x" / "got")
    got = tmp_path / "x" / "got"
    assert (got / "a" / "run").read_bytes() == b"#!/bin/sh"
    assert (got / "a" / "run").stat().st_mode & 0o7777 == 0o755
    assert (got / "a" / "empty").is_dir()
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["got"]


@pytest.mark.parametrize(
    "member",
    [
        ("../evil", tarfile.REGTYPE, b"x"),
        ("/tmp/evil", tarfile.REGTYPE, b"x"),
        ("a/../../evil", tarfile.REGTYPE, b"x"),
        ("link", tarfile.SYMTYPE, b"/etc"),
        ("hard", tarfile.LNKTYPE, b"good"),
        ("pipe", tarfile.FIFOTYPE, b""),
        ("disk", tarfile.BLKTYPE, b""),
    ],
    ids=lambda member: member[0],
)
def test_a_hostile_tar_writes_nothing(tmp_path: Path, member: tuple[str, bytes, bytes]) -> None:
    data = tar(("good", tarfile.REGTYPE, b"good"), member)
    with pytest.raises(ConflictError, match="nothing was written"):
        unpacked(data, tmp_path / "got")
    assert list(tmp_path.iterdir()) == []


def test_no_name_is_no_name() -> None:
    for name in ("", ".", "a//b", "a/./b", "a\0b", ".."):
        with pytest.raises(ConflictError):
            safe_parts(name)
    assert safe_parts("a/b/") == ["a", "b"]


def test_what_is_no_tar_is_told(tmp_path: Path) -> None:
    with pytest.raises(QueueDamagedError):
        unpacked(b"x" * 2000, tmp_path / "got")


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "got").mkdir()
    unpacked(tar(("file", tarfile.REGTYPE, b"x")), tmp_path / "got")
    with pytest.raises(UsageError, match="not empty"):
        Unpacker(str(tmp_path / "got"))
    with pytest.raises(UsageError, match="no folder"):
        Unpacker(str(tmp_path / "got" / "file"))
    with pytest.raises(UsageError):
        Unpacker(str(tmp_path / "got" / "file" / "x"))
