"""The one network namespace that attempts of network `none` share where `share_none` is set.

To make and take apart a namespace is a third of what a short container costs. A container of
jobd's own, the holder, keeps one; attempts join it. It does nothing: its image, made here, is one
program of a few bytes that waits for ever. It outlives the daemon as attempts do, is found again by
its label, is made anew where it is gone, and is removed when nothing is left that could use it.
Attempts that joined keep the namespace, whatever becomes of it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import struct
import tarfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from jobd.engine.base import (
    EngineError,
    EngineTroubleError,
    GoneError,
    Order,
    Progress,
    Started,
    StartRefusedError,
)
from jobd.engine.container import Settings
from jobd.engine.refusals import AnswerError
from jobd.engine.starting import Starter, is_labelled

_log = logging.getLogger(__name__)

#: of which network attempts share one namespace
NETWORK = "none"
_IMAGE, _TAG = "jobd-holder", "1"
_PROGRAM = "wait"
#: seconds that a clean stop waits for the holder's removal
_PATIENCE_S = 3.0
#: machine code, without a library: wait for a signal, again and again (pause; ppoll of nothing)
_CODE = {
    "x86_64": (62, bytes.fromhex("b822000000 0f05 ebf7")),
    "aarch64": (
        183,
        bytes.fromhex("000080d2 010080d2 020080d2 030080d2 280980d2 010000d4 faffff17"),
    ),
}


class Client(Protocol):
    """What is asked of the engine's API here; docker.py has it. All raise AnswerError."""

    def inspect(self, name: str) -> dict[str, Any] | None: ...
    def create(self, name: str, body: Mapping[str, object]) -> str: ...
    def start(self, engine_id: str) -> None: ...
    def remove(self, engine_id: str) -> None: ...
    def remove_unstarted(self, engine_id: str) -> None: ...
    def image_id(self, reference: str) -> str | None: ...
    def load_image(self, archive: bytes, repository: str, tag: str) -> None: ...
    def info(self) -> dict[str, Any]: ...


class Holder:
    """The holder of one store, and starts of attempts that join it. For many threads.

    `wanted`: whether it is to be used; where not, one that an earlier daemon left is removed.
    """

    def __init__(self, client: Client, store: str, wanted: bool) -> None:
        self._client = client
        self._labels = {"jobd.holder": store}
        self.name = f"jobd-{store[:8]}-holder"
        self.wanted = wanted
        self._lock = threading.Lock()
        self._id: str | None = None
        self._told = ""

    def start(
        self, starter: Starter, order: Order, settings: Settings, progress: Progress
    ) -> Started:
        """As :meth:`Starter.start`; an attempt of network `none` joins the holder.

        Where there can be none it gets a namespace of its own: that is slower, and no less apart.
        """
        joined = self._joined() if self.wanted and order.network == NETWORK else None
        try:
            return starter.start(order, replace(settings, joined=joined), progress)
        except (EngineTroubleError, StartRefusedError, GoneError):
            # made before its holder was gone, or when another was there: it can never start
            if order.network != NETWORK:
                raise
            now = self._joined(look=True) if self.wanted else None
            if not self._is_stale(order, joined, now):
                raise
        return starter.start(order, replace(settings, joined=now), progress)

    def _is_stale(self, order: Order, joined: str | None, now: str | None) -> bool:
        """Whether the attempt could not start for its holder's sake; what was made is removed."""
        found = self._client.inspect(order.ref)
        if found is None:
            # not made: its holder went between the look and the request
            return joined != now
        mode = str(found["HostConfig"].get("NetworkMode", ""))
        own = is_labelled(found, order.labels) and found["State"]["Status"] == "created"
        if not own or not mode.startswith("container:") or mode == f"container:{now}":
            return False
        self._client.remove_unstarted(str(found["Id"]))
        return True

    def _joined(self, look: bool = False) -> str | None:
        """The id of the holder that runs, made where there is none; None where none can be had.

        Without `look` one that was seen before is believed in: who cannot join it comes again.
        Raises EngineUnreachableError.
        """
        with self._lock:
            if self._id is not None and not look:
                return self._id
            try:
                self._id = self._found() or self._made()
            except AnswerError as error:
                self._id = None
                self._tell(str(error))
            return self._id

    def _found(self) -> str | None:
        """The holder that runs; one that does not is removed."""
        found = self._client.inspect(self.name)
        if found is None or found["Name"].lstrip("/") != self.name:
            return None
        if not is_labelled(found, self._labels):
            raise AnswerError(409, "a container of that name is not jobd's", self.name)
        if found["State"].get("Running"):
            return str(found["Id"])
        self._client.remove(str(found["Id"]))
        return None

    def _made(self) -> str | None:
        if self._client.image_id(f"{_IMAGE}:{_TAG}") is None:
            made = archive(str(self._client.info().get("Architecture", "")))
            if made is None:
                self._tell("there is no program for this kind of processor")
                return None
            self._client.load_image(made, _IMAGE, _TAG)
        engine_id = self._client.create(self.name, body(self._labels))
        self._client.start(engine_id)
        _log.info("engine: %s holds the network namespace that attempts share", self.name)
        return engine_id

    def _tell(self, why: str) -> None:
        if why != self._told:
            self._told = why
            _log.warning("engine.share_none: attempts get a namespace each: %s", why)

    def sweep(self) -> None:
        """Remove what an earlier daemon left, where it is not wanted any more."""
        if not self.wanted:
            self._remove()

    def close(self, is_used: Callable[[], bool]) -> None:
        """Remove it where no attempt is left; an engine that hangs is not waited for."""
        if self._id is None:
            return

        def collect() -> None:
            with contextlib.suppress(EngineError):
                if not is_used():
                    self._remove()

        thread = threading.Thread(target=collect, name="holder", daemon=True)
        thread.start()
        thread.join(_PATIENCE_S)

    def _remove(self) -> None:
        found = self._client.inspect(self.name)
        if found is not None and is_labelled(found, self._labels):
            with contextlib.suppress(AnswerError):
                self._client.remove(str(found["Id"]))
        self._id = None


def body(labels: Mapping[str, str]) -> dict[str, object]:
    """The create request of the holder: it has nothing, and may do nothing."""
    return {
        "Image": f"{_IMAGE}:{_TAG}",
        "Cmd": [f"/{_PROGRAM}"],
        "User": "65534:65534",
        "Labels": dict(labels),
        "HostConfig": {
            "NetworkMode": NETWORK,
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "Memory": 16 << 20,
            "MemorySwap": 16 << 20,
            "PidsLimit": 8,
            "RestartPolicy": {"Name": "no"},
            "LogConfig": {"Type": "none", "Config": {}},
        },
    }


def archive(architecture: str) -> bytes | None:
    """A tar with the one program for that processor, or None where there is none."""
    known = _CODE.get({"amd64": "x86_64", "arm64": "aarch64"}.get(architecture, architecture))
    if known is None:
        return None
    program = elf(*known)
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        entry = tarfile.TarInfo(_PROGRAM)
        entry.size, entry.mode = len(program), 0o755
        tar.addfile(entry, io.BytesIO(program))
    return made.getvalue()


def elf(machine: int, code: bytes) -> bytes:
    """A program of that machine code alone: ELF, 64 bits, little-endian, one segment."""
    base, headers = 0x400000, 64 + 56
    size = headers + len(code)
    ident = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)
    fields = (2, machine, 1, base + headers, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    header = struct.pack("<16sHHIQQQIHHHHHH", ident, *fields)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    return header + segment + code
