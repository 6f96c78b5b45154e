"""Jobs without an image: what of a job file's keys is not theirs."""

from __future__ import annotations

from typing import Any

import pytest

from jobd.core.spec import parse, to_mapping
from jobd.core.states import Kind
from jobd.errors import InvalidError


def test_a_process_has_no_settings_of_a_container() -> None:
    given = {"name": "job", "command": ["/bin/true"]}
    more = {"network": "none", "timeout": "5s", "resources": {"shm": "1M"}}
    spec = parse(given, more)
    assert (spec.kind, spec.timeout) == (Kind.PROCESS, 5000), "defaults for containers are not its"
    assert to_mapping(spec)["network"] is to_mapping(spec)["image"] is None
    assert parse(to_mapping(spec)) == spec


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"pull": "always"}, "^pull: .*no image to pull"),
        ({"resources": {"shm": "1M"}}, "^resources.shm: .*own /dev/shm"),
        ({"network": "bridge"}, "^network: .*host's own network"),
        ({"command": ["./run"]}, "^command: './run': .*whole path"),
        ({"command": []}, "^command: expected"),
    ],
)
def test_what_makes_no_sense_for_a_process_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidError, match=said):
        parse({"name": "job", "command": ["true"], **given})
