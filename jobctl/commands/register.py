"""`jobctl register`: registers a job, or a new revision of it, whole."""

from __future__ import annotations

import os
from argparse import REMAINDER
from typing import TYPE_CHECKING, Any

from jobctl import values
from jobctl.arguments import typed
from jobctl.output import Output
from jobd.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from jobctl.client import Client

MANUAL = """\
Registers a job, or a new revision of it where anything differs. A revision is whole: what is not
said is at its default. Behind IMAGE all is the COMMAND's, options too.

  jobctl register --name hello --memory 64M busybox echo hello
  jobctl register --attempts 5 --secret SENDGRID_API_KEY=sendgrid 127.0.0.1:5000/sendemail:0.0.1
  jobctl register --process --name tidy /usr/local/bin/tidy --all

NAME defaults to the image's last path part without its tag. With --process there is no image: the
COMMAND runs as a process of the host, not isolated, in a folder of its own.

With --build there is no IMAGE either: it is built on the daemon's engine from DIR (less what DIR's
.dockerignore names), its output is shown, and it is registered under its own id with pull = never.
For administrators. A build that fails registers nothing.

  jobctl register --name hello --build . --memory 64M"""

USAGE = (
    "[--name NAME] [OPTIONS] IMAGE [COMMAND...]\n"
    "       jobctl register --build DIR [--name NAME] [OPTIONS] [COMMAND...]\n"
    "       jobctl register --process --name NAME [OPTIONS] COMMAND..."
)

#: options whose text goes into the spec as it was typed (the daemon reads job files the same way):
#: option, place in the spec, metavar, help
_TEXTS = (
    ("--memory", "resources.memory", "SIZE", "such as 128M; powers of 1024"),
    ("--shm", "resources.shm", "SIZE", "of /dev/shm, which counts as memory"),
    ("--timeout", "timeout", "D", "of one attempt"),
    ("--idle-timeout", "idle_timeout", "D", "of one attempt without output"),
    ("--total-timeout", "total_timeout", "D", "of the run, from its first start"),
    ("--expires", "expires", "D", "give a run up that has not started by then"),
    ("--network", "network", "NET", "none, bridge, host, or a network's name"),
    ("--user", "user", "UID[:GID]", "who it runs as in the container"),
    ("--pull", "pull", "WHEN", "missing, always or never"),
    ("--overlap", "overlap", "WHAT", "where a run is there already: allow queue skip replace"),
    ("--stdin", "stdin", "WHAT", "payload: it reads the payload; none"),
    ("--stop-signal", "stop_signal", "S", "how it is told to stop (SIGTERM)"),
    ("--stop-grace", "stop_grace", "D", "how long it has to stop"),
    ("--retry-delay", "retry.delay", "D", "before the second attempt"),
    ("--retry-max-delay", "retry.max_delay", "D", "between attempts, at most"),
    ("--retry-memory-step", "retry.memory_step", "SIZE", "more memory after it was too little"),
    ("--retry-memory-max", "retry.memory_max", "SIZE", "the bound of that"),
    ("--breaker-probe-after", "breaker.probe_after", "D", "then one run is tried (5m)"),
    ("--retry-interrupted", "retry.interrupted", "WHAT", "retry, hold or dead"),
    ("--rate", "limits.rate", "RATE", "starts in a time: 100/h, 5/s, 3/10m"),
    ("--group", "limits.group", "NAME", "of jobd.toml's [groups]: shared limits"),
    ("--mutex", "limits.mutex", "KEY", "one run at a time of each KEY: '{payload.account}'"),
    ("--config", "config", "TEXT", "reaches the job as CONFIG_FILE"),
)

#: who may do what: users, @groups, numbers of either, or * for everybody
_ACCESS = (
    ("submit", "who may queue runs of it: users, @groups, *"),
    ("override", "what they may set: env, args, timeout, priority, expires"),
    ("read", "who may read others' runs of it"),
    ("manage", "who may pause and change it, and cancel and hold its runs"),
)

