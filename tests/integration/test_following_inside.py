"""Notifications from inside of attempts: what the job's `api` allows, and not endlessly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobd.errors import ConflictError, ForbiddenError
from tests.integration.test_inside import WAITS, Host
from tests.support.processes import open_folder


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with open_folder() as folder:
        made = Host(folder / "h", "[maxima]", "chain = 3")
        made.start()
        made.ready()
        made.register("listens", 'cat "$PAYLOAD_FILE"', on=[{"topic": "orders"}])
        made.register("again", WAITS, on=[{"topic": "again"}], api={"emit": ["again"]})
        made.register("tells", WAITS, api={"emit": ["orders"], "children": 2})
        made.register(
            "writes",
            'echo seven >"$TASK_DIR/queue/@orders/1"; echo x >"$TASK_DIR/queue/@orders/.2"\n'
            'mkdir "$TASK_DIR/queue/@others"; echo x >"$TASK_DIR/queue/@others/1"\n'
            'mkdir "$TASK_DIR/queue/@no good"; echo x >"$TASK_DIR/queue/@no good/1"',
            api={"emit": ["orders", "with/slash"]},
        )
        made.register("mute", WAITS, api=True)
        yield made
        made.end_attempts()
        made.close()


def test_a_run_notifies_of_what_its_job_names(host: Host) -> None:
    run = host.parent("tells")
    with host.inside(run) as inside:
        (made,) = inside.emit("orders", b"seven")["runs"]
        with pytest.raises(ForbiddenError, match=r"api\.emit"):
            inside.emit("others")
        assert [row["id"] for row in inside.runs(everything=True)] == [made["id"], run]
        inside.emit("orders")
        answer = inside.emit("orders")
    assert answer["runs"] == []
    assert "2 at most" in answer["refused"][0]["text"]
    row = host.show(made["id"])
    assert row["trigger"]["kind"] == "topic"
    assert (row["trigger"]["run"], row["trigger"]["depth"]) == (run, 1)
    assert row["made_by"] == run
    host.end(run)
    other = host.parent("mute")
    with host.inside(other) as inside, pytest.raises(ForbiddenError, match=r"api\.emit"):
        inside.emit("orders")
    host.end(other)


def test_a_shell_notifies_by_a_file(host: Host) -> None:
    with host.client() as client:
        before = len(client.runs(job="listens", everything=True))
        run = client.queue("writes")["runs"][0]["id"]
        assert client.wait(run)["status"] == "succeeded"
        rows = client.runs(job="listens", everything=True)
        assert len(rows) == before + 1
        assert rows[0]["trigger"]["run"] == run
        client.wait(rows[0]["id"])
    assert host.ctl("logs", str(rows[0]["id"])).stdout == "seven\n"
    logs = host.ctl("logs", str(run))
    said = logs.stdout + logs.stderr
    assert "may not notify of others" in said
    assert "queue/@no good: is no folder of a job or @TOPIC" in said


def test_a_run_that_makes_itself_is_cut(host: Host) -> None:
    run = host.parent("again")
    runs = [run]
    for _ in range(3):
        with host.inside(runs[-1]) as inside:
            runs.append(inside.emit("again")["runs"][0]["id"])
        with host.client() as client:
            client.wait(runs[-1], until="running")
    with host.inside(runs[-1]) as inside, pytest.raises(ConflictError, match="cut after 3 steps"):
        inside.emit("again")
    assert [host.show(one)["trigger"].get("depth", 0) for one in runs] == [0, 1, 2, 3]
    for one in runs:
        host.end(one)
