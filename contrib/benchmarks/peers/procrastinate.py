"""procrastinate on PostgreSQL, by the very statement of its `defer`."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import subprocess
from pathlib import Path

from benchmarks.peers import Peer
from benchmarks.rig import Missing, Rig, wait_for
from benchmarks.wires import Postgres

_SCHEMA = """
import sys, asyncio, procrastinate
from procrastinate import PsycopgConnector
async def main():
    app = procrastinate.App(connector=PsycopgConnector(conninfo=sys.argv[1]))
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
asyncio.run(main())
"""
#: `defer_jobs` of its sql/queries.sql, with the arguments in place
_DEFER = (
    "SELECT unnest(procrastinate_defer_jobs_v1(ARRAY[ROW('bench', 'task', 0, NULL, NULL, "
    '\'{{"payload": "{payload}"}}\'::jsonb, NULL)]::procrastinate_job_to_defer_v1[])) AS id;'
)


def start(rig: Rig, payload: int) -> Peer:
    """Start a cluster of its own, as the user postgres where this is root."""
    bins = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not bins:
        raise Missing("postgresql is not installed")
    folder = rig.folder / "postgres"
    folder.mkdir()
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    options: dict[str, str] = {}
    if os.geteuid() == 0:
        try:
            shutil.chown(folder, user)
        except LookupError:
            raise Missing("there is no user postgres to run PostgreSQL as") from None
        options = {"user": user}
    run = {"capture_output": True, "cwd": folder, **options}
    data = folder / "data"
    made = subprocess.run(
        [f"{bins[-1]}/initdb", "-A", "trust", "-U", "bench", "-D", data],
        **run,  # type: ignore[call-overload]
    )
    if made.returncode != 0:
        raise Missing(f"initdb: {made.stderr.decode().strip()[-200:]}")
    env, syncs = rig.counting("postgres")
    settings = f"-c listen_addresses= -c unix_socket_directories={folder} -c max_connections=100"
    rig.start(
        [f"{bins[-1]}/postgres", "-D", str(data), *settings.split()], env, cwd=folder, **options
    )
    where = str(folder / ".s.PGSQL.5432")
    wait_for(lambda: Path(where).exists() and _answers(where), "postgres")
    made = subprocess.run(
        [rig.peers / "bin/python", "-c", _SCHEMA, f"host={folder} user=bench dbname=postgres"],
        capture_output=True,
    )
    if made.returncode != 0:
        raise Missing(f"procrastinate: {made.stderr.decode().strip().splitlines()[-1:]}")
    arguments = {
        "path": where, "user": "bench", "database": "postgres",
        "statement": _DEFER.format(payload="x" * payload),
    }  # fmt: skip
    return Peer(
        "procrastinate", "the statement of its defer, PostgreSQL as it comes (fsync on)",
        lambda n: {"wire": "Postgres", "arguments": arguments, "clients": n},
        syncs,
    )  # fmt: skip


def _answers(where: str) -> bool:
    try:
        Postgres(where, "bench", "postgres", "").connect().close()
    except RuntimeError:
        return False
    return True