_NUMBERS = (
    ("--cpus", "resources.cpus", "N", values.number, "such as 0.5"),
    ("--pids", "resources.pids", "N", values.whole, "processes at once"),
    ("--gpus", "resources.gpus", "N", values.whole, "GPUs of the host, for each run by itself"),
    ("--priority", "priority", "N", values.whole, "higher first"),
    ("--concurrency", "limits.concurrency", "N", values.whole, "runs at once"),
    ("--queue-limit", "limits.queue", "N", values.whole, "runs waiting at once"),
    ("--burst", "limits.burst", "N", values.whole, "of the rate, at once (its number); 1: evenly"),
    ("--attempts", "retry.attempts", "N", values.whole, "in all"),
    ("--breaker", "breaker.failures", "N", values.whole, "failures in a row that stop its starts"),
    ("--retry-factor", "retry.factor", "F", values.number, "the delay grows by it"),
    ("--retry-jitter", "retry.jitter", "F", values.number, "0 to 1"),
)


def add_arguments(parser: ArgumentParser) -> None:
    """All of `register`."""
    parser.add_argument("--name", metavar="NAME")
    parser.add_argument("--process", action="store_true", help="no image: a process of the host")
    parser.add_argument("--env", metavar="K=V", action="append", help="may be repeated")
    parser.add_argument("--secret", metavar="VAR=NAME", action="append", help="may be repeated")
    parser.add_argument(
        "--mount",
        metavar="SRC:DST[:rw]",
        action="append",
        help="a folder that allow.mounts in jobd.toml names, read-only unless :rw",
    )
    parser.add_argument("--device", metavar="PATH", action="append", help="may be repeated")
    parser.add_argument("--api", action="store_true", help="a socket of its own inside (README)")
    parser.add_argument("--api-queue", metavar="JOB,...", help="--api, and what it may queue")
    for word, text in _ACCESS:
        place = f"access.{word}"
        parser.add_argument(f"--access-{word}", dest=place, metavar="WORD,...", help=text)
    for option, place, metavar, text in _TEXTS:
        parser.add_argument(option, dest=place, metavar=metavar, help=text)
    for option, place, metavar, read, text in _NUMBERS:
        parser.add_argument(option, dest=place, metavar=metavar, type=typed(read), help=text)
    parser.add_argument(
        "--retry-on", metavar="WORD,...", help="outcomes and exit statuses: failed,75,1-10"
    )
    parser.add_argument("--config-file", metavar="FILE", help="the config's text, from a file")
    build = parser.add_argument_group("building")
    build.add_argument("--build", metavar="DIR", help="build the image from this folder")
    build.add_argument("--file", metavar="PATH", help="the Dockerfile in it (Dockerfile)")
    build.add_argument("--build-arg", metavar="K=V", action="append", help="may be repeated")
    build.add_argument("--build-network", metavar="NET", help="none, host or bridge")
    build.add_argument("--build-target", metavar="STAGE", help="the stage to build")
    parser.add_argument("image", metavar="IMAGE", nargs="?")
    parser.add_argument("command", metavar="COMMAND", nargs=REMAINDER)


def before_image(words: list[str]) -> list[str]:
    """The words up to IMAGE: behind it nothing is ours."""
    flags = {"--json", "--no-color", "-h", "--help", "--process", "--api"}
    index = 0
    while index < len(words) and words[index].startswith("-"):
        word = words[index]
        joined = "=" in word or (word.startswith("-o") and word != "-o")
        index += 1 if word in flags or joined else 2
    return [word for word in words[:index] if word in flags]


