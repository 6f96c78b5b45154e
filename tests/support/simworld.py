"""The world of the simulation: an engine with its attempts, and workers who report on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from jobd.core.commands import (
    Report,
    ReportEnded,
    ReportLost,
    ReportRefused,
    ReportStarted,
    ReportUnstarted,
)
from jobd.core.effects import DiscardAttempt, Effect, SignalAttempt, StartAttempt
from jobd.core.entities import Run
from jobd.core.model import Now
from jobd.core.state import State
from jobd.core.states import RunState

Key = tuple[int, int]


@dataclass
class Container:
    """What the engine has of an attempt. `ends_in` counts down milliseconds; the moments that the
    engine tells are the wall clock's."""

    ends_in: int
    exit_code: int
    oom: bool = False
    host_fault: bool = False
    gone: bool = False
    #: milliseconds after a stop signal, None: it does not listen
    listens: int | None = 0
    started_at: int = 0
    finished_at: int | None = None

    @property
    def runs(self) -> bool:
        return self.finished_at is None and not self.gone


@dataclass
class Driver:
    """Who looks after an attempt in this life of the daemon."""

    begins_in: int
    started: bool = False
    told: bool = False
    reported_start: bool = False
    reported_end: bool = False
    mail: list[tuple[int, Report]] = field(default_factory=list)


class World:
    """An engine, and the drivers of the daemon that lives now."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.willing = False
        self.containers: dict[Key, Container] = {}
        self.drivers: dict[Key, Driver] = {}
        self._mail: list[tuple[int, int, Report]] = []
        self._last: int | None = None

    # -- effects ---------------------------------------------------------------------------

    @staticmethod
    def start_effect(run: Run) -> StartAttempt:
        """What dispatch asks for after a claim."""
        return StartAttempt(run.id, len(run.attempts or ()))

    def perform(self, effect: Effect, now: Now) -> None:
        """Set an effect going."""
        key = (effect.run, effect.number)
        if isinstance(effect, StartAttempt):
            late = 0 if self.willing else self.rng.choice([0, 0, 500, 20_000])
            self.drivers[key] = Driver(late, started=effect.started)
        elif isinstance(effect, SignalAttempt):
            self._signal(key, effect.signal)
        else:
            assert isinstance(effect, DiscardAttempt)
            container = self.containers.pop(key, None)
            assert container is None or not container.runs, f"{key}: discarded while it runs"
            self.drivers.pop(key, None)

    def _signal(self, key: Key, signal: str) -> None:
        driver, container = self.drivers.get(key), self.containers.get(key)
        if driver is not None:
            driver.told = True
        if container is not None and container.runs:
            if signal == "SIGKILL":
                container.ends_in, container.exit_code = 0, 137
            elif container.listens is not None and container.listens < container.ends_in:
                container.ends_in, container.exit_code = container.listens, 143

    def adopt_all(self, state: State, now: Now) -> Iterator[Effect]:
        """The daemon is new: its drivers and their mail are gone, the engine's containers stay."""
        self.drivers.clear()
        self._mail.clear()
        self._last = now.mono
        for run in list(state.active.values()):
            attempt = run.attempt
            assert attempt is not None
            yield StartAttempt(run.id, attempt.number, attempt.started is not None)
            if attempt.stopping is not None:
                yield SignalAttempt(run.id, attempt.number, run.spec.stop_signal)
        # leftovers of attempts whose end is known are swept
        for run_id, number in list(self.containers):
            found = state.runs.get(run_id)
            attempt = found.attempt if found is not None else None
            if found is None or attempt is None:
                continue
            if found.state is not RunState.ACTIVE or attempt.number != number:
                yield DiscardAttempt(run_id, number)

    # -- time ------------------------------------------------------------------------------

    def go_on(self, now: Now) -> None:
        """Let what goes on at the engine go on; drivers write reports of what they see."""
        passed = 0 if self._last is None else now.mono - self._last
        self._last = now.mono
        for container in self.containers.values():
            if container.runs:
                container.ends_in -= passed
                if container.ends_in <= 0:
                    container.finished_at = now.wall + min(0, container.ends_in)
        for key, driver in self.drivers.items():
            driver.begins_in -= passed
            self._drive(key, driver, now)

    def _drive(self, key: Key, driver: Driver, now: Now) -> None:
        container = self.containers.get(key)
        if driver.reported_end:
            return
        if container is None:
            if driver.started:
                self._end(driver, now, ReportLost(*key, "its container is gone"))
            elif driver.told:
                self._end(driver, now, ReportUnstarted(*key, "told to stop", cancelled=True))
            elif driver.begins_in <= 0:
                self._begin(key, driver, now)
            return
        if not driver.reported_start and not driver.started:
            driver.reported_start = driver.started = True
            self._write(now, ReportStarted(*key, "engine", "image", container.started_at))
        if container.gone:
            self._end(driver, now, ReportLost(*key, "its container is gone"))
        elif container.finished_at is not None:
            report = ReportEnded(
                *key,
                container.exit_code,
                container.finished_at,
                oom=container.oom,
                host_fault=container.host_fault and not driver.told,
            )
            self._end(driver, now, report)
        elif not self.willing and self.rng.random() < 0.01:
            container.gone = True

    def _begin(self, key: Key, driver: Driver, now: Now) -> None:
        rng = self.rng
        others = [other for other, c in self.containers.items() if other[0] == key[0] and c.runs]
        assert not others, f"{key}: a second live attempt beside {others}"
        if not self.willing and rng.random() < 0.1:
            word = rng.choice(["refused", "host"])
            self._end(
                driver,
                now,
                ReportRefused(*key, "no such image")
                if word == "refused"
                else ReportUnstarted(*key, "the host"),
            )
            return
        if self.willing:
            made = Container(rng.choice([0, 500]), 0)
        else:
            made = Container(
                rng.choice([0, 500, 5_000, 60_000, 10_000_000]),
                rng.choice([0, 0, 1, 4, 137]),
                oom=rng.random() < 0.2,
                host_fault=rng.random() < 0.15,
                listens=rng.choice([0, 2_000, None]),
            )
        made.started_at = now.wall
        self.containers[key] = made

    # -- mail ------------------------------------------------------------------------------

    def _end(self, driver: Driver, now: Now, report: Report) -> None:
        driver.reported_end = True
        self._write(now, report)

    def _write(self, now: Now, report: Report) -> None:
        rng = self.rng
        for _ in range(1 if self.willing or rng.random() < 0.8 else 2):
            late = 0 if self.willing else rng.choice([0, 0, 0, 100, 10_000])
            self._mail.append((now.mono + late, rng.randrange(100), report))

    def post(self, now: Now) -> list[Report]:
        """The reports that arrive now, in no order."""
        arrived = sorted((m for m in self._mail if m[0] <= now.mono), key=lambda m: m[:2])
        self._mail = [m for m in self._mail if m[0] > now.mono]
        return [report for _, _, report in arrived]

    def left(self) -> list[Key]:
        """What the engine still has."""
        return list(self.containers)
