"""The program `jobctl`: finds the verb, parses its arguments, runs it, tells how it went.

The hot path is short on purpose: one verb's module and parser, and ZeroMQ only once the arguments
are in order. `tests/unit/test_jobctl_imports.py` keeps it so.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from jobctl import arguments
from jobctl.output import MODES, Output, mode_of
from jobd.errors import InternalError, JobdError, UsageError

if TYPE_CHECKING:
    from argparse import Namespace
    from types import ModuleType

#: every verb and what it does, in the order of the overview; its module has the verb's name
VERBS: dict[str, str] = {
    "register": "register a job, or a new revision of it",
    "apply": "register jobs from job files, and say what changes",
    "queue": "queue runs of a job; prints their ids",
    "run": "queue a run, follow its output, exit as it did",
    "ls": "list runs",
    "show": "show all about a run, or a job",
    "logs": "show a run's output",
    "result": "write a run's result to stdout",
    "payload": "write a run's payload to stdout",
    "wait": "wait for runs",
    "why": "tell what a run waits for, and when it will start",
    "cancel": "cancel runs",
    "retry": "queue ended runs again",
    "hold": "keep runs back",
    "release": "let held runs start",
    "next": "put runs before all others of their job",
    "edit": "change priority, date, timeout or labels of runs",
    "progress": "say how far the run is, from inside of it",
    "jobs": "list jobs",
    "set": "change single settings of a job",
    "history": "show a job's revisions and what they changed",
    "pause": "keep a job's runs from starting",
    "resume": "let a paused job's runs start again",
    "unregister": "remove a job",
    "schedule": "queue a job's runs by the clock",
    "forecast": "what the next hours will bring: collisions, backlog, clock changes",
    "suggest": "propose a job's limits from what it really used",
    "emit": "notify a topic: each job that listens gets a run",
    "alerts": "show alerts; snooze, resend, test them",
    "drain": "keep all runs from starting on this host",
    "undrain": "let runs start on this host again",
    "snapshot": "have a snapshot of the queue made now",
    "events": "show what happens, and who asked for it",
    "init": "write a starter configuration",
    "completion": "print the script that completes words for a shell",
    "doctor": "what is wrong with the set-up, and its remedy",
    "status": "health and capacity now",
    "version": "versions of jobctl and of the daemon",
}


_EPILOG = """\
`jobctl VERB --help` tells more of each. `jobctl completion bash|zsh|fish` completes them.

exit statuses:
"""


def program() -> NoReturn:
    """`jobctl` as it is installed: `main`, and an end that does not take Python apart before.

    That would take a tenth of the whole time of a short command, for memory that goes anyhow.
    """
    status = main()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            pass  # main has told of it, or whoever would read it is gone
    os._exit(status)


def main(argv: list[str] | None = None) -> int:
    """Runs `jobctl`; the exit status (INTERFACE, "Exit statuses")."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["__complete"]:
        from jobctl import completing

        return completing.main(argv[1:], VERBS, Output())
    guessed = arguments.guess_mode(argv) or os.environ.get("JOBCTL_OUTPUT")
    out = Output(guessed if guessed in MODES else "table")
    try:
        status = _dispatch(argv, out)
        out.flush()
        return status
    except BrokenPipeError:
        return _reader_left()
    except KeyboardInterrupt:
        out.clear_progress()
        return 130
    except Exception as error:  # noqa: BLE001 - the edge: whatever went wrong is told in one line
        return _tell(error, out)


def _tell(error: Exception, out: Output) -> int:
    try:
        if isinstance(error, JobdError):
            return out.fail(error)
        if isinstance(error, OSError) and error.errno is not None:
            # writing the output, mostly: a full disk behind stdout
            out.mode = "table"
            out.tell_error(f"{error.filename or 'output'}: {error.strerror}")
            return 74
        where = _where(error)
        return out.fail(
            InternalError(f"this is a bug in jobctl: {type(error).__name__}: {error} ({where})")
        )
    except BrokenPipeError:
        return _reader_left()


