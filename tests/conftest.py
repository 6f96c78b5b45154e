"""Which tests may run beside which: `contrib/test` has two workers."""

from __future__ import annotations

from typing import Any

import pytest

#: folders whose tests look at the host (its engine, cgroups, mounts): one after the other
OF_THE_HOST = ("engine", "crash", "faults", "systemd")
#: files of long tests that need nothing of each other
SINGLY = (
    "tests/unit/test_estimate_days.py",
    "tests/unit/test_mutants.py",
    "tests/unit/test_simulation_days.py",
)


def group(nodeid: str) -> str:
    """What has to stay together: all that looks at the host, else a file's tests."""
    file = nodeid.partition("::")[0]
    if file.split("/")[1] in OF_THE_HOST:
        return "host"
    return nodeid if file in SINGLY else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests go to the workers by :func:`group`."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    return ByGroup(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests have found out is printed, from whichever worker: the property `told`."""
    for report in terminalreporter.getreports("passed"):
        for name, text in report.user_properties:
            if name == "told":
                terminalreporter.section(report.nodeid, sep="-")
                terminalreporter.write_line(str(text))
