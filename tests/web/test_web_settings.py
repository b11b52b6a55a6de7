"""What may be served to whom: settings, host names, origins, tokens, headers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from webtools import TestClient, answer_of, client_of, error_of

from lookalike.gallery import Gallery
from lookalike.web import ServeSettings
from lookalike.web.errors import ApiError
from lookalike.web.guard import GUESSES, Guard
from lookalike.web.routes.pages import read_page
from lookalike.web.settings import is_loopback

TOKEN = "a long secret".replace(" ", "-")
BEARER = {"authorization": f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"host": "0.0.0.0"}, "--token"),
        ({"host": "192.168.1.2"}, "--token"),
        ({"host": "::"}, "--token"),
        ({"host": "example.org"}, "--token"),
        ({"host": "a b"}, "host"),
        ({"host": ""}, "host"),
        ({"port": -1}, "port"),
        ({"port": 65536}, "port"),
        ({"port": True}, "port"),
        ({"token": "short"}, "8 to 200"),
        ({"token": "with; semicolon"}, "8 to 200"),
        ({"token": "with space"}, "8 to 200"),
        ({"max_upload_bytes": 0}, "max_upload_bytes"),
        ({"decoders": 1.5}, "decoders"),
        ({"upload_seconds": float("nan")}, "upload_seconds"),
        ({"stall_seconds": -1}, "stall_seconds"),
        ({"allowed_hosts": ("a/b",)}, "a/b"),
    ],
)
def test_settings_that_cannot_be_are_refused(values: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        ServeSettings(**values)


def test_loopback_is_what_no_other_machine_can_reach() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "localhost.example.org", "x")))
    for host in ("127.0.0.1", "::1", "localhost"):
        ServeSettings(host=host)
    ServeSettings(host="0.0.0.0", token=TOKEN)


def test_names_of_this_machine_are_answered_and_others_are_not(client: TestClient) -> None:
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:9", "[::1]:8765", "[::1]"):
        for path in ("/api/health", "/"):
            assert client.get(path, headers={"host": host}).status_code == 200, host
    for host in (
        "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "192.168.0.7",
        "[::]", "evil.example:8765", "localhost@evil.example", "[", "127.1", "0x7f.1",
    ):  # fmt: skip
        for path in ("/", "/api/health", "/api/images/1", "/metrics", "/page/app.js"):
            error_of(client.get(path, headers={"host": host}), 403, "forbidden")


def test_an_address_is_answered_and_a_name_only_if_allowed(served: Gallery) -> None:
    settings = ServeSettings(host="0.0.0.0", token=TOKEN, allowed_hosts=("photos.home",))
    with client_of(served, settings) as client:
        for host in ("192.168.0.7:8765", "[fe80::1]", "photos.home", "localhost", "photos.home.:1"):
            assert client.get("/api/health", headers={"host": host}).status_code == 200
        for host in ("evil.example", "photos.home.evil.example"):
            error_of(client.get("/api/health", headers={"host": host}), 403, "forbidden")


def test_pages_of_other_sites_may_not_ask_but_link_to_the_page(client: TestClient) -> None:
    origins = ["https://evil.example", "null", "http://127.0.0.1:1", "127.0.0.1:8765", ""]
    origins += ["http://127.0.0.1:8765.evil.example", "https://127.0.0.1:8765"]
    origins += ["ftp://127.0.0.1:8765", "http://127.0.0.1"]
    refused = [{"origin": origin} for origin in origins]
    refused += [{"sec-fetch-site": site} for site in ("cross-site", "same-site")]
    for headers in refused:
        for method, path in (
            ("GET", "/api/images/1"),
            ("POST", "/api/update"),
            ("GET", "/metrics"),
        ):
            error_of(client.request(method, path, headers=headers), 403, "forbidden")
    own = {"origin": "http://127.0.0.1:8765", "sec-fetch-site": "same-origin"}
    answer_of(client.post("/api/search", json={"id": 1}, headers=own))
    assert client.get("/api/images/1", headers={"sec-fetch-site": "none"}).status_code == 200
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/gallery", headers=link).status_code == 200


def test_the_port_of_a_scheme_and_the_https_of_a_proxy_are_known(served: Gallery) -> None:
    with client_of(served, ServeSettings(allowed_hosts=("photos.example",))) as client:
        for host, origin, status in (
            ("localhost:80", "http://localhost", 200),
            ("localhost", "http://localhost", 200),
            ("localhost", "https://localhost", 403),
            ("localhost:443", "http://localhost", 403),
            ("photos.example", "https://photos.example", 200),
            ("photos.example:443", "https://photos.example", 200),
            ("photos.example", "http://photos.example", 200),
            ("photos.example", "https://photos.example:8443", 403),
            ("photos.example", "wss://photos.example", 403),
        ):
            headers = {"host": host, "origin": origin}
            assert client.get("/api/health", headers=headers).status_code == status, headers


@pytest.fixture(scope="module")
def guarded(served: Gallery) -> Iterator[TestClient]:
    with client_of(served, ServeSettings(token=TOKEN)) as client:
        yield client


PATHS = [
    "/api/images", "/api/images/1", "/api/images/1/thumbnail", "/api/stats", "/api/update",
    "/api/openapi.json", "/api/nothing", "/metrics", "/api/update/events", "/api/health/",
    "/api//health", "/API/images", "/api/session/x",
]  # fmt: skip


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong-wrong"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": f"Digest {TOKEN}"},  # as long as Bearer
        {"x-authorization": f"Bearer {TOKEN}"},
        {"authorization": TOKEN},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": "Bearer"},
        {"cookie": "lookalike_token=wrong-wrong"},
        {"cookie": f"other={TOKEN}"},
        {"cookie": "lookalike_token"},
        {"cookie": "\x80=;;;"},
    ],
)
def test_without_the_token_there_is_nothing(guarded: TestClient, headers: dict[str, str]) -> None:
    raw = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
    for path in PATHS:
        response = guarded.get(path, headers=raw)
        if path == "/API/images":  # another address, where there is nothing at all
            error_of(response, 404, "not_found")
        else:
            error_of(response, 401, "unauthorized")
            assert response.headers["www-authenticate"] == "Bearer"


def test_with_the_token_there_is_everything(guarded: TestClient) -> None:
    for headers in (
        {"authorization": f"Bearer {TOKEN}"},
        {"authorization": f"bearer  {TOKEN}"},
        {"cookie": f"a=b; lookalike_token={TOKEN}; c=d"},
    ):
        assert guarded.get("/api/images/1", headers=headers).status_code == 200
    assert answer_of(guarded.get("/api/health"))["status"] == "ok"
    assert guarded.get("/").status_code in (200, 404)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def outcome(guard: Guard, *tokens: str, client: str = "192.0.2.1") -> str:
    """The code of the error, or "ok"."""
    headers = [(b"host", b"127.0.0.1")]
    headers += [(b"authorization", f"Bearer {token}".encode()) for token in tokens]
    scope = {"headers": headers, "path": "/api/images", "scheme": "http", "client": (client, 1)}
    try:
        guard.check(scope)
    except ApiError as error:
        return error.code
    return "ok"


def test_wrong_tokens_are_slowed_for_each_client() -> None:
    clock = Clock()
    guard = Guard(ServeSettings(token=TOKEN), clock)
    tries = [outcome(guard, f"wrong-{n:04}") for n in range(GUESSES + 5)]
    assert tries == ["unauthorized"] * GUESSES + ["too_many_guesses"] * 5
    assert outcome(guard, TOKEN) == "too_many_guesses"  # the right one as well
    assert outcome(guard, "wrong-0010") == "unauthorized"  # an old cookie is not another guess
    assert outcome(guard, TOKEN, client="192.0.2.2") == "ok"
    for _ in range(3):  # one more guess every five seconds
        clock.now += 4.75
        assert outcome(guard, f"wrong-{clock.now}") == "too_many_guesses"
        clock.now += 0.25
        assert outcome(guard, f"wrong-{clock.now}") == "unauthorized"
    clock.now += 5.1
    assert [outcome(guard, TOKEN) for _ in range(100)] == ["ok"] * 100
    clock.now += 1e6  # all is forgiven, and no more than that
    tries = [outcome(guard, f"later-{n:04}") for n in range(GUESSES + 1)]
    assert tries == ["unauthorized"] * GUESSES + ["too_many_guesses"]


def test_a_network_of_ipv6_is_one_client_and_those_remembered_are_bounded() -> None:
    guard = Guard(ServeSettings(token=TOKEN), Clock())
    for n in range(GUESSES):
        assert outcome(guard, f"wrong-{n:04}", client=f"2001:db8::{n:x}") == "unauthorized"
    assert outcome(guard, TOKEN, client="2001:db8::ffff:1") == "too_many_guesses"
    assert outcome(guard, TOKEN, client="2001:db8:0:1::1") == "ok"
    for n in range(5000):
        outcome(guard, "wrong-wrong", client=f"198.51.{n >> 8}.{n & 255}")
    assert outcome(guard, TOKEN, client="2001:db8::1") == "ok"


def test_a_request_carries_no_more_guesses_than_a_browser_sends() -> None:
    guard = Guard(ServeSettings(token=TOKEN), Clock())
    assert outcome(guard, *(f"wrong-{n:04}" for n in range(100)), TOKEN) == "unauthorized"
    assert outcome(guard, "wrong-0000", TOKEN) == "ok"


def test_guesses_at_the_form_are_slowed_too(served: Gallery) -> None:
    with client_of(served, ServeSettings(token=TOKEN)) as client:
        for n in range(GUESSES):
            wrong = client.post("/api/session", json={"token": f"wrong-{n}"})
            error_of(wrong, 401, "unauthorized")
        late = client.post("/api/session", json={"token": TOKEN})
        error_of(late, 429, "too_many_guesses")
        assert late.headers["retry-after"] == "5"
        error_of(client.get("/api/images", headers=BEARER), 429, "too_many_guesses")
        assert answer_of(client.get("/api/health"))["status"] == "ok"


def test_the_session_sets_a_cookie_that_no_script_reads(served: Gallery) -> None:
    with client_of(served, ServeSettings(token=TOKEN)) as client:
        error_of(client.post("/api/session", json={"token": "wrong"}), 401, "unauthorized")
        error_of(client.post("/api/session", json={}), 400, "bad_request")
        error_of(client.get("/api/images"), 401, "unauthorized")
        response = client.post("/api/session", json={"token": TOKEN})
        assert response.status_code == 204 and response.content == b""
        cookie = response.headers["set-cookie"].lower()
        for part in ("lookalike_token=", "httponly", "samesite=strict", "path=/"):
            assert part in cookie
        assert answer_of(client.get("/api/images"))["total"] == 31


def test_every_answer_has_the_headers_of_safety(client: TestClient) -> None:
    for response in (
        client.get("/"),
        client.get("/api/health"),
        client.get("/api/images/1"),
        client.get("/api/images/1/thumbnail"),
        client.get("/nothing"),
        client.get("/api/images/x"),
        client.delete("/api/images/1"),
        client.get("/", headers={"host": "evil.example"}),
        client.get("/metrics"),
    ):
        headers = response.headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers
        kept = {"/": "no-cache", "/api/images/1": "private, no-cache"}
        kept["/api/images/1/thumbnail"] = "private, no-cache"
        usual = kept.get(response.request.url.path, "no-store")
        assert headers["cache-control"] == (usual if response.status_code == 200 else "no-store")


def test_the_page_is_served_from_memory_under_its_own_addresses(client: TestClient) -> None:
    page = read_page()
    for path in ("/", "/search", "/search?id=17", "/duplicates", "/gallery"):
        response = client.get(path)
        assert response.content == page["index.html"].content
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        assert "script-src 'self'" in response.headers["content-security-policy"]
    for name, file in page.items():
        response = client.get(f"/page/{name}")
        assert (response.status_code, response.content) == (200, file.content)
        assert response.headers["content-type"] == file.media_type
        headers = {"if-none-match": response.headers["etag"]}
        assert client.get(f"/page/{name}", headers=headers).status_code == 304
    for path in ("/search/", "/page/", "/page", "/index.html", "/page/../app.py", "/docs"):
        error_of(client.get(path), 404, "not_found")
