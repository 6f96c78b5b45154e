"""Events whose files snapshots have replaced: it is said, in words and on the wire."""

from __future__ import annotations

from pathlib import Path

from tests.support.fakehost import SMALL, FakeHost
from tests.support.waiting import until


def test_it_is_said_that_they_are_gone(tmp_path: Path) -> None:
    home = tmp_path / "h"
    home.mkdir(mode=0o700)
    (home / "jobd.toml").write_text("[history]\nwindow = 0\n")
    host = FakeHost(home).start()
    try:
        with host.client() as client:
            client.register({"name": "j", "image": "img", "command": ["print=hi"], **SMALL})
            first = client.queue("j")["runs"][0]["id"]
            client.wait(first)
            assert host.ctl("events").err == ""
            seen = max(event["seq"] for event in client.events())
            for _ in range(3):
                run = client.queue("j")["runs"][0]["id"]
                client.wait(run)
                client.snapshot()
            until(lambda: not (home / "state" / f"seg-{1:020d}.log").exists())
            until(lambda: client.status()["history"]["in_memory"] == 0)
            said = host.ctl("events", "--since", "1h")
            assert said.status == 0
            assert said.err.startswith("jobctl: events from before 20")
            assert "are gone, as snapshots have replaced the files" in said.err
            assert f"run {run}" in said.out
            assert f"run {first} " not in said.out
            # the array is whole by itself
            rows = host.ctl("events", "--since", "1h", "--json").json
            assert rows
            assert {row["run"] for row in rows if row["run"]} == {run}
            # what became of it is with the run
            assert client.show(first)["status"] == "succeeded"
            host.restart()
        again = host.ctl("events", "--since", "1h")
        assert (again.out, again.err) == (said.out, said.err)
        # who goes on behind one that is gone is told as well, once
        gone: list[int] = []
        with host.client() as client:
            pages = client.event_pages(after=seen - 1, gone=gone.append)
            assert run in [row["run"] for page in pages for row in page]
            assert len(gone) == 1
            behind = list(client.event_pages(after=rows[0]["seq"], gone=gone.append))
            assert behind
            assert len(gone) == 1
    finally:
        host.end()
