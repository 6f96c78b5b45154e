"""Watched paths under `kill -9`: each file that was closed is told, and none twice."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from jobctl.client import Client
from tests.support.process_daemon import ProcessDaemon

pytestmark = pytest.mark.timeout(300)

FILES, KILLS = 300, 10


def write(folder: Path, chance: random.Random) -> None:
    """Files of which some stay open for a while, over whatever happens to jobd."""
    open_ = []
    for number in range(FILES):
        file = open(folder / f"f{number}", "wb")  # noqa: SIM115  # closed later
        file.write(b"%d" % number)
        file.flush()
        open_.append(file)
        while open_ and chance.random() < 0.6:
            open_.pop(chance.randrange(len(open_))).close()
        time.sleep(chance.uniform(0, 0.02))
    for file in open_:
        file.close()


def test_each_file_is_told_once(processes: ProcessDaemon, chance: random.Random) -> None:
    processes.start()
    processes.ready()
    folder = processes.home.parent / "in"
    folder.mkdir()
    on = [{"path": str(folder), "debounce": "50ms"}]
    processes.register("told", "true", on=on)
    with Client(home=str(processes.home)) as client:
        client.pause("told")
    writer = threading.Thread(target=write, args=(folder, random.Random(chance.random())))
    writer.start()
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.1, 0.7))
        processes.kill()
        processes.start()
    writer.join()
    processes.ready()
    with Client(home=str(processes.home)) as client:
        deadline = time.monotonic() + 60
        while True:
            runs = client.runs(job="told", limit=FILES * 3)
            rows = [json.loads(client.payload(run["id"])) for run in runs]
            told = Counter(os.path.basename(row["path"]) for row in rows)
            if len(told) == FILES:
                break
            assert time.monotonic() < deadline, f"{FILES - len(told)} were never told"
            time.sleep(0.2)
    assert {row["event"] for row in rows} == {"closed"}
    assert told == Counter(f"f{number}" for number in range(FILES))
    assert processes.terminate() == 0
