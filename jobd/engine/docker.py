"""Attempts as containers of Docker or Podman. The one place that knows the SDK.

:class:`Api` speaks to the engine and turns every error of docker, requests and urllib3 into one of
ours; :class:`DockerEngine` is the :class:`~jobd.engine.base.Engine` on top of it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import select
import socket
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import docker
import docker.auth
import docker.errors
import docker.utils
import requests
import urllib3.exceptions

from jobd.core.policy import Rules
from jobd.engine.base import EngineUnreachableError, PullFailedError
from jobd.engine.containers import ContainerEngine
from jobd.engine.refusals import AnswerError
from jobd.engine.stream import BrokenStreamError
from jobd.engine.usage import CgroupSettings

#: seconds without a byte after which a pull counts as failed
PULL_SILENCE_S = 300.0
CHUNK = 1 << 16


class Api:
    """The engine's API, for many threads at once. Times are seconds.

    Each call takes a client of its own from a stack and puts it back: the SDK's is not safe to
    share (docker-py 3229), and one that was used last is the warmest. `url` is `unix://...`,
    `tcp://...`, or None for what Docker's own tools would take.
    """

    def __init__(
        self,
        url: str | None,
        docker_config: Path | None,
        connect_s: float,
        request_s: float,
        start_s: float,
    ) -> None:
        self._options: dict[str, Any] = (
            docker.utils.kwargs_from_env() if url is None else {"base_url": url}
        )
        self._options.setdefault("base_url", "unix:///var/run/docker.sock")
        self.url = str(self._options["base_url"])
        self._docker_config = docker_config
        self._connect_s = connect_s
        self._request_s = request_s
        self._start_s = start_s
        self._lock = threading.Lock()
        self._idle: list[docker.APIClient] = []
        self._version: str | None = None
        self.closed = False

    def close(self) -> None:
        """Let go of idle connections; calls under way end by themselves."""
        self.closed = True
        self._drop_idle()

    def version(self) -> dict[str, Any]:
        """The engine's name, version and parts; settles the API's version anew."""
        self._version = None
        with self._client("version") as client:
            return dict(client.version())

    def info(self) -> dict[str, Any]:
        """The engine's settings and the host's size."""
        with self._client("info") as client:
            return dict(client.info())

    def inspect(self, name: str) -> dict[str, Any] | None:
        """All that the engine knows of a container, or None where it knows none."""
        try:
            with self._client(name) as client:
                return dict(client.inspect_container(name))
        except AnswerError as error:
            if error.status == 404:
                return None
            raise

    def labelled(self, label: str) -> list[dict[str, Any]]:
        """Containers in any state that bear `label` (`key=value`)."""
        with self._client("containers") as client:
            return list(client.containers(all=True, filters={"label": [label]}))

    def create(self, name: str, body: Mapping[str, object]) -> str:
        """Make a container and return its id."""
        with self._client(name, self._start_s) as client:
            return str(client.create_container_from_config(dict(body), name)["Id"])

    def start(self, engine_id: str) -> None:
        """Start a container; one that runs is left alone."""
        with self._client(engine_id[:12], self._start_s) as client:
            client.start(engine_id)

    def kill(self, engine_id: str, signal: str) -> None:
        """Send a signal to a container's first process."""
        with self._client(engine_id[:12]) as client:
            client.kill(engine_id, signal=signal)

    def remove(self, engine_id: str) -> None:
        """Kill and remove a container with its nameless volumes."""
        with self._client(engine_id[:12], self._start_s) as client:
            client.remove_container(engine_id, v=True, force=True)

    def last_words(self, engine_id: str, lines: int) -> bytes:
        """The last lines that a container wrote to stderr."""
        with self._client(engine_id[:12]) as client:
            return bytes(client.logs(engine_id, stdout=False, stderr=True, tail=lines))

    def image_id(self, reference: str) -> str | None:
        """The id of an image on the host, or None."""
        try:
            with self._client(f"image {reference}") as client:
                return str(client.inspect_image(reference)["Id"])
        except AnswerError as error:
            if error.status == 404:
                return None
            raise

    def pull(self, repository: str, version: str) -> Iterator[dict[str, Any]]:
        """The messages of a pull, as they come. Credentials are read from the file each time."""
        about = f"image {repository}"
        with self._client(about) as client:
            header = self._credentials(repository)
            with client.post(
                self._path(client, "/images/create"),
                params={"fromImage": repository, "tag": version},
                headers={} if header is None else {"X-Registry-Auth": header},
                stream=True,
                timeout=(self._connect_s, PULL_SILENCE_S),
            ) as response:
                _check(response, about)
                for line in response.iter_lines(CHUNK):
                    if line:
                        yield _message(line, about)

    def log(
        self, engine_id: str, since_ns: int, tail: int | None, follow: bool, idle_s: float
    ) -> Generator[tuple[bytes, bool] | None, None, None]:
        """The raw log of a container: pieces, each with whether more is there already.

        None and the end after `idle_s` without a byte. `since_ns` is inclusive, to the nanosecond.
        Raises BrokenStreamError where the engine breaks off.
        """
        params: dict[str, str | int] = {"stdout": 1, "stderr": 1, "timestamps": 1}
        params["follow"] = int(follow)
        if since_ns > 0:
            params["since"] = f"{since_ns // 1_000_000_000}.{since_ns % 1_000_000_000:09d}"
        if tail is not None:
            params["tail"] = tail
        with self._client(engine_id[:12]) as client:
            try:
                response = client.get(
                    self._path(client, f"/containers/{engine_id}/logs"),
                    params=params,
                    stream=True,
                    timeout=(self._connect_s, idle_s),
                )
            except requests.ReadTimeout:
                # Podman sends the headers with the first line
                yield None
                return
            with response:
                _check(response, engine_id[:12])
                yield from _pieces(response)

    def _credentials(self, repository: str) -> str | None:
        """The header that tells the registry of `repository` who we are, or None."""
        try:
            found = self._credentials_at(repository)
        except docker.errors.DockerException as error:
            raise PullFailedError(
                f"image {repository}: no credentials: {' '.join(str(error).split())}; "
                "correct config.json in docker_config"
            ) from error
        if not found:
            return None
        header = docker.auth.encode_header(found)
        return header.decode("ascii") if isinstance(header, bytes) else str(header)

    def _credentials_at(self, repository: str) -> dict[str, Any] | None:
        registry, _ = docker.auth.resolve_repository_name(repository)
        if self._docker_config is None:
            config = docker.auth.load_config()
        elif (file := self._docker_config / "config.json").exists():
            config = docker.auth.load_config(config_path=str(file))
        else:
            # given to load_config, a missing file would mean that of whoever's HOME this is
            return None
        found = docker.auth.resolve_authconfig(config, registry)
        return dict(found) if found else None

    @staticmethod
    def _path(client: docker.APIClient, path: str) -> str:
        return f"{client.base_url}/v{client.api_version}{path}"

    @contextlib.contextmanager
    def _client(self, about: str, timeout_s: float | None = None) -> Iterator[docker.APIClient]:
        """A client of this thread's own; all that it raises is translated."""
        client = None
        try:
            client = self._take()
            client.timeout = (self._connect_s, timeout_s or self._request_s)
            yield client
        except docker.errors.APIError as error:
            text = str(error.explanation or "")
            if error.status_code == 400 and "client version" in text:
                # the engine was replaced by one that speaks other versions: settle it anew
                self._version = None
            self._give(client)
            raise AnswerError(error.status_code or 500, text, about) from error
        except (
            requests.RequestException,
            urllib3.exceptions.HTTPError,
            docker.errors.DockerException,
            OSError,
        ) as error:
            _close(client)
            self._drop_idle()
            raise EngineUnreachableError(f"{about}: {self._why(error)}") from error
        except BaseException:
            # among them a reader that stopped in mid-stream
            _close(client)
            raise
        else:
            self._give(client)

    def _probe(self) -> None:
        """Raise the system's own error where nobody listens on the engine's unix socket.

        30 us well spent: the SDK buries that error, and leaks the socket that it tried with.
        """
        if self.url.startswith("unix:"):
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(self._connect_s)
                probe.connect("/" + self.url.removeprefix("unix:").lstrip("/"))

    def _take(self) -> docker.APIClient:
        self._probe()
        version = self._version
        with self._lock:
            if version is not None and self._idle:
                return self._idle.pop()
        # without a version this asks the engine, and not under the lock: one that hangs would
        # keep every thread waiting for its turn to time out
        client = docker.APIClient(
            **self._options, version=version or "auto", timeout=self._connect_s
        )
        self._version = str(client.api_version)
        # the SDK keeps a connection for each address it ever asked, and never uses it again
        client.headers["Connection"] = "close"
        client.trust_env = False
        return client

    def _give(self, client: docker.APIClient | None) -> None:
        if client is None:
            return
        with self._lock:
            if not self.closed and client.api_version == self._version:
                self._idle.append(client)
                return
        _close(client)

    def _drop_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for client in idle:
            _close(client)

    def _why(self, error: BaseException) -> str:
        number = _errno(error)
        if number in (errno.ENOENT, errno.ECONNREFUSED):
            return f"no engine answers at {self.url}; start it"
        if number in (errno.EACCES, errno.EPERM):
            return f"no access to the engine at {self.url}; join the group of its socket"
        if isinstance(error, requests.Timeout) or "timed out" in str(error).lower():
            return f"the engine at {self.url} did not answer in time; whether it acted is unknown"
        if isinstance(error, docker.errors.DockerException):
            return " ".join(str(error).split())[:300]
        return f"the engine at {self.url} broke off: {' '.join(str(error).split())[:200]}"


