"""Says how much of the pure packages' branches the tests took; exits 1 when it is too little.

Run after `coverage run`, with the report's files from pyproject.toml. Lines alone would flatter:
90 % of the lines can leave half of the decisions untried.
"""

from __future__ import annotations

import json
import sys
import tempfile

import coverage

#: percent of branches that have to be taken, over all pure packages together
ENOUGH = 90.0


def main() -> int:
    """Print each file's branches and the sum; 0 when at least ENOUGH percent were taken."""
    data = coverage.Coverage()
    data.load()
    taken = whole = 0
    rows = []
    for name, numbers in _files(data):
        taken += numbers["covered_branches"]
        whole += numbers["num_branches"]
        rows.append((name, numbers["covered_branches"], numbers["num_branches"]))
    for name, part, all_of_it in sorted(rows):
        if part < all_of_it:
            print(f"   {name}: {part} of {all_of_it} branches", file=sys.stderr)
    if not rows:
        print("   no file of the pure packages was measured", file=sys.stderr)
        return 1
    percent = 100.0 * taken / whole if whole else 100.0
    print(
        f"   {percent:.1f} % of {whole} branches in {len(rows)} files, at least {ENOUGH:.0f} %"
        " are wanted",
        file=sys.stderr,
    )
    return 0 if percent >= ENOUGH else 1


def _files(data: coverage.Coverage) -> list[tuple[str, dict[str, int]]]:
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        data.json_report(outfile=report.name)
        found = json.load(report)
    return [(name, file["summary"]) for name, file in found["files"].items()]


if __name__ == "__main__":
    sys.exit(main())
