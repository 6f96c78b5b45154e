"""A large dropped file in a real container: mounted, read-only, by any user, gone in the end."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.harness import Daemon
from tests.support.waiting import until

SMALL = ("--network", "none", "--memory", "32M", "--cpus", "0.1")
#: fails where the payload can be changed, by whatever way
SCRIPT = (
    "sha256sum <$PAYLOAD_FILE | cut -d' ' -f1 >$RESULT_FILE; "
    "(echo x >>$PAYLOAD_FILE) 2>/dev/null && exit 3; rm $PAYLOAD_FILE 2>/dev/null && exit 4; "
    "mv $PAYLOAD_FILE /job/x 2>/dev/null && exit 5; cat | wc -c"
)


@pytest.fixture(scope="module")
def daemon(url: str) -> Iterator[Daemon]:
    folder = Path(tempfile.mkdtemp(prefix="jd", dir="/var/tmp"))
    made = Daemon(folder / "h", url, 'maxima.payload = "64K"')
    made.start()
    made.ready()
    yield made
    if made.alive():
        made.terminate()
    made.close()
    shutil.rmtree(folder)


@pytest.mark.parametrize("options", [(), ("--user", "1234:1234"), ("--stdin", "payload")])
def test_it_is_mounted_and_cannot_be_changed(
    daemon: Daemon, tmp_path: Path, options: tuple[str, ...]
) -> None:
    name = f"job{len(options)}{''.join(options)[2:4]}"
    daemon.ctl(
        "register", "--name", name, *SMALL, *options, "jobd-test:busybox", "sh", "-c", SCRIPT
    )
    data = os.urandom(300_000)
    made = tmp_path / "ä large one"
    made.write_bytes(data)
    made.chmod(0o600)
    folder = daemon.home / "spool" / name
    shutil.move(made, folder / made.name)
    until(lambda: os.listdir(folder / "done") or os.listdir(folder / "failed"))
    (told,) = os.listdir(folder / "done")
    run = told.split(".")[1]
    assert (folder / "done" / told).read_text().strip() == hashlib.sha256(data).hexdigest()
    logs = daemon.ctl("logs", run).stdout.strip()
    assert logs == (str(len(data)) if "--stdin" in options else "0")
    until(lambda: not os.listdir(folder / ".claimed"))
