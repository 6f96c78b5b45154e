"""The index over the archive: an SQLite file, the only place that knows SQL. A cache.

What it holds of a run is where it lies and what lists ask for. It is never ahead of the archive,
and where it is behind it catches up: how far it has read each segment is changed in the same
transaction as what it read. Only its roll-ups may reach further back than the archive does.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from jobd.codec import pack_shared, unpack
from jobd.core.archiving import Wanted
from jobd.core.rollups import Rollup
from jobd.journal.archive import Place

#: stands for the job of a run whose record is damaged: no job has that id
DAMAGED = 0
#: a file of another number is made anew
_VERSION = 1
#: what passes by itself: no reason to make the file anew
_PASSING = (
    "SQLITE_FULL",
    "SQLITE_BUSY",
    "SQLITE_LOCKED",
    "SQLITE_CANTOPEN",
    "SQLITE_NOMEM",
    "SQLITE_IOERR",
    "SQLITE_READONLY",
    "SQLITE_PERM",
    "SQLITE_INTERRUPT",
)

# primary keys come first: quick_check of SQLite 3.40 takes others' values in such a table for NULL
_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;
CREATE TABLE segments (number INTEGER PRIMARY KEY, offset INTEGER, lsn INTEGER, crc INTEGER,
    runs INTEGER, newest INTEGER, holes INTEGER);
CREATE TABLE specs (segment INTEGER, job INTEGER, revision INTEGER, place INTEGER,
    PRIMARY KEY (segment, job, revision)) WITHOUT ROWID;
CREATE TABLE runs (id INTEGER PRIMARY KEY, place INTEGER, segment INTEGER, job INTEGER,
    outcome TEXT, dead INTEGER, ended_at INTEGER, key TEXT);
CREATE INDEX runs_of_job ON runs (job, id);
CREATE INDEX runs_of_segment ON runs (segment);
CREATE INDEX runs_by_key ON runs (job, key) WHERE key IS NOT NULL;
CREATE TABLE labels (name TEXT, value TEXT, run INTEGER, PRIMARY KEY (name, value, run))
    WITHOUT ROWID;
CREATE INDEX labels_of_run ON labels (run);
CREATE TABLE bodies (name TEXT, run INTEGER, PRIMARY KEY (name, run)) WITHOUT ROWID;
CREATE INDEX bodies_of_run ON bodies (run);
CREATE TABLE rollups (job INTEGER, hour INTEGER, data BLOB, PRIMARY KEY (job, hour)) WITHOUT ROWID;
"""


class IndexUnusableError(Exception):
    """The file is damaged, of another queue or version: it has to be made anew."""


class IndexBusyError(Exception):
    """The file cannot be used just now: a full disk, or one that does not answer."""


class Row(NamedTuple):
    """What the index holds of one run; `ended_at` in ms UTC, `bodies` the names of its files."""

    id: int
    place: int
    job: int
    outcome: str
    dead: bool
    ended_at: int
    key: str | None
    labels: dict[str, str]
    bodies: tuple[str, ...]


class SegmentRow(NamedTuple):
    """How far a segment was read, how many of its runs are indexed, and when the last ended."""

    number: int
    offset: int
    lsn: int
    crc: int
    runs: int
    newest: int
    holes: int

    @property
    def place(self) -> Place:
        """Where reading goes on."""
        return Place(self.offset, self.lsn, self.crc)


