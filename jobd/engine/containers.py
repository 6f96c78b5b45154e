"""The engine's protocol for attempts that are containers, on top of an engine's API.

Each call looks the attempt's container up by name and labels first, so that one which somebody
else made under that name is never signalled, read or removed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import replace
from enum import Enum
from typing import Any, Protocol

from jobd.core.policy import Rules
from jobd.engine import dialects, holder, images, imagestore, listener, pulls, starting
from jobd.engine.base import (
    Ending,
    EngineInfo,
    Found,
    GoneError,
    Line,
    Order,
    Phase,
    Progress,
    Started,
    Usage,
)
from jobd.engine.dialects import Dialect
from jobd.engine.refusals import AnswerError, missing_program
from jobd.engine.starting import Starter, milliseconds
from jobd.engine.stream import BrokenStreamError, FrameParser, LineEnds, Resumer
from jobd.engine.usage import Cgroups, CgroupSettings, usage_of

#: a batch of output is given out when it has this many lines or bytes, or nothing more is there
BATCH_LINES = 2_000
BATCH_BYTES = 1 << 20
#: how much of a log's end is asked for when a silent stream is taken up again
TAIL = 200
#: how long after its stream an attempt may go on before the stream counts as broken, in seconds
END_PATIENCE_S = 2.0
#: how long a container may be shown as running without a process, in seconds
STUCK_S = 5.0

_log = logging.getLogger(__name__)
#: Docker's words, and Podman's
_NOT_RUNNING = re.compile("is not running|can only kill running containers", re.IGNORECASE)


class _Read(Enum):
    """How a reading of the log came to its end."""

    #: the container's end, or the engine's
    END = 0
    SILENCE = 1
    #: lines may lie before the tail that was asked for
    MISSED = 2


class Client(starting.Client, pulls.Client, imagestore.Client, holder.Client, Protocol):
    """The engine's API as docker.py gives it. Raises AnswerError, EngineUnreachableError."""

    url: str
    closed: bool

    def close(self) -> None: ...
    def version(self) -> dict[str, Any]: ...
    def labelled(self, label: str) -> list[dict[str, Any]]: ...
    def kill(self, engine_id: str, signal: str) -> None: ...
    def init_words(self, engine_id: str, late: bool) -> bytes: ...
    def log(
        self,
        engine_id: str,
        since_ns: int,
        tail: int | None,
        follow: bool,
        idle_s: float,
        late: bool,
    ) -> Generator[tuple[bytes, bool] | None, None, None]: ...


