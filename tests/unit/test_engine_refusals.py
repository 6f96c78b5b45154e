"""Whose fault a refusal is, by what engines really said."""

from __future__ import annotations

import pytest

from jobd.engine import pulls
from jobd.engine.base import PullFailedError, StartRefusedError
from jobd.engine.refusals import is_hosts_fault, missing_program, readable, refused

OCI = (
    "failed to create shim task: OCI runtime create failed: runc create failed: "
    "unable to start container process: "
)


@pytest.mark.parametrize(
    ("status", "text", "hosts"),
    [
        (400, "Minimum memory limit allowed is 6MB", False),
        (400, OCI + 'exec: "nope": executable file not found in $PATH: unknown', False),
        (500, "unable to find user ghost: no matching entries in passwd file", False),
        (500, "uids and gids must be in range 0-2147483647", False),
        (500, "Cannot mkdir: /etc/passwd is not a directory", False),
        (404, "network nonet not found", False),
        (500, OCI + "error during container init: exec format error: unknown", False),
        (500, "mkdir /var/lib/docker/overlay2/x: no space left on device", True),
        (400, OCI + "fork: resource temporarily unavailable: unknown", True),
        (500, OCI + "unable to apply cgroup configuration: ...: unknown", True),
        (500, "connection error: desc = transport: error while dialing: containerd.sock", True),
        (500, "something nobody has heard of", True),
        (503, "", True),
        (429, "slow down", True),
    ],
)
def test_whose_fault(status, text, hosts):
    assert is_hosts_fault(status, text) is hosts


def test_the_wrapping_is_taken_off():
    text = OCI + 'exec: "nope": executable file not found in $PATH: unknown'
    assert readable(text) == 'exec: "nope": executable file not found in $PATH'
    assert readable("a\n  b\r\n") == "a b"
    assert len(readable("x" * 5000)) == 300


@pytest.mark.parametrize(
    ("text", "noted", "code"),
    [
        (OCI + 'exec: "nope": executable file not found in $PATH: unknown', 127, 127),
        (OCI + 'exec: "/etc/passwd": permission denied: unknown', 126, 126),
        # the engine notes 127 for a mount that failed, too
        (OCI + "error during container init: error mounting /x: not a directory", 127, None),
        ("unable to find user ghost: no matching entries in passwd file", 128, None),
        ("Minimum memory limit allowed is 6MB", None, None),
    ],
)
def test_exit_codes_are_those_of_a_program_that_could_not_be_executed(text, noted, code):
    error = refused("jobd-1-1", 400, text, noted)
    assert error.exit_code == code
    assert str(error).startswith("jobd-1-1: not started: ")


def test_what_the_init_says():
    output = b"hello\n[FATAL tini (7)] exec nope failed: No such file or directory\n"
    assert missing_program(output) == (127, "cannot execute 'nope': no such file or directory")
    podmans = b"ERROR (catatonit:6): failed to exec pid1: Permission denied\n"
    assert missing_program(podmans) == (126, "cannot execute the command: permission denied")
    assert missing_program(b"nope: not found") is None


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (404, "manifest for 127.0.0.1:5000/a:b not found: manifest unknown", StartRefusedError),
        (404, "pull access denied for a, repository does not exist", StartRefusedError),
        (500, "unauthorized: authentication required", StartRefusedError),
        (500, 'Head "http://127.0.0.1:5000/v2/": no basic auth credentials', StartRefusedError),
        (400, "invalid reference format", StartRefusedError),
        (404, "no matching manifest for linux/arm64", StartRefusedError),
        (500, "dial tcp 127.0.0.1:5000: connect: connection refused", PullFailedError),
        (500, "dial tcp: lookup nowhere: no such host", PullFailedError),
        (500, "toomanyrequests: You have reached your pull rate limit", PullFailedError),
        (500, "received unexpected HTTP status: 503 Service Unavailable", PullFailedError),
        (200, "write /var/lib/docker/tmp/x: no space left on device", PullFailedError),
        (500, "net/http: TLS handshake timeout", PullFailedError),
    ],
)
def test_what_a_failed_pull_means(status, text, kind):
    error = pulls.pull_error("some/image:1", status, text)
    assert type(error) is kind
    assert "some/image:1" in str(error)
