"""The allow-list of URLs cannot be passed by: what could be read in two ways is refused."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.core import urls
from jobd.errors import InvalidError

REFUSED = [
    "ftp://ok.example/",
    "https://ok.example@evil.example/",
    "https://user:pw@ok.example/",
    "https://ok.example\\@evil.example/",
    "https://ok.example:80:90/",
    "https://ok.example:0/",
    "https://ok.example:99999/",
    "https:///path",
    "https://ok.example/a b",
    "https://ok.example/a\r\nHost: evil",
    "https://ok.example/a\tb",
    "https://ok.example/#fragment",
    "https://ok.example/../secret",
    "https://ok.example/a/%2e%2e/b",
    "https://ok.example/a/.%2E/b",
    "https://ok.example/a/..;x/b",
    "https://ok.example/a%2fb",
    "https://ok.example/%zz",
    "https://ok.example./",
    "https://ok..example/",
    "https://*.example/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0177.0.0.1/",
    "http://127.1/",
    "http://127.0.0.256/",
    "http://exämple.com/",
    "http://[:1]/",
    "http://[::0001]/",
    "http://[::ffff:127.0.0.1]/",
    "http://ok.example/\u2024\u2024/",
    "javascript:alert(1)",
    "file:///etc/passwd",
    "",
    None,
    7,
    "https://ok.example/" + "a" * 2048,
]


@pytest.mark.parametrize("text", REFUSED)
def test_what_could_be_read_in_two_ways_is_refused(text: object) -> None:
    with pytest.raises(InvalidError):
        urls.parse(text)


@pytest.mark.parametrize(
    ("pattern", "url", "means"),
    [
        ("https://hooks.example/services/*", "https://hooks.example/services/T0/B0", True),
        ("https://hooks.example/services/*", "https://HOOKS.example/services/T0?x=1", True),
        ("https://hooks.example/services/*", "https://hooks.example/service", False),
        ("https://hooks.example/services/*", "http://hooks.example/services/T0", False),
        ("https://hooks.example/services/*", "https://hooks.example:8443/services/T0", False),
        ("https://hooks.example/services/*", "https://hooks.example.evil.example/services/", False),
        ("https://hooks.example/services/*", "https://evil.example/hooks.example/services/", False),
        ("https://hooks.example/hook", "https://hooks.example/hook", True),
        ("https://hooks.example/hook", "https://hooks.example/hook?x=1", False),
        ("https://hooks.example/hook", "https://hooks.example/hook2", False),
        ("https://hooks.example", "https://hooks.example/", True),
        ("https://hooks.example:443/*", "https://hooks.example/a", True),
        ("https://*.example.com/*", "https://a.b.example.com/x", True),
        ("https://*.example.com/*", "https://example.com/x", False),
        ("https://*.example.com/*", "https://evilexample.com/x", False),
        ("http://127.0.0.1:9000/*", "http://127.0.0.1:9000/hook", True),
        ("http://127.0.0.1:9000/*", "http://127.0.0.1/hook", False),
        ("http://127.0.0.1:9000/*", "http://localhost:9000/hook", False),
        ("http://[::1]:9000/*", "http://[::1]:9000/hook", True),
    ],
)
def test_what_an_entry_means(pattern: str, url: str, means: bool) -> None:
    assert urls.check_pattern(pattern, "allow") == pattern
    assert urls.allowed(urls.parse(url), (pattern,)) is means


@pytest.mark.parametrize(
    "pattern", ["*", "https://*", "https://*/x", "https://a*.example/", "https://a.example/*/x", 3]
)
def test_patterns_that_say_too_much_are_refused(pattern: object) -> None:
    with pytest.raises(InvalidError):
        urls.check_pattern(pattern, "alerts.allow[0]")


def test_nothing_is_allowed_by_default() -> None:
    assert not urls.allowed(urls.parse("http://127.0.0.1/"), ())


ODD = st.text(alphabet="abc.:/@\\%2eEfF?#[]*~\r\n\t 0127x-_;&=ä", max_size=30)


@given(ODD)
def test_what_passes_goes_to_the_same_place_by_another_reader(tail: str) -> None:
    """Against Python's own reader: host and port are those that were held against the list."""
    text = f"http://ok.example{tail}"
    try:
        url = urls.parse(text)
    except InvalidError:
        return
    other = urlsplit(text)
    assert (other.hostname, other.port or 80) == (url.host, url.port)
    assert other.username is None
    # http.client takes the target as it is, and refuses what would be a second line
    http.client.HTTPConnection("x")._validate_path(url.target)  # type: ignore[attr-defined]


def test_what_is_shown_holds_no_path() -> None:
    url = urls.parse("https://hooks.example/services/SECRET?token=SECRET")
    assert url.place == "https://hooks.example"
    with pytest.raises(InvalidError) as refusal:
        urls.parse("https://hooks.example/SECRET/../x")
    assert "SECRET" not in str(refusal.value)