def _pieces(response: requests.Response) -> Iterator[tuple[bytes, bool] | None]:
    raw = response.raw
    poll = select.poll()
    poll.register(raw.fileno(), select.POLLIN)
    try:
        for chunk in raw.stream(CHUNK, decode_content=False):
            # more may also wait in http.client's buffer: then this says no, and a batch is small
            yield chunk, bool(poll.poll(0))
    except urllib3.exceptions.ReadTimeoutError:
        yield None
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise BrokenStreamError(f"log stream: broke off: {error}") from error


def _message(line: bytes, about: str) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    if not isinstance(message, dict):
        raise AnswerError(502, f"not a message of a pull: {line[:80]!r}", about)
    return message


def _check(response: requests.Response, about: str) -> None:
    if response.status_code < 400:
        return
    text = response.text
    try:
        text = str(response.json()["message"])
    except (requests.JSONDecodeError, KeyError, TypeError):
        # a proxy's page, or an engine that is going down: its text as it is
        pass
    raise AnswerError(response.status_code, text, about)


def _close(client: docker.APIClient | None) -> None:
    if client is not None:
        client.close()


def _errno(error: BaseException) -> int | None:
    """The system's error number below what requests and the SDK wrapped around it."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop()
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, OSError) and one.errno is not None:
            return one.errno
        waiting += [*one.args, one.__cause__, one.__context__, getattr(one, "reason", None)]
    return None


class DockerEngine(ContainerEngine):
    """Docker or Podman, local by preference: usage is read from this host's cgroups.

    `url` is `unix://...` or None for DOCKER_HOST and then the usual socket; `store` the uuid (16
    bytes) of the queue, which marks its containers; `docker_config` the folder with credentials
    for registries (`config.json`), read at each pull; `rules` what the host allows now. Times are
    seconds: a request that takes longer counts as the engine being out of reach.
    """

    def __init__(
        self,
        url: str | None,
        store: bytes,
        *,
        docker_config: Path | None = None,
        rules: Callable[[], Rules] | None = None,
        cgroups: CgroupSettings | None = None,
        connect_s: float = 5.0,
        request_s: float = 10.0,
        start_s: float = 30.0,
        idle_s: float = 10.0,
    ) -> None:
        api = Api(url, docker_config, connect_s, request_s, start_s)
        super().__init__(api, store, cgroups or CgroupSettings(), idle_s, rules)
