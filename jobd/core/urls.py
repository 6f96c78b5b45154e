"""URLs that alerts may go to: read strictly, held against an allow-list part by part. Pure.

A list that is held against the text of a URL can be passed by (`https://ok.example@evil.example/`,
`https://ok.example/../x`), so both are taken apart first, and what two readers could read in two
ways is refused. The host's name is the administrator's word: what it resolves to is not looked at.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import NamedTuple

from jobd.errors import InvalidError

#: characters of a whole URL
LONGEST = 2048

_PORTS = {"http": 80, "https": 443}
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9._*-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?\Z"
)
#: what may stand in a path or a query as it is (RFC 3986), without what needs escapes
_PLAIN = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/%?-]*\Z")
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_DOTS = re.compile(r"(?:\.|%2e)(?:\.|%2e)?(?:;.*)?\Z", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\Z")
_NUMBER = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)\Z", re.IGNORECASE)
_QUAD = re.compile(r"(?:0|[1-9][0-9]{0,2})\Z")


class Url(NamedTuple):
    """A URL in its parts; `host` in small letters, `path` begins with `/`, `query` with `?`."""

    scheme: str
    host: str
    port: int
    path: str
    query: str = ""

    @property
    def target(self) -> str:
        """What stands in a request's first line."""
        return self.path + self.query

    @property
    def place(self) -> str:
        """Scheme, host and port, as they may be shown."""
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"


def parse(text: object, what: str = "url") -> Url:
    """The parts of a URL. Raises InvalidError naming `what`, without the URL's path: it may be a
    secret."""
    url = _parts(text, what)
    if "*" in url.host:
        raise InvalidError(f"{what}: a host is a name, without *")
    return url


def _parts(text: object, what: str) -> Url:
    expected = "expected http:// or https://, a host, a path; no user, no #, no blanks"
    found = _URL.match(text) if isinstance(text, str) and len(text) <= LONGEST else None
    if found is None:
        raise InvalidError(f"{what}: is no URL that alerts may go to: {expected}")
    scheme, host = found["scheme"], found["host"].lower()
    port = int(found["port"]) if found["port"] else _PORTS[scheme]
    path, query = found["path"] or "/", found["query"] or ""
    if not 0 < port < 65536:
        raise InvalidError(f"{what}: {port} is no port")
    if host[0] != "[":
        _check_host(host, what)
    elif not _is_address(host[1:-1]):
        raise InvalidError(f"{what}: {host[:80]!r} is no address")
    if not _PLAIN.match(path + query) or _ESCAPE.search(path + query):
        raise InvalidError(f"{what}: holds characters that have to be written as %XX")
    if any(_DOTS.match(part) for part in path.split("/")) or "%2f" in path.lower():
        raise InvalidError(f"{what}: '.', '..' and %2F in a path mean another one to each reader")
    return Url(scheme, host, port, path, query)


def _is_address(text: str) -> bool:
    try:
        return str(IPv6Address(text)) == text
    except ValueError:
        return False


def _check_host(host: str, what: str) -> None:
    """A name or an address as everybody writes it: `2130706433` and `0x7f.1` are 127.0.0.1 too."""
    labels = host.removeprefix("*.").removesuffix(".").split(".")
    if host.endswith(".") or not all(_NAME.match(label) for label in labels):
        raise InvalidError(f"{what}: {host[:80]!r} is no host's name")
    if _NUMBER.match(labels[-1]):
        quad = len(labels) == 4 and all(_QUAD.match(part) and int(part) < 256 for part in labels)
        if not quad or host.startswith("*"):
            raise InvalidError(f"{what}: {host[:80]!r}: an address has four plain numbers")


def check_pattern(text: object, what: str) -> str:
    """An entry of the allow-list as it may be. Raises InvalidError.

    A URL whose host may begin with `*.` (any name below) and whose path may end with `*`
    (anything that begins so, whatever its query). Without it path and query are meant exactly.
    """
    if not isinstance(text, str):
        raise InvalidError(f"{what}: expected URLs in a list")
    pattern = _parts(text, what)
    if "*" in pattern.target[:-1]:
        raise InvalidError(f"{what}: a * stands at the end of a path, behind its /")
    if "*" in pattern.host.removeprefix("*."):
        raise InvalidError(f"{what}: a * in a host stands in front, as *.example.com")
    return text


def allowed(url: Url, patterns: tuple[str, ...]) -> bool:
    """Whether an entry of the allow-list means that URL."""
    return any(_means(_parts(pattern, "allow"), url) for pattern in patterns)


def _means(pattern: Url, url: Url) -> bool:
    if (pattern.scheme, pattern.port) != (url.scheme, url.port):
        return False
    if pattern.host[:2] == "*.":
        if not url.host.endswith(pattern.host[1:]) or len(url.host) <= len(pattern.host) - 1:
            return False
    elif pattern.host != url.host:
        return False
    if pattern.target[-1:] == "*":
        return url.target.startswith(pattern.target[:-1])
    return pattern.target == url.target
