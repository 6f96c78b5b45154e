"""Which tests may run beside which: `contrib/test` has two workers."""

from __future__ import annotations

from pathlib import Path

import pytest

#: folders whose tests look at the host (its engine, cgroups, mounts): one after the other
OF_THE_HOST = ("engine", "crash", "faults")


# before pytest-xdist reads the marks
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker has what looks at the host; the rest goes by files, long stress runs singly."""
    here = Path(__file__).parent
    for item in items:
        folder = item.path.relative_to(here).parts[0]
        if folder in OF_THE_HOST:
            item.add_marker(pytest.mark.xdist_group("host"))
        elif item.get_closest_marker("slow") is None:
            item.add_marker(pytest.mark.xdist_group(str(item.path.relative_to(here))))
