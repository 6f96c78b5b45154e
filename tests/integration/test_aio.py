"""The asyncio twin: against the daemon itself, and against peers that die and lose replies."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobctl import context
from jobctl.aio import AsyncClient
from jobctl.unpack import Unpacker
from jobd.errors import InvalidError, JobdError, NotFoundError, TimeOverError, UnreachableError
from tests.support.scripted import Scripted
from tests.support.served import Daemon


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    one = Daemon(tmp_path_factory.mktemp("aio") / "home")
    one.start()
    yield one
    one.end(signal.SIGTERM)


def test_a_run_from_its_queueing_to_its_result(daemon: Daemon) -> None:
    async def main() -> None:
        async with AsyncClient(home=str(daemon.home)) as jobd:
            steps = ["payload", "print=hi", "result=done"]
            answer = await jobd.register({"name": "a", "image": "img", "command": steps})
            assert answer["changed"] is True
            number = (await jobd.queue("a", b"x" * 700_000))["runs"][0]["id"]
            assert (await jobd.wait(number))["status"] == "succeeded"
            assert await jobd.result(number) == b"done"
            assert await jobd.payload(number) == b"x" * 700_000
            lines = [line["text"] async for line in jobd.logs(number, follow=True)]
            assert lines[-1] == "hi"
            assert (await jobd.show(number))["id"] == number
            parts = [part async for part in jobd.queue_each("a", [b"1", b"2"], labels={"l": "m"})]
            ids = [one["id"] for part in parts for one in part["runs"]]
            await jobd.wait(*ids)
            assert [row["id"] for row in await jobd.runs(labels={"l": "m"})] == ids[::-1]
            with pytest.raises(NotFoundError):
                await jobd.show(4711)
            with pytest.raises(InvalidError, match="image"):
                await jobd.register({"name": "b"})
            assert [row["name"] for row in await jobd.job_names()] == ["a"]

    asyncio.run(main())


def test_many_calls_are_under_way_at_once(daemon: Daemon) -> None:
    async def main() -> None:
        async with AsyncClient(home=str(daemon.home)) as jobd:
            await jobd.register({"name": "held", "image": "img", "command": ["exit=3"]})
            await jobd.pause("held")
            parts = [part async for part in jobd.queue_many("held", 60)]
            ids = [one["id"] for part in parts for one in part["runs"]]
            waits = [asyncio.create_task(jobd.wait(number)) for number in ids]
            # the others are answered while 60 are held by the daemon
            assert (await asyncio.wait_for(jobd.status(), 20))["jobs"] >= 1
            broken = waits.pop()
            broken.cancel()
            with pytest.raises(asyncio.CancelledError):
                await broken
            assert not any(task.done() for task in waits)
            await jobd.resume("held")
            assert {row["exit_code"] for row in await asyncio.gather(*waits)} == {3}
            await jobd.pause("held")
            number = (await jobd.queue("held"))["runs"][0]["id"]
            with pytest.raises(TimeOverError):
                await jobd.wait(number, timeout=0.2)

    asyncio.run(main())


def test_files_are_read_and_written_beside_the_event_loop(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What unpacks an output folder holds up no other coroutine, however slow its disk is."""
    entered, go_on = threading.Event(), threading.Event()
    finish = Unpacker.finish

    def slowly(self: Unpacker) -> None:
        entered.set()
        assert go_on.wait(20), "the event loop did not go on"
        finish(self)

    monkeypatch.setattr(Unpacker, "finish", slowly)

    async def main() -> None:
        async with AsyncClient(home=str(daemon.home)) as jobd:
            await jobd.register({"name": "o", "image": "img", "command": ["out=a:hello"]})
            number = (await jobd.queue("o"))["runs"][0]["id"]
            await jobd.wait(number)
            saving = asyncio.create_task(jobd.save_output(number, str(tmp_path / "out")))
            while not entered.is_set():
                await asyncio.sleep(0.01)
            await jobd.ping()
            assert not saving.done()
            go_on.set()
            await asyncio.wait_for(saving, 20)
            assert (tmp_path / "out" / "a").read_text() == "hello"

    asyncio.run(main())


