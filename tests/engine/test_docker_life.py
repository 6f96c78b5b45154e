"""An attempt's life on a real engine: started once, followed, collected, removed."""

from __future__ import annotations

import time
import uuid

import pytest

from jobd.engine.base import (
    EngineUnreachableError,
    ForeignError,
    GoneError,
    Mount,
    Phase,
    StartRefusedError,
    Stream,
)
from jobd.engine.docker import DockerEngine
from tests.support.engine_support import IMAGE, ended, run, silent, text

#: a folder that no host has: other tools make a missing one, and then a fixed name is there
ABSENT = f"/absent-{uuid.uuid4().hex}"


def test_connect_names_the_engine_and_its_dangers(engine):
    info = engine.connect()
    assert info.name == "docker"
    assert info.version[0].isdigit()
    assert info.cpus >= 1
    assert info.memory > 1 << 28
    assert any("live-restore is off" in note for note in info.notes)


def test_a_whole_life(engine, order):
    one = order("sh", "-c", "echo to out; sleep 0.1; echo to err >&2; printf last; exit 7")
    before = time.time_ns()
    started = engine.start(one, silent)
    assert started.image_id.startswith("sha256:")
    assert started.pull_ms == 0
    lines = [line for batch in engine.output(one.ref, 0) for line in batch]
    ending = ended(engine, one.ref)
    assert [(line.stream, line.data, line.partial) for line in lines] == [
        (Stream.STDOUT, b"to out", False),
        (Stream.STDERR, b"to err", False),
        (Stream.STDOUT, b"last", True),
    ]
    assert before < lines[0].time_ns < lines[1].time_ns < time.time_ns()
    assert lines[1].time_ns - lines[0].time_ns > 90_000_000
    assert ending.exit_code == 7
    assert not ending.oom
    assert ending.error is None
    assert ending.started_at == started.at
    assert ending.started_at + 100 <= ending.finished_at <= time.time_ns() // 1_000_000
    assert engine.phase(one.ref) is Phase.EXITED
    engine.discard(one.ref)
    with pytest.raises(GoneError):
        engine.phase(one.ref)
    engine.discard(one.ref)


def test_the_last_words_are_never_lost(engine, order):
    # following alone lost them in 5 of 6 tries on Docker 20.10
    for number in range(8):
        one = order("sh", "-c", f"echo first; printf 'word {number}'")
        _, lines = run(engine, one)
        assert text(lines) == f"first\nword {number}"
        engine.discard(one.ref)


def test_started_twice_is_one_container(engine, order):
    one = order("sleep", "30")
    first = engine.start(one, silent)
    assert engine.start(one, silent) == first
    assert len(engine.found()) == 1
    engine.signal(one.ref, "SIGKILL")
    assert ended(engine, one.ref).exit_code == 137
    # ended is as good as running: it is not run again
    assert engine.start(one, silent) == first
    assert engine.phase(one.ref) is Phase.EXITED


def test_created_and_never_started_is_started(engine, order, sdk):
    one = order("true")
    sdk.create_container_from_config(
        {"Image": IMAGE, "Cmd": ["echo", "made before"], "Labels": dict(one.labels)}, one.ref
    )
    assert engine.phase(one.ref) is Phase.CREATED
    assert engine.ending(one.ref) is None
    engine.signal(one.ref, "SIGTERM")
    _, lines = run(engine, one)
    assert text(lines) == "made before\n"


def test_a_foreign_container_is_not_touched(engine, order, sdk):
    one = order("true")
    foreign = sdk.create_container_from_config(
        {"Image": IMAGE, "Cmd": ["sleep", "60"], "Labels": {**one.labels, "jobd.store": "0" * 32}},
        one.ref,
    )["Id"]
    sdk.start(foreign)
    try:
        with pytest.raises(ForeignError, match=one.ref):
            engine.start(one, silent)
        for call in (engine.phase, engine.ending, lambda ref: engine.signal(ref, "SIGKILL")):
            with pytest.raises(GoneError):
                call(one.ref)
        with pytest.raises(GoneError):
            next(engine.output(one.ref, 0))
        engine.discard(one.ref)
        assert engine.found() == []
        assert sdk.inspect_container(foreign)["State"]["Running"]
    finally:
        sdk.remove_container(foreign, force=True)


