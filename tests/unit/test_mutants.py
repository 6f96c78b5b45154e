"""Deliberate bugs: the tests catch each of them (fault matrix, row 65).

The slow one runs, for each, the test that is named to catch it, on jobd with that bug.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.support.mutants import BY_NAME, MUTANTS, ROOT, Mutant


def test_there_are_many_and_each_is_another() -> None:
    assert len(MUTANTS) == len(BY_NAME) >= 50
    assert len({mutant.edits for mutant in MUTANTS}) > 45


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_it_can_be_made_and_its_test_is_there(mutant: Mutant) -> None:
    compile(mutant.source(), mutant.file, "exec")
    file, _, test = mutant.caught_by.partition("::")
    text = (ROOT / "tests" / file).read_text()
    assert re.search(rf"^def {test.partition('[')[0]}\(", text, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_it_is_caught(mutant: Mutant) -> None:
    options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "tests.support.mutating"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, f"tests/{mutant.caught_by}"],
        cwd=ROOT,
        env={**os.environ, "JOBD_MUTANT": mutant.name, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=110,
    )
    # 1: a test failed; anything else, as 4 for a test that is not there, proves nothing
    assert done.returncode == 1, f"{mutant.name} was not caught:\n{done.stdout[-3000:]}"
    assert "AssertionError: too late" not in done.stdout
