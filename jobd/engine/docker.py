"""Attempts as containers of Docker or Podman. The one place that knows the SDK.

:class:`Api` speaks to the engine and turns every error of docker, requests and urllib3 into one of
ours; :class:`DockerEngine` is the :class:`~jobd.engine.base.Engine` on top of it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import docker
import docker.auth
import docker.errors
import docker.utils
import requests
import urllib3.exceptions

from jobd.core.policy import Rules
from jobd.engine.base import EngineUnreachableError, PullFailedError
from jobd.engine.containers import ContainerEngine
from jobd.engine.imagecalls import ImageCalls
from jobd.engine.refusals import AnswerError
from jobd.engine.transport import (
    CHUNK,
    StdinStream,
    ask,
    check_answer,
    pieces,
    probe,
    read_message,
    socket_path,
    why,
)
from jobd.engine.usage import CgroupSettings

#: seconds without a byte after which a pull counts as failed
PULL_SILENCE_S = 300.0
#: seconds that a credential helper may take
HELPER_S = 60.0
#: seconds that one step of a build may say nothing
BUILD_SILENCE_S = 3600.0


class Api(ImageCalls):
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
        self._socket = socket_path(self.url)
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
            return dict(self._plain("GET", f"/containers/{quote(name)}/json", name))
        except AnswerError as error:
            if error.status == 404:
                return None
            raise

    def _plain(self, method: str, path: str, about: str, timeout_s: float | None = None) -> Any:
        """The answer to a request without a body; past the SDK where the socket is a unix one."""
        with self._client(about, timeout_s) as client:
            if self._socket is None:
                response = client.request(method, self._path(client, path), timeout=client.timeout)
                status, said = response.status_code, response.json() if response.content else None
            else:
                target = f"/v{client.api_version}{path}"
                connect_s, answer_s = client.timeout
                status, said = ask(self._socket, method, target, connect_s, answer_s)
        if status < 400:
            return said
        text = str(said.get("message", "")) if isinstance(said, dict) else ""
        if status == 400 and "client version" in text:
            self._version = None  # as in _client
        raise AnswerError(status, text, about)

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
        self._plain("POST", f"/containers/{engine_id}/start", engine_id[:12], self._start_s)

    def attach_stdin(self, engine_id: str) -> StdinStream:
        """A connection to the standard input of a container that has not started."""
        with self._client(engine_id[:12]) as client:
            return StdinStream(client.attach_socket(engine_id, {"stdin": 1, "stream": 1}))

    def remove_unstarted(self, engine_id: str) -> None:
        """Remove a container that does not run; status 409 where it does."""
        with self._client(engine_id[:12]) as client:
            client.remove_container(engine_id, v=True)

    def kill(self, engine_id: str, signal: str) -> None:
        """Send a signal to a container's first process."""
        with self._client(engine_id[:12]) as client:
            client.kill(engine_id, signal=signal)

    def remove(self, engine_id: str) -> None:
        """Kill and remove a container with its nameless volumes."""
        path = f"/containers/{engine_id}?v=1&force=1"
        self._plain("DELETE", path, engine_id[:12], self._start_s)

    def init_words(self, engine_id: str, late: bool) -> bytes:
        """What an init that could not execute the command said: the last lines of stderr.

        With `late` its first 4 KiB, and they are waited for, at most 4 s: Podman tells of an end
        before it has the words, calls it `exited` once it has, and of a line that was written in
        pieces its tail has the newline alone.
        """
        with self._client(engine_id[:12]) as client:
            if not late:
                return bytes(client.logs(engine_id, stdout=False, stderr=True, tail=5))
            words = b""
            for pause in (0.0, 0.05, 0.2, 0.5, 1.0, 2.0):
                time.sleep(pause)
                # asked first: what is read after that answer is all
                whole = client.inspect_container(engine_id)["State"]["Status"] == "exited"
                words = _head(client.logs(engine_id, stdout=False, stderr=True, stream=True))
                if whole or words.endswith(b"\n"):
                    break
            return words

    def pull(self, repository: str, version: str) -> Generator[dict[str, Any], None, None]:
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
                check_answer(response, about)
                for line in response.iter_lines(CHUNK):
                    if line:
                        yield read_message(line, about)

    def build(self, context: BinaryIO, settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The messages of a build, as they come; `context` is an open tar."""
        with self._client("build") as client:
            # the SDK's own are those of when the client was made, and of whoever's HOME that was
            client._auth_configs = self._auth_config() or docker.auth.AuthConfig({})
            yield from client.build(
                fileobj=context,
                custom_context=True,
                rm=True,
                forcerm=True,
                decode=True,
                timeout=(self._connect_s, BUILD_SILENCE_S),
                **settings,
            )

    def log(
        self,
        engine_id: str,
        since_ns: int,
        tail: int | None,
        follow: bool,
        idle_s: float,
        late: bool,
    ) -> Generator[tuple[bytes, bool] | None, None, None]:
        """The raw log of a container: pieces, each with whether more is there already.

        None and the end after `idle_s` without a byte. `since_ns` is inclusive, to the nanosecond.
        `late`: the engine sends its headers with the first line (Podman), so none is no failure.
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
                if not late:
                    raise
                yield None
                return
            with response:
                check_answer(response, engine_id[:12])
                yield from pieces(response)

    def _credentials(self, repository: str) -> str | None:
        """The header that tells the registry of `repository` who we are, or None."""
        done: list[Any] = []

        def ask() -> None:
            try:
                done.append(self._credentials_at(repository))
            except (docker.errors.DockerException, OSError) as error:
                done.append(error)
            except (ValueError, LookupError, TypeError):
                # the SDK believes what a helper prints
                done.append(OSError("the credential helper gave no credentials"))

        # the SDK waits for a helper for ever, and one may be asking for a password somewhere
        thread = threading.Thread(target=ask, name=f"credentials {repository}", daemon=True)
        thread.start()
        thread.join(HELPER_S)
        found = done[0] if done else TimeoutError("the credential helper does not answer")
        if isinstance(found, Exception):
            raise PullFailedError(
                f"image {repository}: no credentials: {' '.join(str(found).split())}; "
                "correct config.json in docker_config"
            ) from found
        if not found:
            return None
        header = docker.auth.encode_header(found)
        return header.decode("ascii") if isinstance(header, bytes) else str(header)

    def _credentials_at(self, repository: str) -> dict[str, Any] | None:
        registry, _ = docker.auth.resolve_repository_name(repository)
        config = self._auth_config()
        found = None if config is None else docker.auth.resolve_authconfig(config, registry)
        return dict(found) if found else None

    def _auth_config(self) -> Any:
        if self._docker_config is None:
            return docker.auth.load_config()
        file = self._docker_config / "config.json"
        # given to load_config, a missing file would mean that of whoever's HOME this is
        return docker.auth.load_config(config_path=str(file)) if file.exists() else None

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
            sdks = isinstance(error, docker.errors.DockerException)
            raise EngineUnreachableError(f"{about}: {why(error, self.url, sdks)}") from error
        except BaseException:
            # among them a reader that stopped in mid-stream
            _close(client)
            raise
        else:
            self._give(client)

    def _take(self) -> docker.APIClient:
        probe(self.url, self._connect_s)
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


def _head(stream: docker.types.CancellableStream) -> bytes:
    """The first 4 KiB of a log, which is left to itself then."""
    words = b""
    try:
        for piece in stream:
            words += piece
            if len(words) >= 4096:
                break
    finally:
        stream.close()
    return words[:4096]


def _close(client: docker.APIClient | None) -> None:
    if client is not None:
        client.close()


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
        share_none: bool = False,
    ) -> None:
        api = Api(url, docker_config, connect_s, request_s, start_s)
        super().__init__(api, store, cgroups or CgroupSettings(), idle_s, rules, share_none)
