"""`jobctl status`: health and capacity now, in one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobctl import render
from jobctl.commands.jobs import counts
from jobctl.output import Output

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from jobctl.client import Client

MANUAL = """\
Tells how the daemon, its engine and its host are, what runs, and what waits for what.

  jobctl status
  jobctl status --json

JSON: {"version", "uptime_s", "engine", "capacity", "counts", "draining", "journal", ...}."""

#: a sync slower than this is worth a word (DURABILITY W7 logs them from 1 s on)
_SLOW_SYNC_MS = 1000


def add_arguments(parser: ArgumentParser) -> None:
    """None of its own."""


def run(given: Namespace, client: Client, out: Output) -> int:
    """Tells."""
    status = client.status()
    if out.json:
        out.value(status)
        return 0
    for line in trouble(status):
        out.line(out.paint("red", "!! " + render.escape(line)))
    for name, text in screen(status):
        out.line(f"{out.paint('bold', f'{name:9}')} {render.escape(text)}")
    for waiting in status.get("waiting") or ():
        out.line(render.escape(f"  {waiting.get('runs')} wait: {_why(waiting)}"))
    return 0


def _why(waiting: dict[str, Any]) -> str:
    text, reason = waiting.get("text"), waiting.get("reason")
    return f"{reason}: {text}" if text and reason else str(text or reason)


def trouble(status: dict[str, Any]) -> list[str]:
    """What keeps runs from starting, or threatens them: to be seen first."""
    engine = status.get("engine") or {}
    made = []
    if status.get("draining"):
        drain = status.get("drain") or {}
        by = f" (by {drain['by']}, since {drain['at']})" if drain.get("at") else ""
        made.append(f"DRAINING: no run starts on this host{by}; jobctl undrain lets them")
    if not engine.get("reachable", True):
        text = engine.get("text") or engine.get("error")
        made.append(f"ENGINE {engine.get('name')} IS OUT OF REACH" + (f": {text}" if text else ""))
    elif engine.get("reconciled") is False:
        made.append("RECONCILING: runs start once the engine's containers were compared")
    if status.get("disk_full"):
        made.append("DISK FULL: nothing can be queued")
    for problem in (status.get("configuration") or {}).get("problems") or ():
        made.append(f"CONFIGURATION NOT RELOADED, the one before stays: {problem}")
    alerts = status.get("alerts") or {}
    if alerts.get("problem"):
        made.append(f"ALERTS ARE NOT DELIVERED: {alerts['problem']}")
    last = (status.get("journal") or {}).get("snapshot") or {}
    if last.get("problem"):
        made.append(f"SNAPSHOT FAILED, nothing is lost, the disk fills: {last['problem']}")
    for damage in last.get("damaged") or ():
        made.append(f"SNAPSHOT DAMAGED, nothing is lost: {damage}")
    history = status.get("history") or {}
    if history.get("problem"):
        made.append(f"FINISHED RUNS STAY IN MEMORY, nothing is lost: {history['problem']}")
    if history and not history.get("ready", True):
        percent = history.get("indexed_percent")
        made.append(f"HISTORY CANNOT BE READ YET: its index is being made, {percent} %")
    sync = (status.get("journal") or {}).get("last_sync_ms") or 0
    if sync >= _SLOW_SYNC_MS:
        made.append(f"SLOW DISK: the last sync of the queue took {render.span(sync)}")
    return made


def screen(status: dict[str, Any]) -> list[tuple[str, str]]:
    """The lines of the screen, name and text."""
    engine, journal = status.get("engine") or {}, status.get("journal") or {}
    up = render.span((status.get("uptime_s") or 0) * 1000)
    pid = f", pid {status['pid']}" if status.get("pid") else ""
    made = [
        ("jobd", f"{status.get('version')}, up {up}{pid}"),
        (
            "engine",
            f"{engine.get('name')} {engine.get('version') or ''}".rstrip()
            + ("" if engine.get("reachable", True) else " (out of reach)"),
        ),
        *_processes(status),
        *_capacity(status.get("capacity") or {}),
        ("runs", counts(status.get("counts")) or "none"),
    ]
    if status.get("jobs") is not None:
        made.append(("jobs", str(status["jobs"])))
    alerts = status.get("alerts") or {}
    if alerts.get("open") or alerts.get("undelivered"):
        text = f"{alerts['open']} open, {alerts['undelivered']} messages not delivered"
        made.append(("alerts", text))
    if status.get("paused"):
        made.append(("paused", " ".join(map(str, status["paused"]))))
    if journal:
        made.append(("queue", _journal(journal)))
    history = status.get("history") or {}
    if history.get("segments"):
        made.append(("history", _history(history)))
    return made


def _processes(status: dict[str, Any]) -> list[tuple[str, str]]:
    process = status.get("process") or {}
    if not process.get("enabled"):
        return []
    if not process.get("reachable"):
        return [("processes", f"cannot be started: {process.get('error') or 'not looked at yet'}")]
    return [("processes", f"run as {process.get('user')}, not isolated")]


def _capacity(capacity: dict[str, Any]) -> list[tuple[str, str]]:
    if not capacity:
        return []
    cpus, memory = capacity.get("cpus") or 0, capacity.get("memory") or 0
    kept, held = capacity.get("reserved_cpus") or 0, capacity.get("reserved_memory") or 0
    used = capacity.get("used_cpu")
    cpu = f"{kept:g} of {cpus:g} reserved by runs"
    host = capacity.get("reserve_cpus"), capacity.get("reserve_memory")
    cpu += f", {host[0]:g} kept for the host" if host[0] else ""
    cpu += "" if used is None else f", {used:.3g} in use on the host"
    mem = f"{render.size(held)} of {render.size(memory)} reserved by runs"
    mem += f", {render.size(host[1])} kept for the host" if host[1] else ""
    available = capacity.get("available_memory")
    mem += "" if available is None else f", {render.size(available)} available on the host"
    made = [("cpus", cpu), ("memory", mem)]
    if capacity.get("gpus"):
        made.append(("gpus", f"{capacity.get('reserved_gpus')} of {capacity['gpus']} held by runs"))
    pressure = capacity.get("pressure")
    if pressure:
        made.append(("pressure", _pressure(pressure)))
    return made


def _pressure(pressure: Any) -> str:
    """How much of the time something waited for the resource, as the kernel measures it."""
    if not isinstance(pressure, dict):
        return str(pressure)
    return ", ".join(
        f"{name} {share:.0%}" if isinstance(share, float) else f"{name} {share}"
        for name, share in pressure.items()
    )


def _journal(journal: dict[str, Any]) -> str:
    segments = journal.get("segments")
    text = f"{render.size(journal.get('bytes') or 0)} in {segments} segment"
    text += "" if segments == 1 else "s"
    sync = journal.get("last_sync_ms")
    text += "" if sync is None else f", last sync {sync:.3g} ms"
    last = journal.get("snapshot") or {}
    if last.get("at"):
        text += f", snapshot {last['at']} ({render.size(last.get('bytes') or 0)})"
    return text + (", a snapshot is being made" if last.get("making") else "")


def _history(history: dict[str, Any]) -> str:
    files = history["segments"]
    return (
        f"{render.size(history.get('bytes') or 0)} in {files} file{'' if files == 1 else 's'}, "
        f"{history.get('in_memory')} ended runs in memory"
    )
