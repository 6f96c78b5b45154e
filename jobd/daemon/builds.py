"""Images being built: each by a thread of its own, its output kept for whoever asks for it.

A client reads at its own pace and may go away: a build goes on, and what it says is always taken
from the engine. A build that was under way when the daemon ended is gone; the engine keeps the
layers that were done, so the same build again is quick.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from jobd.core.commands import Body
from jobd.daemon.control import guarded
from jobd.engine.base import EngineError, EngineUnreachableError
from jobd.engine.imagestore import BuildOrder, Built, ImageStore, repository_of
from jobd.errors import ConflictError, InvalidError, JobdError, RefusedError
from jobd.journal.bodies import Bodies
from jobd.server.kernel import BuildView

#: of a build's output that is kept, in bytes: its end
KEEP = 4 << 20
#: builds at once, and ended ones that are still told of
AT_ONCE, REMEMBERED = 2, 50


class Builds:
    """All builds of this daemon. For all threads.

    `changed(number)` is called when a build has said more, or has ended; `store` is None where the
    engine has no images. `context_bytes` bounds what an image is built from.
    """

    def __init__(
        self,
        store: ImageStore | None,
        bodies: Bodies,
        context_bytes: int,
        fatal: Callable[[Exception], None],
    ) -> None:
        self._store = store
        self._bodies = bodies
        self._fatal = fatal
        self.context_bytes = context_bytes
        self.changed: Callable[[int], None] = lambda number: None
        self._lock = threading.Lock()
        self._builds: dict[int, _Build] = {}
        self._by_key: dict[bytes, int] = {}
        self._next = 1

    def begin(
        self,
        key: bytes | None,
        context: Callable[[], Body],
        job: str,
        settings: dict[str, Any],
    ) -> int:
        """Begin a build, or find the one that the same request began; its number.

        `context` is asked for where a build begins, and removed when it has ended. `settings` are
        those of :class:`~jobd.engine.imagestore.BuildOrder`. Raises ConflictError
        where the engine builds nothing, RefusedError where enough are under way.
        """
        if self._store is None:
            raise ConflictError("build: this engine has no images; see [engine] in jobd.toml")
        begun = self._of(key)
        if begun is not None:
            return begun
        body = context()
        order = BuildOrder(self._bodies.path(body), repository_of(job), **settings)
        with self._lock:
            if sum(not build.over for build in self._builds.values()) >= AT_ONCE:
                raise RefusedError(f"build: {AT_ONCE} are under way; try again when one has ended")
            number, self._next = self._next, self._next + 1
            build = self._builds[number] = _Build()
            if key is not None:
                self._by_key[key] = number
            self._forget()
        threading.Thread(
            target=guarded,
            args=(lambda: self._run(self._store, number, build, order, body), self._fatal),
            name=f"build {number}",
            daemon=True,
        ).start()
        return number

    def _of(self, key: bytes | None) -> int | None:
        with self._lock:
            return None if key is None else self._by_key.get(key)

    def view(self, number: int, offset: int, size: int) -> BuildView | None:
        """Up to `size` bytes of its output, or None where there is no such build."""
        with self._lock:
            build = self._builds.get(number)
            return None if build is None else build.view(offset, size)

    def _forget(self) -> None:
        ended = [number for number, build in self._builds.items() if build.over]
        for number in ended[:-REMEMBERED]:
            del self._builds[number]
        self._by_key = {key: n for key, n in self._by_key.items() if n in self._builds}

    def _run(
        self,
        store: ImageStore | None,
        number: int,
        build: _Build,
        order: BuildOrder,
        context: Body,
    ) -> None:
        def out(text: str) -> None:
            with self._lock:
                build.say(text.encode("utf-8", "replace"))
            self.changed(number)

        assert store is not None
        built, error = _attempt(store, order, out)
        with self._lock:
            build.built, build.error, build.over = built, error, True
        self._bodies.remove(context.name)
        self.changed(number)


def _attempt(
    store: ImageStore, order: BuildOrder, out: Callable[[str], None]
) -> tuple[Built | None, JobdError | None]:
    try:
        return store.build(order, out), None
    except EngineUnreachableError as error:
        return None, RefusedError(f"not built: {error}; try again")
    except EngineError as error:
        return None, InvalidError(f"not built: {error}")
    except OSError as error:
        return None, RefusedError(f"not built: its context cannot be read: {error.strerror}")


class _Build:
    """One build: the end of its output, and how it ended."""

    def __init__(self) -> None:
        self.over = False
        self.built: Built | None = None
        self.error: JobdError | None = None
        self._kept = bytearray()
        self._dropped = 0

    def say(self, data: bytes) -> None:
        """Take what it said; the oldest is dropped beyond what is kept."""
        self._kept += data
        if len(self._kept) > 2 * KEEP:
            self._dropped += len(self._kept) - KEEP
            del self._kept[:-KEEP]

    def view(self, offset: int, size: int) -> BuildView:
        """What it said from `offset` on; where that was dropped, a line that says so."""
        note = b""
        if offset < self._dropped:
            note = b"[%d bytes of output were not kept]\n" % (self._dropped - offset)
            offset = self._dropped
        data = bytes(self._kept[offset - self._dropped :][: size - len(note)])
        end = offset + len(data)
        over = self.over and end >= self._dropped + len(self._kept)
        return BuildView(
            note + data,
            end,
            over,
            self.error if over else None,
            self.built.name if over and self.built else None,
            self.built.image_id if over and self.built else None,
        )