def default_name(image: str) -> str:
    """The job's name where none was given: the image's last path part without tag and digest."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0]


def check(given: Namespace, out: Output) -> None:
    """Reads what has a form, before anything is asked."""
    if given.process:
        _check_process(given)
    elif given.build is None and not given.image:
        raise UsageError("register: IMAGE is missing or empty; or name a folder with --build")
    if given.build is None:
        for option in ("file", "build_arg", "build_network", "build_target"):
            if getattr(given, option) is not None:
                raise UsageError(f"--{option.replace('_', '-')}: goes with --build")
    spec(given)


def _check_process(given: Namespace) -> None:
    if given.build is not None:
        raise UsageError("register: --process and --build exclude each other")
    if not given.image:
        raise UsageError("register: COMMAND is empty")
    if not given.name:
        raise UsageError("register: --process needs a --name: there is no image to take it from")


def spec(given: Namespace) -> dict[str, Any]:
    """The job file that the command line stands for; without `image` where that is to be built."""
    # where there is no image to name, what stands in its place is the command's first word
    words = [*([given.image] if given.image else []), *given.command]
    if given.process:
        made: dict[str, Any] = {"name": given.name, "command": words}
    elif given.build is not None:
        name = given.name or os.path.basename(os.path.abspath(given.build))
        made = {"name": name, "pull": "never", **({"command": words} if words else {})}
    else:
        made = {"name": given.name or default_name(given.image), "image": given.image}
        if given.command:
            made["command"] = list(given.command)
    for name, items in (("env", given.env), ("secrets", given.secret)):
        if items:
            made[name] = values.pairs(items, "--env" if name == "env" else "--secret")
    for place in (*(line[1] for line in _TEXTS), *(line[1] for line in _NUMBERS)):
        _put(made, place, getattr(given, place))
    if given.mount:
        made["mounts"] = [_mount(text) for text in given.mount]
    if given.device:
        made["devices"] = list(given.device)
    if given.api_queue is not None:
        made["api"] = {"queue": values.words(given.api_queue) or []}
    elif given.api:
        made["api"] = True
    for word, _ in _ACCESS:
        text = getattr(given, f"access.{word}")
        _put(made, f"access.{word}", None if text is None else values.words(text) or [])
    if given.retry_on is not None:
        on = [int(w) if w.isdigit() else w for w in values.words(given.retry_on) or ()]
        _put(made, "retry.on", on)
    if given.config_file is not None:
        _put(made, "config", _read(given.config_file))
    return made


def _mount(text: str) -> dict[str, Any]:
    source, colon, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    if not colon or mode not in ("", "ro", "rw"):
        raise UsageError(f"--mount {text!r:.200}: expected SOURCE:TARGET, with :rw to write to it")
    return {"source": source, "target": target, "read_only": mode != "rw"}


def _put(made: dict[str, Any], place: str, value: Any) -> None:
    if value is None:
        return
    table, dot, key = place.rpartition(".")
    (made.setdefault(table, {}) if dot else made)[key] = value


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f"--config-file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"--config-file {path}: not UTF-8 text") from None


def run(given: Namespace, client: Client, out: Output) -> int:
    """Registers."""
    made = spec(given)
    if given.build is not None:
        made["image"] = _build(given, made["name"], client, out)
    answer = client.register(made)
    if out.json:
        out.value(answer)
        return 0
    for warning in answer.get("warnings") or ():
        out.note(str(warning))
    if out.mode == "id":
        out.line(str(answer["job"]))
    else:
        what = "" if answer["changed"] else " (nothing has changed)"
        out.line(f"{answer['job']}: revision {answer['revision']}{what}")
    return 0


def _build(given: Namespace, name: str, client: Client, out: Output) -> str:
    """The name of the image that was built; what the build says goes to stderr."""
    try:
        built = client.build(
            given.build,
            name,
            dockerfile=given.file or "Dockerfile",
            args=values.pairs(given.build_arg, "--build-arg"),
            network=given.build_network,
            target=given.build_target,
            said=lambda data: out.talk_bytes(_readable(data) if out.talk_terminal else data),
        )
    except KeyboardInterrupt:
        out.note("the build goes on; the same command again finds what it has done")
        raise
    out.note(f"built {built['image']}")
    return str(built["image"])


def _readable(data: bytes) -> bytes:
    """What a build says, as a terminal may see it."""
    from jobctl.render import escape

    lines = data.decode("utf-8", "backslashreplace").split("\n")
    return "\n".join(escape(line.rstrip("\r"), tabs=True) for line in lines).encode()