def _where(error: BaseException) -> str:
    """File and line where it happened; all of it where JOBCTL_DEBUG is set."""
    if os.environ.get("JOBCTL_DEBUG"):
        import traceback

        traceback.print_exception(error)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "JOBCTL_DEBUG=1 shows more"
    name = os.path.basename(trace.tb_frame.f_code.co_filename)
    return f"{name}:{trace.tb_lineno}; JOBCTL_DEBUG=1 shows more"


def _reader_left() -> int:
    """`jobctl ls | head`: ends without a word, as programs do that SIGPIPE ends."""
    # what is still in the buffer would raise again while Python shuts down
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141


def _dispatch(argv: list[str], out: Output) -> int:
    verb, rest = arguments.split_verb(argv)
    if verb == "help":
        verb, rest = next((w for w in rest if not w.startswith("-")), None), ["--help"]
        argv = argv if verb else rest
    if verb is None:
        return _without_verb(argv, out)
    if verb not in VERBS:
        raise UsageError(_unknown(verb))
    command = _load(verb)
    name = f"jobctl {verb}"
    usage = getattr(command, "USAGE", None)
    parser = arguments.Parser(name, description=command.MANUAL, usage=usage and f"{name} {usage}")
    command.add_arguments(parser)
    arguments.add_globals(parser)
    behind: list[str] = []
    if getattr(command, "TAKES_REST", False):
        rest, behind = arguments.split_rest(rest)
    # looked for by hand, since `--help` is wanted most where required arguments are missing
    if any(word in ("-h", "--help") for word in _ours(command, rest)):
        out.line(parser.format_help().rstrip())
        return 0
    # RUN... or KEY=VALUE... may go on behind an option
    mixed = getattr(command, "INTERMIXED", False)
    given = parser.parse_intermixed_args(rest) if mixed else parser.parse_args(rest)
    given.rest = behind
    return _run(command, given, out)


def _ours(command: ModuleType, rest: list[str]) -> list[str]:
    """The words among which `--help` is ours: behind an IMAGE it may be the command's own."""
    ours: list[str] = getattr(command, "before_image", lambda words: words)(rest)
    return ours


def _run(command: ModuleType, given: Namespace, out: Output) -> int:
    out = _output(given, out)
    check = getattr(command, "check", None)
    if check is not None:
        check(given, out)
    # ZeroMQ is half of the start-up: not before the arguments are in order
    from jobctl.client import Client

    client = Client(
        given.socket,
        given.home,
        request_timeout=given.request_timeout / 1000,
        note=out.note,
        request_key=given.request_key or os.urandom(16),
    )
    try:
        status: int = command.run(given, client, out)
    finally:
        client.close()
    return status


def _output(given: Namespace, out: Output) -> Output:
    out.mode = mode_of(given.output, given.json)
    out.quiet = given.quiet
    if given.no_color:
        out.colour = out.talk_colour = False
    if given.request_timeout <= 0:
        raise UsageError("--request-timeout: expected more than 0")
    return out


def _load(verb: str) -> Any:
    from importlib import import_module

    return import_module(f"jobctl.commands.{verb}")


def _without_verb(argv: list[str], out: Output) -> int:
    if "--version" in argv or "-V" in argv:
        from jobctl import __version__

        out.line(f"jobctl {__version__}")
        return 0
    if "-h" in argv or "--help" in argv:
        out.line(_overview())
        return 0
    if not out.json:
        out.note("no verb was given")
        sys.stderr.write(_overview() + "\n")
        return UsageError.status
    raise UsageError("no verb was given: see jobctl --help")


def _overview() -> str:
    from jobctl import statuses

    parser = arguments.Parser("jobctl", usage="jobctl [GLOBAL OPTIONS] VERB ...")
    arguments.add_globals(parser)
    wide = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:{wide}}  {what}" for name, what in VERBS.items())
    parser.description = f"Asks jobd, the daemon that runs container jobs.\n\nverbs:\n{verbs}"
    parser.epilog = _EPILOG + "\n".join(statuses.lines(arguments.help_width()))
    return parser.format_help().rstrip()


def _unknown(verb: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(verb, VERBS, 1)
    hint = f"did you mean {close[0]}?" if close else "see jobctl --help"
    return f"{verb!r:.60} is not a verb: {hint}"
