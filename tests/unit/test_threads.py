"""Threads that are used again."""

from __future__ import annotations

import threading
import time

from jobd.daemon.threads import Threads


def test_a_thread_takes_what_comes_next_under_its_name() -> None:
    threads = Threads()
    seen: list[tuple[str, int]] = []
    for number in range(5):
        done = threading.Event()

        def work(done: threading.Event = done) -> None:
            here = threading.current_thread()
            seen.append((here.name, here.ident or 0))
            done.set()

        threads.run(f"n {number}", work)
        assert done.wait(10)
        # until it is free again
        end = time.monotonic() + 10
        while not threads._spare and time.monotonic() < end:
            time.sleep(0.001)
    assert [name for name, _ in seen] == [f"n {number}" for number in range(5)]
    assert len({ident for _, ident in seen}) == 1
    assert threads.close(time.monotonic() + 10)


def test_all_run_at_once() -> None:
    threads = Threads()
    together = threading.Barrier(40)
    for number in range(39):
        threads.run(f"n {number}", together.wait)  # type: ignore[arg-type]
    together.wait(30)
    assert threads.close(time.monotonic() + 10)


def test_one_that_hangs_is_told() -> None:
    threads = Threads()
    free = threading.Event()
    threads.run("hangs", free.wait)  # type: ignore[arg-type]
    assert not threads.close(time.monotonic() + 0.05)
    free.set()
    assert threads.close(time.monotonic() + 10)