def test_our_store_and_another_attempts_labels_are_foreign_too(engine, order, sdk):
    one = order("true")
    sdk.create_container_from_config(
        {"Image": IMAGE, "Labels": {**one.labels, "jobd.attempt": "2"}}, one.ref
    )
    with pytest.raises(ForeignError):
        engine.start(one, silent)
    # ours by store, so what is there can be listed and removed
    assert [found.ref for found in engine.found()] == [one.ref]


def test_an_order_of_another_store_is_a_bug(engine, order):
    one = order("true", labels={"jobd.store": "f" * 32})
    with pytest.raises(ValueError, match=r"jobd\.store"):
        engine.start(one, silent)


def test_removed_by_hand_is_gone(engine, order, sdk):
    one = order("sleep", "30")
    engine.start(one, silent)
    sdk.remove_container(one.ref, force=True)
    for call in (engine.phase, engine.ending, lambda ref: engine.signal(ref, "SIGTERM")):
        with pytest.raises(GoneError):
            call(one.ref)
    assert engine.usage(one.ref).memory_peak_source in ("none", "parent")


def test_removed_by_hand_while_followed_ends_the_stream(engine, order, sdk):
    one = order("sh", "-c", "echo here; sleep 30")
    engine.start(one, silent)
    stream = engine.output(one.ref, 0)
    assert next(stream)[0].data == b"here"
    sdk.remove_container(one.ref, force=True)
    with pytest.raises(GoneError):
        list(stream)


@pytest.mark.parametrize(
    ("command", "exit_code", "word"),
    [(("no-such",), 127, "no such file"), (("/etc/passwd",), 126, "permission denied")],
)
def test_a_command_that_cannot_run_says_so(engine, order, command, exit_code, word):
    ending, _ = run(engine, order(*command))
    assert ending.exit_code == exit_code
    assert ending.error is not None
    assert word in ending.error
    assert repr(command[0]) in ending.error