def test_a_folder_is_read_beside_the_event_loop(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What reads the folder of a build holds up no other coroutine either."""
    entered, go_on = threading.Event(), threading.Event()
    ours = threading.get_ident()
    read_by = set()

    def slowly(folder: str, dockerfile: str) -> Iterator[bytes]:
        entered.set()
        for _ in range(3):
            read_by.add(threading.get_ident())
            assert go_on.wait(20), "the event loop did not go on"
            yield bytes(600_000)

    monkeypatch.setattr(context, "tar_pieces", slowly)

    async def main() -> None:
        async with AsyncClient(home=str(daemon.home)) as jobd:
            building = asyncio.create_task(jobd.build(str(tmp_path), "b"))
            ticks = 0
            while not entered.is_set() or ticks < 3:
                await asyncio.sleep(0.01)
                ticks += 1
            await jobd.ping()
            assert not building.done()
            go_on.set()
            with pytest.raises(JobdError):  # this engine builds nothing
                await asyncio.wait_for(building, 20)

    asyncio.run(main())
    assert read_by
    assert ours not in read_by


def test_a_follower_may_leave(daemon: Daemon) -> None:
    async def main() -> None:
        async with AsyncClient(home=str(daemon.home)) as jobd:
            await jobd.register({"name": "l", "image": "img", "command": ["print=x", "sleep=60"]})
            number = (await jobd.queue("l"))["runs"][0]["id"]
            async for line in jobd.logs(number, follow=True):
                assert line["text"] == "x"
                break
            assert (await jobd.cancel(number))["id"] == number
            assert (await jobd.wait(number))["status"] == "cancelled"

    asyncio.run(main())


def test_no_daemon_is_told_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncClient(home=str(tmp_path)) as jobd:
            with pytest.raises(UnreachableError, match="not running"):
                await jobd.status()

    asyncio.run(main())


def test_a_daemon_that_dies_is_told_at_once(tmp_path: Path) -> None:
    async def main(peer: Scripted) -> None:
        loop = asyncio.get_running_loop()
        asked = asyncio.Event()

        def silent(arguments: dict[str, Any]) -> list[Any]:
            loop.call_soon_threadsafe(asked.set)
            return []

        peer.on("status", silent)
        async with AsyncClient(home=str(tmp_path), request_timeout=3600) as jobd:
            task = asyncio.create_task(jobd.status())
            await asked.wait()
            while not peer.watchers():  # the client has begun to watch for the peer's end
                await asyncio.sleep(0.02)
            await asyncio.to_thread(peer.stop)
            with pytest.raises(UnreachableError, match="stopped"):
                await task

    with Scripted(tmp_path) as peer:
        asyncio.run(main(peer))


def test_a_lost_reply_is_asked_again_by_its_key(tmp_path: Path) -> None:
    async def main(peer: Scripted) -> None:
        loop = asyncio.get_running_loop()
        asked = asyncio.Event()

        def lost(arguments: dict[str, Any]) -> list[Any]:
            loop.call_soon_threadsafe(asked.set)
            return []

        peer.on("run.queue", lost)
        async with AsyncClient(home=str(tmp_path)) as jobd:
            task = asyncio.create_task(jobd.queue("j"))
            await asked.wait()
            while not peer.watchers():  # the client has begun to watch for the peer's end
                await asyncio.sleep(0.02)
            await asyncio.to_thread(peer.stop)
            peer.on("run.queue", [{"runs": [[9, False]], "warnings": []}])
            await asyncio.to_thread(peer.start)
            assert (await task)["runs"] == [{"id": 9, "existing": False}]
        (_, _, first), (_, _, second) = peer.asked
        assert first == second
        assert first is not None

    with Scripted(tmp_path) as peer:
        asyncio.run(main(peer))


def test_connections_are_used_again_and_none_is_left(daemon: Daemon) -> None:
    async def main() -> None:
        before = len(os.listdir("/proc/self/fd"))
        async with AsyncClient(home=str(daemon.home)) as jobd:
            for _ in range(20):
                await jobd.ping()
            one = len(os.listdir("/proc/self/fd"))
            await asyncio.gather(*(jobd.ping() for _ in range(30)))
            assert one < before + 20
        assert len(os.listdir("/proc/self/fd")) <= before + 2

    asyncio.run(main())
