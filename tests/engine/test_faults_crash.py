"""jobd dies at the worst moments, and what its attempts are when it comes back (rows 32 to 36)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.conftest import MakeRig
from tests.support.fault_rig import FaultRig
from tests.support.private_engine import PrivateEngine, end_of
from tests.support.proxy import Proxy


@pytest.fixture
def proxy(private: PrivateEngine, tmp_path: Path) -> Iterator[Proxy]:
    """Between jobd and the private engine."""
    made = Proxy(private.folder / "proxy.sock", private.socket)
    yield made
    made.close()
    (private.folder / "proxy.sock").unlink()


@pytest.fixture
def rig(rigs: MakeRig, proxy: Proxy) -> FaultRig:
    """A daemon that speaks to its engine through the proxy."""
    return rigs(socket=proxy.socket)


def test_a_running_attempt_is_adopted(rig: FaultRig, private: PrivateEngine) -> None:
    """Row 32."""
    rig.register("one", "sleep 1.5; echo end; exit 3")
    number = rig.queue("one")
    container = rig.begun(number)["attempts"][0]["container"]
    rig.again()
    run = rig.ended(number)
    assert (run["status"], rig.outcomes(number)) == ("failed", [("failed", 3)])
    assert run["attempts"][0]["container"] == container
    assert rig.text(number) == "begin 1\nend\n"


@pytest.mark.parametrize("moment", ["containers/create", "containers/[0-9a-f]{64}/start"])
@pytest.mark.parametrize("side", ["before", "after"])
def test_killed_at_create_and_start(
    rig: FaultRig, private: PrivateEngine, proxy: Proxy, moment: str, side: str
) -> None:
    """Rows 33 and 35: between intent and create, created and never started, started and untold."""
    rig.register("one", "sleep 1; exit 4")

    def die() -> None:
        rig.kill()
        raise ConnectionError

    done = proxy.once(f"POST .*/{moment}", **{side: die})
    number = rig.queue("one")
    assert done.wait(30)
    assert not rig.alive()
    rig.start()
    rig.ready()
    run = rig.ended(number)
    assert (run["status"], rig.outcomes(number)) == ("failed", [("failed", 4)])
    assert rig.text(number) == "begin 1\n"
    creates = [line for line in proxy.seen if "containers/create" in line]
    assert len(creates) == (2 if (moment, side) == ("containers/create", "before") else 1)
    assert len({line.split("name=")[1] for line in creates}) == 1


def test_a_create_that_timed_out_and_succeeded_is_found(
    rig: FaultRig, private: PrivateEngine, proxy: Proxy
) -> None:
    """Row 34: the engine froze with the request in its hands."""
    rig.register("one", "exit 5")
    done = proxy.once("POST .*/containers/create", before=private.freeze)
    number = rig.queue("one")
    assert done.wait(60), "jobd does not lose patience"
    waits = rig.until(number, lambda run: (run["progress"] or {}).get("message"))
    assert (waits["status"], waits["reason"]["code"]) == ("starting", "starting")
    assert "did not answer in time" in waits["reason"]["text"]
    private.thaw()
    rig.ended(number)
    assert rig.outcomes(number) == [("failed", 5)]
    assert rig.text(number) == "begin 1\n"
    assert sum("containers/create" in line for line in proxy.seen) <= 2


def test_what_ended_while_jobd_was_down_is_collected(rig: FaultRig, private: PrivateEngine) -> None:
    """Row 36: status, time and output, and no second attempt."""
    rig.register("one", "sleep 1; echo late; exit 7", attempts=3)
    number = rig.queue("one")
    rig.begun(number)
    name = rig.container(number)
    pid = private.sdk.inspect_container(name)["State"]["Pid"]
    rig.kill()
    end_of(pid)
    finished = private.sdk.wait(name) and private.sdk.inspect_container(name)["State"]["FinishedAt"]
    rig.start()
    rig.ready()
    rig.until(number, lambda run: run["attempts"][0]["outcome"])
    ended = rig.run(number)["attempts"][0]
    assert (ended["outcome"], ended["exit_code"]) == ("failed", 7)
    assert ended["finished_at"][:23] == finished[:23]
    assert rig.text(number, "--attempt", "1") == "begin 1\nlate\n"