def test_a_program_that_exits_127_by_itself_is_not_accused(engine, order):
    ending, _ = run(engine, order("sh", "-c", "echo hm >&2; exit 127"))
    assert (ending.exit_code, ending.error) == (127, None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image": "jobd-test:absent", "pull": "never"}, ("jobd-test:absent", "never")),
        ({"image": "No Name"}, ("No Name",)),
        ({"user": "ghost"}, ("user ghost", "name a user")),
        ({"memory": 1 << 20}, ("6MB", "resources.memory")),
        ({"cpus": 999.0}, ("resources.cpus",)),
        ({"network": "no-such-net"}, ("no-such-net", "create the network")),
        ({"mounts": (Mount(ABSENT, "/data"),)}, (ABSENT, "mounts")),
        ({"mounts": (Mount("/usr", "/job"),)}, ("/job", "mounts")),
        ({"mounts": (Mount("/etc/passwd", "/tmp"),)}, ("mounts",)),
        ({"stop_signal": "SIGNOPE"}, ("SIGNOPE",)),
        ({"env": {"": "x"}}, ("env",)),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_cannot_start_by_its_own_fault_is_refused(engine, order, changes, words):
    one = order("true", **changes)
    for _ in range(2):  # and says the same when it is asked again
        with pytest.raises(StartRefusedError) as caught:
            engine.start(one, silent)
        for word in words:
            assert word in str(caught.value)
        assert caught.value.exit_code is None
    engine.discard(one.ref)


def test_a_missing_mount_source_is_not_made(engine, order, tmp_path):
    source = tmp_path / "not-there"
    with pytest.raises(StartRefusedError):
        engine.start(order("true", mounts=(Mount(str(source), "/data"),)), silent)
    assert not source.exists()


def test_without_a_command_the_images_own_runs(engine, order):
    ending, _ = run(engine, order())
    assert ending.exit_code == 0


def test_the_pinned_image_is_used_though_the_tag_moved(engine, order, sdk):
    first = order("true", image="jobd-test:moving")
    sdk.tag(IMAGE, "jobd-test", "moving")
    pinned = engine.start(first, silent).image_id
    other = sdk.import_image_from_data(_empty_tar(), repository="jobd-test", tag="moving")
    assert "sha256" in other
    again = engine.start(order("true", image="jobd-test:moving", image_id=pinned), silent)
    assert again.image_id == pinned
    for found in engine.found():
        ended(engine, found.ref)
        engine.discard(found.ref)
    sdk.remove_image("jobd-test:moving")


def _empty_tar() -> bytes:
    return bytes(10240)


def test_found_lists_only_this_stores(engine, order, url):
    one, two = order("sleep", "30"), order("true")
    engine.start(one, silent)
    engine.start(two, silent)
    ended(engine, two.ref)
    rows = {found.ref: found for found in engine.found()}
    assert rows.keys() == {one.ref, two.ref}
    assert rows[one.ref].phase is Phase.RUNNING
    assert rows[two.ref].phase is Phase.EXITED
    assert rows[one.ref].labels == one.labels
    other = DockerEngine(url, b"another store..."[:16])
    assert other.found() == []
    other.close()


def test_sigterm_ends_a_sleep_at_once_through_the_init(engine, order):
    one = order("sleep", "30")
    engine.start(one, silent)
    engine.signal(one.ref, "SIGTERM")
    ending = ended(engine, one.ref)
    assert ending.exit_code == 143
    assert ending.finished_at - ending.started_at < 25_000
    engine.signal(one.ref, "SIGTERM")  # ended: left alone


def test_job_folder_and_environment(engine, order, tmp_path):
    (tmp_path / "payload").write_bytes(b"the payload\0\xff")
    (tmp_path / "out").mkdir()
    secrets = tmp_path.parent / (tmp_path.name + "-secrets")
    secrets.mkdir()
    (secrets / "key").write_text("s3cret")
    script = (
        'cp "$PAYLOAD_FILE" /job/out/copy; echo done > "$RESULT_FILE"; cat /job/secrets/key;'
        " touch /job/secrets/new 2>/dev/null || echo ' read-only'"
    )
    env = {"PAYLOAD_FILE": "/job/payload", "RESULT_FILE": "/job/result", "ODD": "a=b\nc d"}
    ending, lines = run(
        engine, order("sh", "-c", script + '; echo "$ODD"', env=env, secrets_dir=secrets)
    )
    assert ending.exit_code == 0
    assert (tmp_path / "out" / "copy").read_bytes() == b"the payload\0\xff"
    assert (tmp_path / "result").read_text() == "done\n"
    assert text(lines) == "s3cret read-only\na=b\nc d\n"
    assert list(secrets.iterdir()) == [secrets / "key"]


def test_the_image_that_is_removed_under_an_order_is_refused(engine, order, sdk):
    sdk.tag(IMAGE, "jobd-test", "gone")
    sdk.remove_image("jobd-test:gone")
    with pytest.raises(StartRefusedError):
        engine.start(order("true", image="jobd-test:gone", pull="never"), silent)


def test_the_sdk_sees_a_container_as_the_interface_says(engine, order, sdk):
    one = order("sleep", "30")
    engine.start(one, silent)
    found = sdk.inspect_container(one.ref)
    assert found["Name"] == "/" + one.ref
    assert found["HostConfig"]["LogConfig"]["Type"] == "local"
    assert not found["HostConfig"]["AutoRemove"]
    assert found["HostConfig"]["Memory"] == found["HostConfig"]["MemorySwap"] == one.memory
    assert found["HostConfig"]["OomScoreAdj"] == 500


def test_closed_lets_attempts_go_on(url, engine, order, sdk):
    other = DockerEngine(url, bytes.fromhex(engine.store))
    one = order("sleep", "30")
    other.start(one, silent)
    other.close()
    assert sdk.inspect_container(one.ref)["State"]["Running"]


def test_a_url_without_engine_is_told(tmp_path):
    missing = DockerEngine(f"unix://{tmp_path}/no.sock", bytes(16))
    with pytest.raises(EngineUnreachableError, match=r"no engine answers at unix://.*start it"):
        missing.connect()
    missing.close()
