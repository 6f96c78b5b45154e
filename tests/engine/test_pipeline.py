"""The example of a pipeline on a real engine: a CSV goes through it, and a bad one is told of."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import IMAGE, PATIENCE, ROOT, Daemon
from tests.support.waiting import until

EXAMPLE = ROOT / "contrib" / "examples" / "pipeline"


@pytest.fixture
def daemon(url: str, tmp_path: Path) -> Iterator[Daemon]:
    """A daemon with the example's jobs, on the image that the tests have."""
    folder = Path(tempfile.mkdtemp(prefix="jp", dir="/var/tmp"))
    made = Daemon(folder / "h", url)
    made.start()
    made.ready()
    for path in EXAMPLE.glob("*.toml"):
        (tmp_path / path.name).write_text(path.read_text().replace('"busybox"', f'"{IMAGE}"'))
    made.ctl("apply", "-f", str(tmp_path))
    yield made
    if made.alive():
        made.terminate()
    made.close()
    shutil.rmtree(folder)


def first(found: Callable[[], list[Any]]) -> Any:
    """The first of what comes to be found."""
    return until(found, PATIENCE)[0]


def over(daemon: Daemon, job: str, run: int) -> Any:
    """The run of a job that another's end made, once it is over itself."""
    row = first(
        lambda: [r for r in daemon.json("ls", "--job", job) if r["trigger"].get("run") == run]
    )
    daemon.ctl("wait", str(row["id"]), check=False)
    return daemon.json("show", str(row["id"]))


def test_a_csv_goes_through_and_the_daemon_may_die(daemon: Daemon) -> None:
    spool = daemon.home / "spool" / "validate"
    first(lambda: [spool] if spool.is_dir() else [])
    (spool / "orders.csv.meta.toml").write_text('labels = { day = "monday" }\n')
    # as `cp` does: seen once it is closed
    shutil.copyfile(EXAMPLE / "orders.csv", spool / "orders.csv")
    run = first(lambda: daemon.json("ls", "--job", "validate"))["id"]
    assert daemon.json("show", str(run))["trigger"]["kind"] == "drop"
    daemon.kill()
    daemon.start()
    daemon.ready()
    load = over(daemon, "load", run)
    assert load["status"] == "succeeded"
    result = daemon.ctl("result", str(load["id"])).stdout
    assert result == '{"rows": 2, "total": 4.00}'
    report = over(daemon, "report", load["id"])
    assert report["trigger"]["kind"] == "topic"
    assert daemon.ctl("logs", str(report["id"])).stdout == f"loaded: {result}\n"
    told = first(lambda: list((spool / "done").glob("orders.csv.*.result")))
    assert told.name == f"orders.csv.{run}.result"
    assert told.read_text() == "apple,3,0.50\npear,2,1.25\n"
    rows = daemon.json("ls", "--label", "day=monday")
    assert [row["job"] for row in rows] == ["load", "validate"]


def test_a_bad_one_is_told_of(daemon: Daemon) -> None:
    payload = "sku,count,price\napple,three,0.50\n"
    run = daemon.json("queue", "validate", "-p", payload)["runs"][0]["id"]
    alarm = over(daemon, "alarm", run)
    said = daemon.ctl("logs", str(alarm["id"])).stdout
    assert said == f"run {run} of validate ended: failed\n"
    assert daemon.ctl("logs", str(run)).stdout == "line 2: apple,three,0.50\n"
    assert daemon.json("ls", "--job", "load") == []
