"""What reaches the daemon, and what of the host reaches an attempt: sockets, mounts, secrets."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.faked import ROOT, Faked
from tests.support.people import People, Said, is_root

needs_root = pytest.mark.skipif(not is_root(), reason="needs root, to become other users")

OPEN = '[access]\nsocket_mode = "0666"\n'


@pytest.fixture
def daemon() -> Iterator[Faked]:
    one = Faked()
    yield one
    one.close()


@pytest.fixture
def people(daemon: Faked) -> Iterator[People]:
    them = People(daemon.home)
    yield them
    them.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# -- the socket ----------------------------------------------------------------------------


@needs_root
def test_the_socket_is_closed_to_others_by_default(daemon: Faked, people: People) -> None:
    daemon.start()
    run = daemon.home / "run"
    assert [mode(run / name) for name in ("jobd.sock", "jobd.sock.health")] == [0o660, 0o660]
    assert mode(run) & 0o007 == 0
    assert people.say("root", "jobs").status == 0
    said = people.say("nobody", "status")
    assert said.status == 77
    assert "permission denied" in said.err


@needs_root
def test_the_socket_can_be_opened_to_a_group(daemon: Faked, people: People) -> None:
    daemon.configure('[access]\nsocket_group = "games"\nsubmit = ["@games"]\n')
    daemon.start()
    socket = daemon.home / "run" / "jobd.sock"
    assert (socket.stat().st_gid, mode(socket)) == (60, 0o660)
    people.say("root", "register", "--name", "j", "img", "print=x")
    assert people.say("games", "queue", "j").status == 0
    assert people.say("mail", "queue", "j").status == 77


@needs_root
def test_the_socket_can_be_opened_to_all_and_the_uid_decides(daemon: Faked, people: People) -> None:
    daemon.configure(OPEN)
    daemon.start()
    assert mode(daemon.home / "run" / "jobd.sock") == 0o666
    assert mode(daemon.home / "run") & 0o006 == 0, "passable, not readable"
    assert people.say("nobody", "status").status == 0
    assert people.say("nobody", "register", "--name", "j", "img").status == 77


@needs_root
def test_a_closed_folder_above_an_open_socket_is_told(daemon: Faked) -> None:
    daemon.base.chmod(0o700)
    daemon.configure(OPEN)
    daemon.start()
    assert daemon.logged(f"others cannot pass {daemon.base}")


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ('socket_mode = "0777"', "access.socket_mode"),
        ('socket_mode = "0440"', "access.socket_mode"),
        ("socket_mode = 660", "access.socket_mode"),
        ('socket_mode = "rw"', "access.socket_mode"),
        ('socket_group = "no-such-group"', "access.socket_group: 'no-such-group': no such group"),
        ('submit = "alice"', "access.submit"),
        ('submit = ["a b"]', "access.submit"),
        ('manage = ["alice"]', "access.manage: unknown key"),
    ],
)
def test_a_wrong_configuration_names_its_key(daemon: Faked, config: str, match: str) -> None:
    daemon.configure(f"[access]\n{config}\n")
    done = subprocess.run(
        [sys.executable, "-m", "jobd", "run", "--home", str(daemon.home), "--engine", "fake"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=30,
    )
    assert done.returncode == 78
    assert match in done.stderr


#: ZeroMQ's own protocol by hand (ZMTP 3.0, RFC 23), as `nobody`, with properties that lie
SPOOF = """
import os, socket, struct, sys
from jobd.wire import envelope
frame = envelope.request(1, sys.argv[2], {}, None)
os.setgroups([]); os.setgid(65534); os.setuid(65534)
peer = socket.socket(socket.AF_UNIX); peer.settimeout(20); peer.connect(sys.argv[1])
def take(count):
    data = b""
    while len(data) < count:
        piece = peer.recv(count - len(data))
        assert piece, data
        data += piece
    return data
def message():
    flags = take(1)[0]
    size = struct.unpack(">Q", take(8))[0] if flags & 2 else take(1)[0]
    return flags, take(size)
