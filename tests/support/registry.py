"""Debian's docker-registry on loopback, with and without credentials."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import shutil
import socket
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.engine_support import IMAGE

# "right", by bcrypt at cost 5
HTPASSWD = "user:$2y$05$abcdefghijklmnopqrstuu8xaCxxL82bnl.UY74PMksDxIJShppPC\n"
CONFIG = """version: 0.1
storage:
  filesystem:
    rootdirectory: {folder}/data
http:
  addr: 127.0.0.1:{port}
log:
  level: error
  accesslog:
    disabled: true
{auth}"""
AUTH = """auth:
  htpasswd:
    realm: test
    path: {folder}/htpasswd
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def registry_at(folder: Path, port: int, *, auth: bool = False) -> Iterator[str]:
    """Debian's docker-registry (package of that name) on 127.0.0.1, stopped at the end."""
    program = shutil.which("docker-registry")
    assert program, "no docker-registry; apt-get install docker-registry"
    (folder / "htpasswd").write_text(HTPASSWD)
    (folder / "config.yml").write_text(
        CONFIG.format(folder=folder, port=port, auth=AUTH.format(folder=folder) if auth else "")
    )
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [program, "serve", str(folder / "config.yml")], stdout=log, stderr=log
        )
    try:
        give_up = time.monotonic() + 30
        while not answers(port):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < give_up, "the registry does not answer"
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=20)


def answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=2).close()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code == 401
    except OSError:
        return False
    return True


def push(sdk: Any, reference: str, image: str = IMAGE) -> None:
    """Push a local image as `reference` (with a tag); the host forgets the name."""
    repository, _, tag = reference.rpartition(":")
    sdk.tag(image, repository, tag)
    for line in sdk.push(repository, tag=tag, stream=True, decode=True):
        assert "error" not in line, line
    sdk.remove_image(reference)


def image_with(sdk: Any, content: bytes) -> str:
    """The id of a new image: the test's own with a file of that content, so a layer of its own."""
    made = sdk.create_container(IMAGE, ["true"])
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            info = tarfile.TarInfo("content")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        sdk.put_archive(made, "/", file.getvalue())
    image_id = str(sdk.commit(made)["Id"])
    sdk.remove_container(made)
    return image_id


def write_credentials(folder: Path, port: int, password: str) -> None:
    token = base64.b64encode(f"user:{password}".encode()).decode()
    auths = {"auths": {f"127.0.0.1:{port}": {"auth": token}}}
    (folder / "config.json").write_text(json.dumps(auths))


def write_helper(folder: Path, name: str, port: int, password: str) -> None:
    """A credential helper `docker-credential-NAME` in `folder`/bin, named by `folder`/config.json.

    As the real ones: the registry on stdin, JSON on stdout, a sentence where it knows none.
    """
    folder.joinpath("bin").mkdir()
    script = folder / "bin" / f"docker-credential-{name}"
    script.write_text(
        "#!/bin/sh\n"
        'read -r registry; echo "$1 $registry" >>"$0.log"\n'
        f'case $registry in *127.0.0.1:{port}*) ;; *) echo "credentials not found in native '
        'keychain"; exit 1 ;; esac\n'
        f'printf \'{{"ServerURL":"%s","Username":"user","Secret":"{password}"}}\' "$registry"\n'
    )
    script.chmod(0o755)
    helpers = {"credHelpers": {f"127.0.0.1:{port}": name}}
    folder.joinpath("config.json").write_text(json.dumps(helpers))
