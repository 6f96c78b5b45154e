"""What an attempt writes is read as what it is: links, pipes, and floods of it included."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from jobd.daemon.inbox import SOCKET, TAKEN, Inbox, Letter, RejectedError, parse_progress

MOST = 1000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("job/queue/child", "api", TAKEN):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


@pytest.fixture
def inbox(folder: Path) -> Inbox:
    return Inbox(folder)


def put(folder: Path, name: str, text: str = "x") -> Path:
    path = folder / "job/queue" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def shown(letters: list[Letter]) -> list[str]:
    return [letter.shown for letter in letters]


def test_a_file_is_taken_when_it_has_stayed_the_same(folder: Path, inbox: Inbox) -> None:
    path = put(folder, "child/one", "a")
    assert inbox.take(final=False) == []
    path.write_text("ab")
    assert inbox.take(final=False) == [], "it grew meanwhile"
    (letter,) = inbox.take(final=False)
    assert (letter.job, letter.shown) == ("child", "child/one")
    assert not path.exists()
    assert inbox.read(letter, MOST) == b"ab"
    assert inbox.take(final=False) == [letter], "until it is done with"
    assert shown(Inbox(folder).take(final=True)) == ["child"], "and by the next daemon"
    inbox.done(letter)
    assert inbox.take(final=True) == []
    path.write_text("again")
    inbox.take(final=False)
    (second,) = inbox.take(final=False)
    assert second.name != letter.name, "the same name again is another file"


def test_what_is_not_finished_is_left_alone(folder: Path, inbox: Inbox) -> None:
    for name in ("child/.one", "child/two.tmp", ".hidden/three"):
        put(folder, name)
    assert inbox.take(final=True) == []
    assert inbox.notes == []


def test_the_order_is_that_of_writing(folder: Path, inbox: Inbox) -> None:
    for number, name in enumerate(("child/c", "more/b", "child/a")):
        os.utime(put(folder, name), ns=(number, number))
    assert shown(inbox.take(final=True)) == ["child/c", "more/b", "child/a"]


def test_what_is_no_file_is_not_taken(folder: Path, inbox: Inbox) -> None:
    queue = folder / "job/queue"
    (queue / "child/link").symlink_to("/etc/passwd")
    (queue / "child/folder").mkdir()
    os.mkfifo(queue / "child/pipe")
    (queue / "plain").write_text("x")
    (queue / "up").symlink_to("/etc")
    (queue / "last").mkdir()
    for _ in range(2):
        assert inbox.take(final=True) == []
    assert sorted(inbox.notes) == [
        "queue/child/folder: is no regular file",
        "queue/child/link: is no regular file",
        "queue/child/pipe: is no regular file",
        "queue/last: is no folder of a job or @TOPIC: write to queue/JOB/NAME",
        "queue/plain: is no folder of a job or @TOPIC: write to queue/JOB/NAME",
        "queue/up: is no folder of a job or @TOPIC: write to queue/JOB/NAME",
    ]


@pytest.mark.parametrize("which", ["job", "job/queue", "job/queue/child"])
def test_no_link_is_followed_on_the_way(folder: Path, inbox: Inbox, which: str) -> None:
    elsewhere = folder / "elsewhere"
    for path in (elsewhere / "queue/child", elsewhere / "child"):
        path.mkdir(parents=True)
        (path / "secret").write_text("x")
    (elsewhere / "secret").write_text("x")
    (elsewhere / "progress").write_text("50")
    (folder / which).rename(folder / "away")
    (folder / which).symlink_to(elsewhere)
    assert inbox.take(final=True) == []
    assert (elsewhere / "secret").exists()
    assert (elsewhere / "child/secret").exists()
    if which == "job":
        assert inbox.progress() is None


def test_what_was_changed_when_it_was_taken_is_refused(folder: Path, inbox: Inbox) -> None:
    """Between the look and the move the attempt may have put something else there."""
    taken = folder / TAKEN
    os.mkfifo(taken / "01.child")
    (taken / "02.child").symlink_to("/etc/passwd")
    (taken / "03.child").mkdir()
    (taken / "03.child/deep").mkdir()
    (taken / "04.child").write_text("x")
    os.link(taken / "04.child", folder / "job/other")
    (taken / "05.child").write_bytes(b"x" * (MOST + 1))
    os.truncate(put(folder, "child/sparse"), 1 << 40)
    letters = inbox.take(final=True)
    assert len(letters) == 6
    said = []
    for letter in letters:
        with pytest.raises(RejectedError) as refused:
            inbox.read(letter, MOST)
        said.append(str(refused.value))
        inbox.done(letter)
    assert said[:4] == ["is no regular file"] * 3 + ["has other names (hard links)"]
    assert said[4].startswith(f"{MOST + 1} bytes: {MOST} at most")
    assert said[5].startswith(f"{1 << 40} bytes")
    assert list(taken.iterdir()) == []


def test_names_may_be_anything(folder: Path, inbox: Inbox) -> None:
    child = os.fsencode(folder / "job/queue/child")
    for name in (b"\xff\xfe", b"a\nb", b"%s" % (b"n" * 255)):
        with open(child + b"/" + name, "wb") as file:
            file.write(b"x")
    letters = inbox.take(final=True)
    assert len(letters) == 3
    for letter in letters:
        assert inbox.read(letter, MOST) == b"x"
        inbox.note(letter.job, letter.shown, "no")
    assert all(note.isprintable() and note.isascii() for note in inbox.notes)


def test_many_are_taken_a_part_at_a_time_and_told_of_in_few_words(
    folder: Path, inbox: Inbox
) -> None:
    for number in range(600):
        put(folder, f"child/{number}")
        (folder / f"job/queue/child/l{number}").symlink_to("x")
    found = set()
    while letters := inbox.take(final=True):
        assert len(letters) <= 256
        for letter in letters:
            found.add(letter.shown)
            inbox.done(letter)
    assert len(found) == 600
    assert len(inbox.notes) == 20


# -- progress ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("40", (40, "")),
        (" 40 % ", (40, "")),
        ("40% half of it", (40, "half of it")),
        ("40 half of it", (40, "half of it")),
        ("99.5 nearly", (99, "nearly")),
        ("101 dalmatians", (None, "101 dalmatians")),
        ("40th of 50", (None, "40th of 50")),
        ("cleaning up", (None, "cleaning up")),
        ("", None),
    ],
)
def test_a_line_of_progress(line: str, told: tuple[int | None, str] | None) -> None:
    assert parse_progress(line) == told


def test_the_last_line_counts_and_is_told_once(folder: Path, inbox: Inbox) -> None:
    path = folder / "job/progress"
    assert inbox.progress() is None
    path.write_text("10 one\n20 two\n\n")
    assert inbox.progress() == (20, "two")
    assert inbox.progress() is None
    with path.open("ab") as file:
        file.write(b"30 \xff\x00three\n")
    assert inbox.progress() == (30, "\ufffd three")
    os.truncate(path, 1 << 40)  # nothing but its end is read
    assert inbox.progress() is None
    path.write_text("40")
    assert inbox.progress() == (40, "")


@pytest.mark.parametrize("what", ["link", "pipe", "folder", "hard"])
def test_a_progress_that_is_no_file(folder: Path, inbox: Inbox, what: str) -> None:
    path = folder / "job/progress"
    if what == "link":
        path.symlink_to("/etc/hostname")
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    else:
        (folder / "elsewhere").write_text("50")
        os.link(folder / "elsewhere", path)
    assert inbox.progress() is None


# -- the socket ----------------------------------------------------------------------------


def test_the_socket_may_lie_deep(tmp_path: Path) -> None:
    """A path has 107 bytes; whoever is inside sees a short one."""
    folder = tmp_path / ("deep" * 20) / ("er" * 40)
    (folder / "api").mkdir(parents=True)
    path = folder / "api" / SOCKET
    assert len(os.fsencode(path)) > 107
    for _ in range(2):  # a second daemon takes the name over
        with Inbox(folder).listen(), socket.socket(socket.AF_UNIX) as client:
            assert path.stat().st_mode & 0o777 == 0o666
            link = tmp_path / "l"
            link.symlink_to(folder / "api")
            client.connect(str(link / SOCKET))
            link.unlink()