peer.sendall(b"\\xff" + bytes(8) + b"\\x7f\\x03\\x00" + b"NULL".ljust(20, b"\\0") + bytes(32))
take(64)
lies = {"Socket-Type": "DEALER", "Identity": "x", "Peer-Address": "localhost:0:0:1",
        "peer-address": "localhost:0:0:1", "User-Id": "0", "X-Peer-Address": "localhost:0:0:1"}
ready = b"\\x05READY" + b"".join(
    bytes([len(k)]) + k.encode() + struct.pack(">I", len(v)) + v.encode() for k, v in lies.items())
assert len(ready) < 256
peer.sendall(bytes([4, len(ready)]) + ready)
message()
peer.sendall(bytes([0, len(frame)]) + frame)
_, reply = message()
print(envelope.read_reply(reply))
"""


@needs_root
def test_a_client_cannot_say_who_it_is(daemon: Faked) -> None:
    daemon.configure(OPEN)
    daemon.start()
    socket = str(daemon.home / "run" / "jobd.sock")

    def spoof(verb: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", SPOOF, socket, verb],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            timeout=60,
            check=True,
        ).stdout

    assert "'uid': 65534, 'admin': False" in spoof("ping")


# -- mounts --------------------------------------------------------------------------------


def root_says(people: People, *words: str) -> Said:
    said = people.say("root", *words)
    assert said.status == 0, said
    return said


@needs_root
def test_mounts_are_refused_when_registered(daemon: Faked, people: People) -> None:
    srv = daemon.base / "srv"
    (srv / "in").mkdir(parents=True)
    (daemon.base / "srvx").mkdir()
    (srv / "link").symlink_to("/etc")
    (srv / "state").symlink_to(daemon.home / "state")
    daemon.configure(f'[allow]\nmounts = ["{srv}", "{daemon.home}"]\n')
    daemon.start()
    root_says(people, "register", "--name", "j", "--mount", f"{srv}/in:/in:rw", "img", "print=x")
    shown = people.say("root", "show", "j", "--json").json["mounts"]
    assert shown == [{"source": f"{srv}/in", "target": "/in", "read_only": False}]
    for source in ("/", "/etc", "/proc", "/var/run/docker.sock", f"{srv}x", f"{srv}/link",
                   f"{srv}/state", f"{daemon.home}", f"{daemon.home}/state",
                   f"{daemon.home}/secrets", f"{daemon.home}/log", f"{daemon.home}/jobd.toml",
                   f"{daemon.home}/run", f"{srv}/in/../../srvx"):  # fmt: skip
        said = people.say("root", "register", "--name", "k", "--mount", f"{source}:/in", "img")
        assert said.status == 78, source
        assert "mounts[0].source" in said.err


@needs_root
def test_a_link_put_in_a_folders_place_is_met_at_launch(daemon: Faked, people: People) -> None:
    folder = daemon.base / "srv" / "in"
    folder.mkdir(parents=True)
    daemon.configure(f'[allow]\nmounts = ["{folder.parent}"]\n')
    daemon.start()
    root_says(people, "register", "--name", "j", "--mount", f"{folder}:/in", "--attempts", "3",
              "img", "print=started")  # fmt: skip
    assert people.say("root", "run", "j").status == 0
    root_says(people, "pause", "j")
    root_says(people, "queue", "j")
    folder.rename(folder.with_name("moved"))
    folder.symlink_to("/etc")
    root_says(people, "resume", "j")
    assert people.say("root", "wait", "2").status == 1
    run = people.say("root", "show", "2", "--json").json
    assert (run["status"], len(run["attempts"])) == ("failed", 1), "not tried again"
    assert "/etc is never mounted" in run["attempts"][0]["error"]
    assert run["attempts"][0]["started_at"] is None
    assert people.say("root", "logs", "2").out == ""


@needs_root
def test_what_is_not_allowed_any_more_does_not_start(daemon: Faked, people: People) -> None:
    daemon.start()
    root_says(people, "register", "--name", "j", "img:1", "print=x")
    root_says(people, "pause", "j")
    root_says(people, "queue", "j")
    daemon.stop()
    daemon.configure('[images]\nallow = ["other"]\n[allow]\nusers = ["5"]\nmounts = ["/srv:ro"]\n')
    daemon.start()
    root_says(people, "resume", "j")
    assert people.say("root", "wait", "1").status == 1
    run = people.say("root", "show", "1", "--json").json
    assert "image 'img:1' is not allowed here (images.allow: other)" in run["attempts"][0]["error"]
    for words, key in (
        (["img:1"], "images.allow"),
        (["other"], "allow.users"),
        (["--user", "0", "other"], "allow.users"),
        (["--user", "5", "--mount", "/srv/x:/x:rw", "other"], "read_only"),
        (["--user", "5", "--network", "host", "other"], "allow.networks"),
        (["--user", "5", "--device", "/dev/null", "other"], "allow.devices"),
    ):
        said = people.say("root", "register", "--name", "k", *words)
        assert (said.status, key in said.err) == (78, True), said
    words = ["--user", "5", "--mount", "/srv/x:/x", "other"]
    root_says(people, "register", "--name", "k", *words)


# -- secrets -------------------------------------------------------------------------------

SECRET = b"correct-horse-7731"
MASKED = "hunter2-0451"


@needs_root
def test_a_secret_reaches_the_attempt_and_nothing_else(daemon: Faked, people: People) -> None:
    daemon.start()
    secrets = daemon.home / "secrets"
    secrets.mkdir(mode=0o700)
    (secrets / "api").write_bytes(SECRET)
    options = ["--secret", "API=api", "--secret", "file:key=api"]
    root_says(people, "register", "--name", "j", *options, "img", "digest=API", "digest=key")
    digest = hashlib.sha256(SECRET).hexdigest()
    assert people.say("root", "run", "j").out.split() == [digest, digest]
    said = [
        people.say("root", *words)
        for words in (["show", "1", "--json"], ["show", "j", "--json"], ["jobs", "--json"],
                      ["logs", "1"], ["ls", "--all", "--json"], ["status", "--json"],
                      ["queue", "j", "--dry-run", "--json"])
    ]  # fmt: skip
    daemon.stop()
    assert SECRET.decode() not in json.dumps(said)
    kept = [
        path
        for path in daemon.base.rglob("*")
        if path.is_file() and path.parent != secrets and SECRET in path.read_bytes()
    ]
    assert not kept


@needs_root
def test_values_under_telling_names_are_masked_for_everyone(daemon: Faked, people: People) -> None:
    daemon.start()
    config = daemon.base / "config"
    config.write_text(json.dumps({"smtp": {"password": MASKED}, "url": f"ftp://u:{MASKED}@h"}))
    options = ["--env", f"DB_PASSWORD={MASKED}", "--env", "LANG=C", "--config-file", str(config)]
    command = ["img", "env=DB_PASSWORD", f"print=--token={MASKED}"]
    root_says(people, "register", "--name", "j", *options, *command)
    shown = [
        people.say("root", *words)
        for words in (["show", "j"], ["show", "j", "--json"], ["jobs"], ["jobs", "--json"],
                      ["queue", "j", "--dry-run", "--env", f"API_KEY={MASKED}", "--json"],
                      ["queue", "j", "--dry-run", "--env", f"API_KEY={MASKED}",
                       "--", "--password", MASKED])
    ]  # fmt: skip
    for said in shown:
        assert said.status == 0, said
        assert MASKED not in said.out + said.err
    assert people.say("root", "show", "j", "--json").json["env"]["LANG"] == "C"
    # the attempt has it all the same
    assert MASKED in people.say("root", "run", "j").out
    # and a value that was copied from a listing is not taken for one
    words = ["register", "--name", "j", "--env", "DB_PASSWORD=********", "img"]
    said = people.say("root", *words)
    assert said.status == 78
    assert "env.DB_PASSWORD" in said.err
    said = people.say("root", "show", "j")
    assert said.out.count("********") >= 3
