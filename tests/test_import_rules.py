"""The import rules of ARCHITECTURE.md, executed: layers, one door per library, no cycles.

What the client loads on its hot path is looked at in tests/unit/test_jobctl_imports.py.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

#: ARCHITECTURE "Imports only go down": what a name may import lies on a lower level
LEVELS = {
    "errors": 0,
    "cron": 1,
    "codec": 1,
    "units": 1,
    "core": 2,
    "wire": 3,
    "journal": 3,
    "capacity": 3,
    "forecast": 3,
    "engine": 3,
    "runlog": 3,
    "intake": 3,
    "alerts": 3,
    "history": 4,
    "server": 4,
    "daemon": 5,
    "__main__": 6,
}

#: the one look sideways: a log is made of what an engine gives (Line, Stream)
SIDEWAYS = {("jobd.runlog", "jobd.engine.base")}

#: what the client may know of the daemon
CLIENT_MAY = (
    "jobd.wire",
    "jobd.codec",
    "jobd.errors",
    "jobd.core.model",
    "jobd.core.states",
    "jobd.core.spec",
    "jobd.core.jobfile",
)

#: libraries that have one door each
DOORS = {
    "docker": "jobd.engine.docker",
    "psutil": "jobd.capacity.probe",
    "croniter": "jobd.cron.expression",
    "msgpack": "jobd.codec",
    "sqlite3": "jobd.history.index",
}

#: a pure core knows no clock, disk, network, process, thread, chance or log
IMPURE = frozenset(
    {
        "time",
        "os",
        "io",
        "pathlib",
        "shutil",
        "tempfile",
        "socket",
        "select",
        "selectors",
        "ssl",
        "http",
        "urllib",
        "subprocess",
        "signal",
        "threading",
        "multiprocessing",
        "concurrent",
        "queue",
        "asyncio",
        "sched",
        "random",
        "secrets",
        "uuid",
        "logging",
        "zmq",
        "resource",
        "platform",
        "getpass",
        "pwd",
        "grp",
        "fcntl",
        "mmap",
    }
)


def modules() -> dict[str, Path]:
    """Every module of ours by name."""
    found = {}
    for top in ("jobd", "jobctl"):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(name: str) -> Iterator[tuple[str, int]]:
    """`(module, line)` for everything that the module `name` imports, at any depth of its code."""
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                # `from jobd.core import model` is an import of jobd.core.model
                yield (whole if whole in MODULES else base), node.lineno


def within(module: str, *parents: str) -> bool:
    """True when `module` is one of `parents` or lies inside one."""
    return any(module == parent or module.startswith(parent + ".") for parent in parents)


def level(module: str) -> int | None:
    """The level of a module of jobd; None for the bare package, which everybody may import."""
    parts = module.split(".")
    return LEVELS[parts[1]] if len(parts) > 1 else None


def broken(source: str, target: str) -> str | None:
    """Why `source` (a module of ours) may not import `target`, or None when it may."""
    door = DOORS.get(target.split(".")[0])
    if door and source != door:
        return f"{target.split('.')[0]} is imported in {door} alone"
    if within(source, "jobctl"):
        allowed = not within(target, "jobd") or within(target, *CLIENT_MAY) or target == "jobd"
        return None if allowed else "the client knows the wire and no more"
    if within(target, "jobctl"):
        return "the daemon does not know the client"
    if within(source, "jobd.core") and target.split(".")[0] in IMPURE:
        return "the core is pure"
    if not within(target, "jobd") or level(target) is None or level(source) is None:
        return None
    if source.split(".")[1] == target.split(".")[1]:
        return None
    if any(within(source, a) and target == b for a, b in SIDEWAYS):
        return None
    here, there = level(source), level(target)
    assert here is not None
    assert there is not None
    return None if there < here else f"imports go down: {here} may not see {there}"


def test_every_part_of_jobd_has_a_level() -> None:
    parts = {name.split(".")[1] for name in MODULES if name.startswith("jobd.")}
    assert parts <= set(LEVELS), "a new part: say in ARCHITECTURE.md and LEVELS where it stands"
    assert {"errors", "codec", "core", "engine"} <= parts, "the modules were not found"


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_down_and_through_the_doors(name: str) -> None:
    found = [
        f"{MODULES[name].relative_to(ROOT)}:{line}: imports {target}: {why}"
        for target, line in imports(name)
        if (why := broken(name, target))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("jobd.core.decide", "jobd.wire.verbs"),
        ("jobd.core.decide", "time"),
        ("jobd.core.state", "os.path"),
        ("jobd.wire.verbs", "jobd.journal"),
        ("jobd.journal.segment", "jobd.engine.base"),
        ("jobd.runlog.writer", "jobd.engine.docker"),
        ("jobd.server.runs", "jobd.daemon.config"),
        ("jobd.daemon.assembly", "docker"),
        ("jobd.daemon.assembly", "jobctl.client"),
        ("jobd.errors", "jobd.codec"),
        ("jobctl.client", "jobd.journal.record"),
        ("jobctl.client", "jobd.core"),
        ("jobctl.client", "msgpack"),
        ("jobctl.cli", "psutil"),
    ],
)
def test_the_rules_refuse_what_they_are_for(source: str, target: str) -> None:
    assert broken(source, target)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("jobd.runlog.writer", "jobd.engine.base"),
        ("jobd.core.decide", "jobd.core.model"),
        ("jobd.daemon.assembly", "jobd.errors"),
        ("jobctl.client", "jobd.core.states"),
        ("jobd.engine.docker", "docker.errors"),
        ("jobd.server.socket", "jobd"),
    ],
)
def test_the_rules_allow_what_they_are_for(source: str, target: str) -> None:
    assert broken(source, target) is None


def test_no_import_cycle() -> None:
    graph = {
        name: {target for target, _ in imports(name) if target in MODULES and target != name}
        for name in MODULES
    }
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join((*above[above.index(name) :], name))
        if name not in done:
            for target in sorted(graph[name]):
                visit(target, (*above, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())