class Index:
    """One open index file. Changes are one thread's; queries any's, each by a connection its own.

    Raises IndexUnusableError and IndexBusyError.
    """

    def __init__(self, path: str, store: bytes) -> None:
        """Opens the file, made where missing."""
        self.path = path
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._closing = threading.Lock()
        self._closed = False
        with _Telling():
            self._check(store)

    @staticmethod
    def remove(path: str) -> None:
        """Take the file away; the last damaged one is kept beside it."""
        for suffix in ("-journal", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.unlink(path + suffix)
        with suppress(FileNotFoundError):
            os.replace(path, path + ".damaged")

    def _connect(self) -> sqlite3.Connection:
        found: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if found is not None:
            return found
        # made by one thread and closed by another
        made = sqlite3.connect(
            self.path, timeout=5.0, isolation_level=None, check_same_thread=False
        )
        made.execute("PRAGMA busy_timeout = 5000")
        made.execute("PRAGMA synchronous = NORMAL")
        with self._closing:
            if self._closed:
                made.close()
                raise IndexBusyError("it is closed")
            self._connections.append(made)
        self._local.connection = made
        return made

    def _check(self, store: bytes) -> None:
        fresh = not os.path.exists(self.path)
        if fresh:
            # with the mode that all of the queue has, whatever the umask
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        db = self._connect()
        # no WAL: its shared memory is a mapped file, a full disk then SIGBUS (fault 19, ext4)
        db.execute("PRAGMA journal_mode = TRUNCATE")
        tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not tables:
            db.executescript(
                f"BEGIN; {_SCHEMA} INSERT INTO meta VALUES ('version', {_VERSION});"
                f"INSERT INTO meta VALUES ('store', x'{store.hex()}'); COMMIT"
            )
            return
        said = dict(db.execute("SELECT name, value FROM meta"))
        if said.get("version") != _VERSION or said.get("store") != store:
            raise IndexUnusableError("it is of another version, or another queue's")
        (word,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if word != "ok":
            raise IndexUnusableError(f"it is damaged: {word:.200}")

    def close(self) -> None:
        """Close every connection; queries under way fail as busy."""
        with self._closing:
            self._closed = True
            for connection in self._connections:
                with suppress(sqlite3.Error):
                    connection.interrupt()
                    connection.close()
            self._connections.clear()

    # -- changing: one thread ----------------------------------------------------------------

    def segments(self) -> dict[int, SegmentRow]:
        """Every segment that was looked at."""
        with _Telling():
            rows = self._connect().execute("SELECT * FROM segments")
            return {row[0]: SegmentRow(*row) for row in rows}

    def add(
        self,
        segment: int,
        behind: Place,
        rows: Sequence[Row],
        specs: Iterable[tuple[int, int, int]],
        rollups: dict[int, dict[tuple[int, int], Rollup]],
        holes: int = 0,
    ) -> None:
        """Take in what stands in a segment before `behind`; a run that is known stays as it is.

        `specs`: job, revision, place. `rollups`: what each run adds, by its id, job and hour.
        """
        with _Telling(), _Transaction(self._connect()) as db:
            new: list[Row] = []
            for row in rows:
                if row.job != DAMAGED:
                    # the same run may stand elsewhere, and be intact there
                    db.execute("DELETE FROM runs WHERE id = ? AND job = ?", (row.id, DAMAGED))
                done = db.execute(
                    "INSERT OR IGNORE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (row.id, row.place, segment, *row[2:7]),
                )
                if done.rowcount:
                    new.append(row)
            db.executemany(
                "INSERT OR IGNORE INTO labels VALUES (?, ?, ?)",
                [(name, value, row.id) for row in new for name, value in row.labels.items()],
            )
            db.executemany(
                "INSERT OR IGNORE INTO bodies VALUES (?, ?)",
                [(name, row.id) for row in new for name in row.bodies],
            )
            db.executemany(
                "INSERT OR IGNORE INTO specs VALUES (?, ?, ?, ?)",
                [(segment, *each) for each in specs],
            )
            _add_rollups(db, [rollups[row.id] for row in new if row.id in rollups])
            newest = max((row.ended_at for row in rows), default=0)
            db.execute(
                "INSERT INTO segments VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (number) DO "
                "UPDATE SET offset = ?2, lsn = ?3, crc = ?4, runs = runs + ?5, "
                "newest = max(newest, ?6), holes = holes + ?7",
                (segment, *behind, len(new), newest, holes),
            )

    def forget(self, segment: int) -> None:
        """Let go of a segment and what it held; its roll-ups stay."""
        with _Telling(), _Transaction(self._connect()) as db:
            inside = "run IN (SELECT id FROM runs WHERE segment = ?)"
            db.execute(f"DELETE FROM labels WHERE {inside}", (segment,))
            db.execute(f"DELETE FROM bodies WHERE {inside}", (segment,))
            for table in ("runs", "specs"):
                db.execute(f"DELETE FROM {table} WHERE segment = ?", (segment,))
            db.execute("DELETE FROM segments WHERE number = ?", (segment,))

    # -- asking: any thread ------------------------------------------------------------------

    def _all(self, sql: str, arguments: Sequence[object] = ()) -> list[tuple[int, ...]]:
        with _Telling():
            return self._connect().execute(sql, arguments).fetchall()

    def places(self, ids: Sequence[int]) -> list[tuple[int, int]]:
        """`(id, place)` of those of the runs that are there."""
        return [(row[0], row[1]) for row in self._of_runs("id, place", ids)]

    def _of_runs(self, what: str, ids: Sequence[int]) -> list[tuple[int, ...]]:
        found: list[tuple[int, ...]] = []
        for start in range(0, len(ids), 500):
            some = ids[start : start + 500]
            marks = ",".join("?" * len(some))
            found += self._all(f"SELECT {what} FROM runs WHERE id IN ({marks})", some)
        return found

    def inside(self, segment: int, start: int, stop: int) -> dict[int, int]:
        """The runs that lie in a segment between two places, and where each does."""
        sql = "SELECT id, place FROM runs WHERE segment = ? AND place >= ? AND place < ?"
        return {row[0]: row[1] for row in self._all(sql, (segment, start, stop))}

    def page(self, wanted: Wanted, below: int, most: int) -> list[tuple[int, int]]:
        """`(id, place)` of up to `most` runs with an id below that, highest first."""
        sql, arguments = _query(wanted)
        rows = self._all(
            f"SELECT id, place FROM runs WHERE id < ?{sql} ORDER BY id DESC LIMIT ?",
            (below, *arguments, most),
        )
        return [(row[0], row[1]) for row in rows]

    def by_key(self, job: int, key: str) -> tuple[int, int] | None:
        """`(id, place)` of the newest run of the job with that key."""
        where = "job = ? AND key = ? ORDER BY id DESC LIMIT 1"
        rows = self._all(f"SELECT id, place FROM runs WHERE {where}", (job, key))
        return (rows[0][0], rows[0][1]) if rows else None

    def spec(self, segment: int, job: int, revision: int) -> int | None:
        """The place of a job's definition in a segment."""
        sql = "SELECT place FROM specs WHERE segment = ? AND job = ? AND revision = ?"
        rows = self._all(sql, (segment, job, revision))
        return rows[0][0] if rows else None

    def newest(self) -> dict[int, int]:
        """The highest id of each job's runs."""
        rows = self._all("SELECT job, max(id) FROM runs GROUP BY job")
        return {row[0]: row[1] for row in rows}

    def keyed(self) -> set[int]:
        """The jobs that have runs with a key."""
        return {row[0] for row in self._all("SELECT DISTINCT job FROM runs WHERE key IS NOT NULL")}

    def segments_of(self, ids: Sequence[int]) -> set[int]:
        """The segments in which these runs are."""
        return {row[0] for row in self._of_runs("DISTINCT segment", ids)}

    def bodies_of(self, segment: int) -> list[str]:
        """The body files of a segment's runs that no run of another segment has."""
        with _Telling():
            rows = self._connect().execute(
                "SELECT DISTINCT b.name FROM bodies b JOIN runs r ON r.id = b.run "
                "WHERE r.segment = ?1 AND NOT EXISTS (SELECT 1 FROM bodies o JOIN runs p "
                "ON p.id = o.run WHERE o.name = b.name AND p.segment <> ?1)",
                (segment,),
            )
            return [row[0] for row in rows]

    def has_body(self, name: str) -> bool:
        """Whether a run that is there has that body file."""
        return bool(self._all("SELECT 1 FROM bodies WHERE name = ? LIMIT 1", (name,)))

    def rollups(
        self, jobs: Sequence[int] | None, since: int, until: int
    ) -> list[tuple[int, int, Rollup]]:
        """`(job, hour, roll-up)` of the jobs (None: all) for the hours from `since` to `until`,
        both since 1970 UTC and inclusive, oldest first."""
        with _Telling():
            rows = self._connect().execute(
                "SELECT job, hour, data FROM rollups WHERE hour BETWEEN ? AND ? ORDER BY hour, job",
                (since, until),
            )
            return [
                (job, hour, Rollup.of(unpack(data)))
                for job, hour, data in rows
                if jobs is None or job in jobs
            ]


def _query(wanted: Wanted) -> tuple[str, list[object]]:
    sql, arguments = "", list[object]()
    if wanted.jobs is not None:
        sql += f" AND job IN ({','.join('?' * len(wanted.jobs))})"
        arguments += wanted.jobs
    if wanted.outcomes is not None:
        dead = " OR dead" if wanted.dead else ""
        sql += f" AND (outcome IN ({','.join('?' * len(wanted.outcomes))}){dead})"
        arguments += wanted.outcomes
    if wanted.since is not None:
        sql += " AND ended_at >= ?"
        arguments.append(wanted.since)
    if wanted.until is not None:
        sql += " AND ended_at <= ?"
        arguments.append(wanted.until)
    for pair in wanted.labels:
        sql += " AND id IN (SELECT run FROM labels WHERE name = ? AND value = ?)"
        arguments += pair
    return sql, arguments


def _add_rollups(db: sqlite3.Connection, added: list[dict[tuple[int, int], Rollup]]) -> None:
    sums: dict[tuple[int, int], Rollup] = {}
    for each in added:
        for at, rollup in each.items():
            sums.setdefault(at, Rollup()).merge(rollup)
    for at, rollup in sums.items():
        row = db.execute("SELECT data FROM rollups WHERE job = ? AND hour = ?", at).fetchone()
        if row is not None:
            rollup.merge(Rollup.of(unpack(row[0])))
        data = pack_shared(rollup.fields())
        db.execute("INSERT OR REPLACE INTO rollups VALUES (?, ?, ?)", (*at, data))


class _Transaction:
    """All or nothing of what is done inside."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> sqlite3.Connection:
        self._connection.execute("BEGIN IMMEDIATE")
        return self._connection

    def __exit__(self, kind: object, value: object, trace: object) -> None:
        if kind is None:
            try:
                self._connection.execute("COMMIT")
                return
            except sqlite3.Error:
                self._roll_back()
                raise
        self._roll_back()

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):
            self._connection.execute("ROLLBACK")


class _Telling:
    """Says in our words what SQLite means by an error."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, sqlite3.Error):
            name = str(getattr(error, "sqlite_errorname", "") or "")
            closed = isinstance(error, sqlite3.ProgrammingError)
            if closed or name.startswith(_PASSING):
                raise IndexBusyError(str(error)) from error
            raise IndexUnusableError(str(error)) from error
        if isinstance(error, OSError):
            raise IndexBusyError(str(error.strerror)) from error