class ContainerEngine:
    """Attempts as containers, one each. See :class:`jobd.engine.base.Engine` for the calls."""

    def __init__(
        self,
        api: Client,
        store: bytes,
        cgroups: CgroupSettings,
        idle_s: float,
        rules: Callable[[], Rules] | None = None,
        share_none: bool = False,
    ) -> None:
        if len(store) != 16:
            raise ValueError(f"store: {len(store)} bytes; a uuid has 16")
        self._api = api
        #: what the label jobd.store says
        self.store = store.hex()
        self._idle_s = idle_s
        self._rules = rules
        self._cgroups = Cgroups(cgroups)
        found = images.Images(api)
        #: built, tagged and removed here; an engine without images has no such attribute
        self.images = imagestore.ImageStore(api, found)
        self._starter = Starter(api, found, 2 * (os.cpu_count() or 1))
        self._holder = holder.Holder(api, self.store, share_none)
        self._is_local = api.url.startswith("unix:")
        self._dialect: Dialect | None = None
        self._parents = False
        #: since when the process of one shown as running is seen to be gone
        self._stuck: dict[str, float] = {}

    def connect(self) -> EngineInfo:
        """As in the protocol; settles what the engine can do. Call it before all others."""
        version, info = self._api.version(), self._api.info()
        first = self._dialect is None
        dialect = dialects.DOCKER
        if dialects.is_podman(version):
            dialect = dialects.podman(*listener.limits(self._api.url))
        self._parents = self._is_local and self._cgroups.can_parent(
            str(info.get("CgroupDriver", ""))
        )
        self._dialect = dialect
        if first:
            self._holder.sweep()
        if first and self._parents:
            self._cgroups.sweep(f"jobd-{self.store[:8]}-", [found.ref for found in self.found()])
        return EngineInfo(
            name=dialect.name,
            version=str(version.get("Version", "")),
            cpus=float(info.get("NCPU", 0)),
            memory=int(info.get("MemTotal", 0)),
            notes=dialects.notes(dialect, info, self._parents, self._api.url),
            # containers outlive a Docker with live-restore, and Podman's service in any case
            started_at=None
            if dialect.outlives or info.get("LiveRestoreEnabled")
            else listener.started_at(self._api.url),
        )

    def listens(self) -> bool:
        """Whether anybody listens at the engine's socket; no work for the engine."""
        return not self._is_local or listener.is_there(self._api.url)

    def start(self, order: Order, progress: Progress) -> Started:
        """As in the protocol. GoneError where somebody removes the container meanwhile."""
        if order.labels.get("jobd.store") != self.store:
            raise ValueError(f"{order.ref}: its label jobd.store is not this engine's")
        settings = self._known().settings
        if self._parents:
            settings = replace(settings, cgroup_parent=self._cgroups.parent(order.ref))
        if self._rules is not None:
            settings = replace(settings, rules=self._rules())
        return self._holder.start(self._starter, order, settings, progress)

    def _known(self) -> Dialect:
        if self._dialect is None:
            self.connect()
        assert self._dialect is not None
        return self._dialect

    def phase(self, ref: str) -> Phase:
        """As in the protocol."""
        return dialects.phase(str(self._ours(ref)["State"]["Status"]))

    def output(self, ref: str, since_ns: int) -> Iterator[list[Line]]:
        """As in the protocol. Times rise within one stream, not across both.

        The parts of a line longer than 16 KiB may all bear its first part's time (Docker 20.10).
        """
        found = self._ours(ref)
        at_rest = dialects.phase(str(found["State"]["Status"])) is Phase.EXITED
        ends, engine_id, resumer = LineEnds(), str(found["Id"]), Resumer(since_ns)
        for batch in self._lines(ref, engine_id, resumer, at_rest and not self._known().late_words):
            yield ends.mend(batch)

    def _lines(
        self, ref: str, engine_id: str, resumer: Resumer, at_rest: bool
    ) -> Iterator[list[Line]]:
        """The lines as the engine gives them, each once; empty batches are silences.

        `at_rest`: it had ended before, so one reading has all that there is.
        """
        try:
            if at_rest:
                while (
                    yield from self._read(engine_id, resumer, None, follow=False)
                ) is _Read.SILENCE:
                    resumer.again()
                return
            while not self._api.closed:
                yield from self._follow(ref, engine_id, resumer)
                has_ended = self._has_ended(ref)
                # what is followed often ends without the last words: Docker 20.10 lost them in 5
                # of 6 tries, also by its own `logs -f`. So the end is read once more, from rest
                resumer.again()
                if (yield from self._read(engine_id, resumer, TAIL, follow=False)) is _Read.MISSED:
                    resumer.again()
                    yield from self._read(engine_id, resumer, None, follow=False)
                if has_ended:
                    return
                # the stream broke, and the attempt goes on
                yield []
                resumer.again()
        except AnswerError as error:
            if error.status == 404:
                raise GoneError(f"{ref}: removed by somebody") from None
            raise

    def _has_ended(self, ref: str) -> bool:
        """Whether a stream's end is the attempt's: the engine notes that some 20 ms later."""
        give_up = time.monotonic() + END_PATIENCE_S
        while dialects.phase(self._ours(ref)["State"]["Status"]) in (Phase.RUNNING, Phase.UNCLEAR):
            if self._api.closed or time.monotonic() >= give_up:
                return False
            time.sleep(0.02)
        return True

    def _follow(self, ref: str, engine_id: str, resumer: Resumer) -> Iterator[list[Line]]:
        """The log until it ends or breaks, asked for again after each silence."""
        tail: int | None = None
        while not self._api.closed:
            how = yield from self._read(engine_id, resumer, tail, follow=True)
            if how is _Read.END:
                return
            self._unstick(ref, self._ours(ref))
            # all since a time is looked for in the whole log; its end suffices after a silence
            tail = TAIL if how is _Read.SILENCE else None
            resumer.again()

    @property
    def _late(self) -> bool:
        return self._dialect is not None and self._dialect.late_headers

    def _read(
        self, engine_id: str, resumer: Resumer, tail: int | None, *, follow: bool
    ) -> Generator[list[Line], None, _Read]:
        """One reading of the log; with `tail`, of that many lines at its end if they suffice."""
        parser, batch, size = FrameParser(), list[Line](), 0
        unproven = tail is not None
        since_ns = 0 if unproven else resumer.since_ns
        log = self._api.log(engine_id, since_ns, tail, follow, self._idle_s, self._late)
        with contextlib.closing(log) as pieces:
            try:
                for piece in pieces:
                    if piece is None or self._api.closed:
                        yield batch
                        return _Read.SILENCE
                    lines = parser.feed(piece[0])
                    if unproven and lines:
                        if not resumer.misses_nothing(lines[0]):
                            return _Read.MISSED
                        unproven = False
                    batch += resumer.fresh(lines)
                    size += len(piece[0])
                    if batch and (not piece[1] or len(batch) >= BATCH_LINES or size >= BATCH_BYTES):
                        yield batch
                        batch, size = [], 0
            except BrokenStreamError:
                # the engine went away, or cannot read its own log: what came is kept
                pass
        if batch:
            yield batch
        return _Read.END

    def ending(self, ref: str) -> Ending | None:
        """As in the protocol."""
        found = self._ours(ref)
        state = found["State"]
        self._unstick(ref, found)
        finished_at = milliseconds(state["FinishedAt"])
        if (
            state.get("Running")
            or not finished_at
            or dialects.phase(state["Status"]) is Phase.CREATED
        ):
            return None
        parent = self._cgroups.read_parent(ref) if self._is_local else None
        sampled = self._cgroups.sample(ref)
        usage = usage_of(parent, sampled)
        exit_code = int(state["ExitCode"])
        error = str(state.get("Error") or "") or None
        dialect = self._known()
        if error is None and exit_code in dialect.init_failed:
            # the init starts, and only then finds that there is no such program
            with contextlib.suppress(AnswerError):
                words = self._api.init_words(str(found["Id"]), dialect.late_words)
                said = missing_program(words)
                exit_code, error = said or (exit_code, None)
        return Ending(
            exit_code=exit_code,
            started_at=milliseconds(state["StartedAt"]),
            finished_at=finished_at,
            oom=bool(state.get("OOMKilled"))
            or any(r and r.oom_kills for r in (parent, sampled))
            or (dialect.silent_oom and exit_code == 137 and _is_full(found, usage)),
            error=error,
            usage=usage,
        )

    def _unstick(self, ref: str, found: Mapping[str, Any]) -> None:
        """Have the engine look again at a container that it shows as running without a process.

        A Docker whose containerd was killed misses an end in every second try, and for ever; told
        to signal what is gone, it looks, and has the right exit status (Docker 20.10).
        """
        state = found["State"]
        pid = int(state.get("Pid") or 0)
        if not self._is_local or not state.get("Running") or not pid or _is_there(pid):
            self._stuck.pop(ref, None)
            return
        since = self._stuck.setdefault(ref, time.monotonic())
        if time.monotonic() - since < STUCK_S or not listener.shares_pids(self._api.url):
            return
        _log.warning("engine: %s: shown as running, and its process is gone: asked again", ref)
        self._stuck[ref] = time.monotonic()
        # its containerd may still be away: later, then
        with contextlib.suppress(AnswerError):
            self._api.kill(str(found["Id"]), "SIGTERM")

    def signal(self, ref: str, signal: str) -> None:
        """As in the protocol."""
        engine_id = str(self._ours(ref)["Id"])
        try:
            self._api.kill(engine_id, signal)
        except AnswerError as error:
            if error.status == 404:
                raise GoneError(f"{ref}: removed by somebody") from None
            # not running: created, or ended meanwhile
            if error.status != 409 and not _NOT_RUNNING.search(error.text):
                raise

    def usage(self, ref: str) -> Usage:
        """As in the protocol. A look at a few files; once an attempt, a question to the engine."""
        if not self._is_local:
            return Usage()
        if self._parents and not self._cgroups.is_placed(ref):
            self._cgroups.found_below_parent(ref)
        if not self._cgroups.is_placed(ref):
            with contextlib.suppress(GoneError):
                found = self._ours(ref)
                if pid := int(found["State"].get("Pid") or 0):
                    self._cgroups.found_at(ref, pid, str(found["Id"]))
        parent = self._cgroups.read_parent(ref, alive=True) if self._parents else None
        return usage_of(parent, self._cgroups.sample(ref))

    def discard(self, ref: str) -> None:
        """As in the protocol. Not ours under that name: left alone."""
        with contextlib.suppress(GoneError):
            engine_id = str(self._ours(ref)["Id"])
            try:
                self._api.remove(engine_id)
            except AnswerError as error:
                # 409: "removal of container ... is already in progress"
                if error.status not in (404, 409):
                    raise
        self._cgroups.forget(ref)
        self._stuck.pop(ref, None)

    def found(self) -> list[Found]:
        """As in the protocol."""
        rows = self._api.labelled(f"jobd.store={self.store}")
        return [
            Found(
                ref=str(row["Names"][0]).lstrip("/") if row.get("Names") else str(row["Id"]),
                labels=dict(row.get("Labels") or {}),
                engine_id=str(row["Id"]),
                phase=dialects.phase(str(row["State"])),
            )
            for row in rows
        ]

    def close(self) -> None:
        """As in the protocol. Streams under way end at their next line or silence."""
        self._holder.close(lambda: bool(self.found()))
        self._api.close()

    def _ours(self, ref: str) -> dict[str, Any]:
        """The attempt's container. Raises GoneError, also where the name is somebody else's."""
        found = self._api.inspect(ref)
        if found is None or found["Name"].lstrip("/") != ref:
            raise GoneError(f"{ref}: the engine knows no such container")
        if not starting.is_labelled(found, {"jobd.store": self.store}):
            raise GoneError(f"{ref}: a container of that name is there and is not ours")
        return found


def _is_full(found: Mapping[str, Any], usage: Usage) -> bool:
    """Whether a container's memory came near its limit (facts: 97 % and more)."""
    limit = int(found["HostConfig"].get("Memory") or 0)
    return limit > 0 and (usage.memory_peak or 0) >= limit * 0.97


def _is_there(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")
