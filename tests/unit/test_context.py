"""A folder becomes what an image is built from: all but what .dockerignore names."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from jobctl.context import Ignored, tar_pieces
from jobd.errors import UsageError


def names(folder: Path, dockerfile: str = "Dockerfile") -> list[str]:
    made = io.BytesIO(b"".join(tar_pieces(str(folder), dockerfile)))
    with tarfile.open(fileobj=made, mode="r:") as archive:
        return [member.name for member in archive]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("Dockerfile", "a.txt", "sub/b.txt", "sub/deep/c.log", "node_modules/x/y.js"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def test_all_of_it_without_a_dockerignore(folder: Path) -> None:
    assert names(folder) == [
        "Dockerfile", "a.txt", "node_modules", "node_modules/x", "node_modules/x/y.js", "sub",
        "sub/b.txt", "sub/deep", "sub/deep/c.log",
    ]  # fmt: skip


def test_what_is_named_is_left_out_but_the_dockerfile_is_not(folder: Path) -> None:
    (folder / ".dockerignore").write_text("# all\n\n*\n!sub/**/*.log\n")
    assert names(folder) == [".dockerignore", "Dockerfile", "sub/deep/c.log"]


@pytest.mark.parametrize(
    ("patterns", "path", "out"),
    [
        ("node_modules", "node_modules/x/y.js", True),
        ("node_modules", "sub/node_modules", False),
        ("**/node_modules", "sub/node_modules/z", True),
        ("**/node_modules", "node_modules", True),
        ("/a.txt", "a.txt", True),
        ("./a.txt", "a.txt", True),
        ("sub/", "sub/b.txt", True),
        ("*.txt", "a.txt", True),
        ("*.txt", "sub/b.txt", False),
        ("*/*.txt", "sub/b.txt", True),
        ("**/*.txt", "sub/deep/b.txt", True),
        ("sub/**", "sub/deep/b.txt", True),
        ("?.txt", "a.txt", True),
        ("?.txt", "ab.txt", False),
        ("[ab].txt", "b.txt", True),
        ("[ab].txt", "c.txt", False),
        ("a+b(c).txt", "a+b(c).txt", True),
        ("\\*", "*", True),
        ("\\*", "x", False),
        ("*.txt\n!a.txt", "a.txt", False),
        ("!a.txt\n*.txt", "a.txt", True),
        ("*\n!sub", "sub/b.txt", False),
    ],
)
def test_patterns(patterns: str, path: str, out: bool) -> None:
    assert Ignored(patterns)(path) is out


def test_owners_and_what_is_no_file_stay_behind_and_links_stay_links(folder: Path) -> None:
    (folder / "link").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe")
    os.link(folder / "a.txt", folder / "b.txt")
    made = io.BytesIO(b"".join(tar_pieces(str(folder), "Dockerfile")))
    with tarfile.open(fileobj=made, mode="r:") as archive:
        assert {(member.uid, member.gid, member.uname) for member in archive} == {(0, 0, "")}
        assert archive.getmember("link").issym()
        assert "pipe" not in archive.getnames()
        file = archive.extractfile("b.txt")
        assert file is not None
        assert file.read() == b"a.txt"


def test_what_cannot_be_built_is_told_before_anything_is_sent(folder: Path) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        next(tar_pieces(str(folder / "absent"), "Dockerfile"))
    with pytest.raises(UsageError, match=r"has no Other"):
        next(tar_pieces(str(folder), "Other"))


def test_the_content_is_there_to_the_last_byte_and_names_are_any(folder: Path) -> None:
    large = os.urandom(600_000) + b"end"
    (folder / "large.bin").write_bytes(large)
    (folder / ("n" * 200 + "\u00e9")).write_bytes(b"x")
    made = io.BytesIO(b"".join(tar_pieces(str(folder), "Dockerfile")))
    with tarfile.open(fileobj=made, mode="r:") as archive:
        file = archive.extractfile("large.bin")
        assert file is not None
        assert file.read() == large
        assert "n" * 200 + "\u00e9" in archive.getnames()
        assert archive.getmember("sub").isdir()
