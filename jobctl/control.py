"""The part of the Python API that changes runs and the host, and tells what happens on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from jobctl.shape import shaped
from jobctl.values import is_single, split_after
from jobd.errors import TimeOverError
from jobd.wire.envelope import HOLD_MS

if TYPE_CHECKING:
    from jobctl.channel import Channel

Selector = int | str


class Control:
    """What :class:`jobctl.client.Client` has beside queueing and looking at runs."""

    _channel: Channel
    _ask: Callable[[str, dict[str, Any]], dict[str, Any]]
    _change: Callable[[str, dict[str, Any]], dict[str, Any]]
    _collect: Callable[[str, dict[str, Any], str], tuple[list[dict[str, Any]], dict[str, Any]]]
    _payload: Callable[..., dict[str, Any]]
    _fresh_keys: Callable[[], None]

    # --- runs ---------------------------------------------------------------------------------

    def retry(self, *selectors: Selector, payload: Any = None) -> Any:
        """Queues ended runs again: `{id, retry_of}`, or a list where several were asked for.

        Each is a new run of the newest revision of its job, with its own payload or (bytes, or a
        file opened for reading) the one given. ConflictError where none has ended.

            again = jobd.retry(42)["id"]
        """
        self._fresh_keys()
        asked: dict[str, Any] = {"runs": [str(s) for s in selectors]}
        if payload is not None:
            asked.update(self._payload(payload, keep=True) or {"payload": b""})
        answer = self._ask("run.retry", asked)
        rows = [{"id": new, "retry_of": old} for old, new in answer["runs"]]
        return rows[0] if answer["single"] and rows else rows

    def hold(self, *selectors: Selector) -> Any:
        """Keeps waiting runs back until they are released: `{id, status}`, or a list of them."""
        return self._each("run.hold", selectors)

    def release(self, *selectors: Selector) -> Any:
        """Lets held runs start: `{id, status}`, or a list of them."""
        return self._each("run.release", selectors)

    def next(self, *selectors: Selector) -> Any:
        """Puts queued runs before all others of their job and priority: `{id, status}`, or a
        list."""
        return self._each("run.next", selectors)

    def edit(
        self,
        *selectors: Selector,
        priority: int | None = None,
        at: datetime | None = None,
        delay: float | None = None,
        timeout: float | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Any:
        """Changes settings of runs that wait: `{id, status}`, or a list of them.

        `at` or `delay` (seconds from now) is another date, `timeout` (seconds) of the attempts to
        come; `labels` are set beside the others, of active runs too.

            jobd.edit(42, priority=10, delay=0)
        """
        asked: dict[str, Any] = {}
        if priority is not None:
            asked["priority"] = priority
        if at is not None:
            asked["not_before"] = round(at.timestamp() * 1000)
        for name, seconds in (("delay", delay), ("timeout", timeout)):
            if seconds is not None:
                asked[name] = round(seconds * 1000)
        if labels:
            asked["labels"] = dict(labels)
        return self._each("run.edit", selectors, asked)

    def _each(
        self, verb: str, selectors: tuple[Selector, ...], more: dict[str, Any] | None = None
    ) -> Any:
        answer = self._change(verb, {"runs": [str(s) for s in selectors], **(more or {})})
        rows = [{"id": number, "status": word} for number, word in answer["runs"]]
        single = len(selectors) == 1 and is_single(str(selectors[0]))
        return rows[0] if single and rows else rows

    def why(self, *selectors: Selector) -> Any:
        """Why a run is where it is: each constraint with numbers, its place, an estimated start.

        A list where several were asked for.
        """
        rows, last = self._collect("run.why", {"runs": [str(s) for s in selectors]}, "runs")
        return rows[0] if last.get("single") and rows else rows

    # --- jobs ---------------------------------------------------------------------------------

    def set(self, job: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Changes single settings of a job, by their paths: `{job, revision, changed, changes}`.

        None takes the default again. Raises InvalidError naming the key.

            jobd.set("crawl", {"limits.concurrency": 4, "env.LANG": "C", "timeout": "10m"})
        """
        return self._change("job.set", {"job": job, "settings": dict(settings)})

    def history(self, job: str) -> list[dict[str, Any]]:
        """The revisions of a job, newest first: `{revision, at, by, changes}`."""
        return self._collect("job.history", {"job": job}, "revisions")[0]

    # --- the host -----------------------------------------------------------------------------

    def drain(self, *, wait: bool = False, timeout: float | None = None) -> dict[str, Any]:
        """Keeps all runs from starting: `{draining, changed, active}`; queueing goes on.

        With `wait` it returns when no run is active any more. TimeOverError after `timeout`
        seconds; the host stays drained.
        """
        answer = self._change("host.drain", {})
        if not wait or not answer["active"]:
            return answer
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = HOLD_MS if end is None else round((end - time.monotonic()) * 1000)
            hold = max(min(left, HOLD_MS), 0)
            now = self._channel.ask("host.idle", {"hold": hold}, hold_ms=max(hold, 1))
            if now["ready"]:
                return {**answer, "active": 0}
            if end is not None and time.monotonic() >= end:
                runs = ", ".join(map(str, now["active"][:5]))
                raise TimeOverError(f"host: still active after {timeout:g} s: run {runs}")

    def undrain(self) -> dict[str, Any]:
        """Undoes `drain`."""
        return self._change("host.undrain", {})

    # --- what happens -------------------------------------------------------------------------

    def events(
        self,
        *,
        since: datetime | None = None,
        follow: bool = False,
        audit: bool = False,
        after: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        """What happened, oldest first: `{seq, at, event, job, run, ..., by}`.

        From `since` on, or behind the event with the number `after`; with neither from the
        beginning, or with `follow` from now on. With `follow` they come as they happen, without an
        end. `audit`: those alone that somebody asked for; `by` says who.

            for event in jobd.events(follow=True): print(event["event"], event["run"])
        """
        start = None if since is None else round(since.timestamp() * 1000)
        for rows in self.event_pages(since=start, follow=follow, audit=audit, after=after):
            yield from rows

    def event_pages(
        self,
        *,
        since: int | None = None,
        follow: bool = False,
        audit: bool = False,
        after: int | None = None,
    ) -> Iterator[list[dict[str, Any]]]:
        """As `events`, in pieces as they come; `since` is in milliseconds UTC."""
        asked: dict[str, Any] = {"audit": True} if audit else {}
        if since is not None:
            asked["since"] = since
        elif after is None and not follow:
            asked["since"] = 0
        if after is not None:
            asked["after"] = after
        hold = 0
        while True:
            began = time.monotonic()
            answer = self._channel.ask("events.read", {**asked, "hold": hold}, hold_ms=hold)
            if answer["events"]:
                yield shaped(answer["events"])
            asked["after"] = answer["next"]
            if answer["more"]:
                continue
            if not follow:
                return
            # a daemon that answers a held request at once is not asked in a tight loop
            if hold and not answer["events"] and time.monotonic() - began < 0.05:
                time.sleep(0.05)
            hold = HOLD_MS


def parents(after: Any) -> list[list[str]]:
    """`after` of Client.queue as the wire has it: pairs of a selector and a condition."""
    return [list(split_after(str(text))) for text in after]
