from __future__ import annotations

import pytest

from lookalike.cluster.uri import ClusterURI, is_cluster_uri
from lookalike.errors import GalleryError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("valkey://h/n", (False, None, None, (("h", 6379),), "n", None)),
        ("redis://h:1/a.b-c_d", (False, None, None, (("h", 1),), "a.b-c_d", None)),
        ("valkeys://h:65535/n", (True, None, None, (("h", 65535),), "n", None)),
        ("rediss://[::1]:7000/n", (True, None, None, (("::1", 7000),), "n", None)),
        ("valkey://[fe80::1],b:2/n", (False, None, None, (("fe80::1", 6379), ("b", 2)), "n", None)),
        ("valkey://:pw@h/n", (False, None, "pw", (("h", 6379),), "n", None)),
        ("valkey://ann:p%40%2F%3A@h/n", (False, "ann", "p@/:", (("h", 6379),), "n", None)),
        ("valkey://a:b:c@h/n", (False, "a", "b:c", (("h", 6379),), "n", None)),
        ("valkey://h/n?parts=/a%20b/c", (False, None, None, (("h", 6379),), "n", "/a b/c")),
        ("valkey://h/n?parts=/a@b", (False, None, None, (("h", 6379),), "n", "/a@b")),
        ("valkey://h/n?parts=s3://x/y", (False, None, None, (("h", 6379),), "n", "s3://x/y")),
    ],
)
def test_the_parts_of_a_uri_are_told_apart(text: str, expected: tuple[object, ...]) -> None:
    uri = ClusterURI.parse(text)
    assert (uri.tls, uri.user, uri.password, uri.hosts, uri.name, uri.parts) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("http://h/n", "does not begin with"),
        ("valkey://h", "name of a collection is missing"),
        ("valkey://h/", "name of a collection is missing"),
        ("valkey:///n", "a host is missing"),
        ("valkey://a,,b/n", "a host is missing"),
        ("valkey://:7000/n", "a host is missing"),
        ("valkey://h:0/n", "a port must be a number from 1 to 65535"),
        ("valkey://h:65536/n", "a port must be"),
        ("valkey://h:x/n", "a port must be"),
        ("valkey://h:\u0661/n", "a port must be a number"),
        ("valkey://::1/n", "brackets"),
        ("valkey://[::1/n", "brackets do not match"),
        ("valkey://[::1]7000/n", "follows ]"),
        (f"valkey://{'h' * 64}/n", "looked up"),
        ("valkey://h/a/b", "no collection can be called 'a/b'"),
        ("valkey://h/a:b", "no collection can be called 'a:b'"),
        ("valkey://h/{a}", "no collection can be called '{a}'"),
        ("valkey://h/-a", "no collection can be called '-a'"),
        ("valkey://h/bj%C3%B6rn", "no collection can be called"),
        (f"valkey://h/{'a' * 65}", "1 to 64"),
        ("valkey://ann@h/n", "user without a password"),
        ("valkey://h/n?part=x", "only parts=DIR is known"),
        ("valkey://h/n?parts=", "parts= is empty"),
        ("valkey://h/n?parts=a&parts=b", "twice"),
        ("valkey://h/n#x", "it has a #"),
        ("valkey://:a/b@h/n", "write %2F for /"),
        ("valkey://h/a@b", "write %2F for /"),
    ],
)
def test_a_uri_that_cannot_be_meant_is_refused_with_an_example(text: str, why: str) -> None:
    with pytest.raises(GalleryError) as raised:
        ClusterURI.parse(text)
    assert why in str(raised.value)
    assert "valkey://user:password@host:6379,other-host:6379/name" in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        "valkey://ann:sec/ret@h/n",
        "valkey://ann:sec#ret@h/n",
        "valkey://ann:sec?ret@h/n",
        "valkey://:secret@h:99999/n",
        "valkey://:secret@h/a:b",
        "valkey://:secret@[::1/n",
    ],
)
def test_no_message_shows_any_of_the_password(text: str) -> None:
    with pytest.raises(GalleryError) as raised:
        ClusterURI.parse(text)
    assert "sec" not in str(raised.value)


def test_a_uri_is_shown_without_its_password_and_otherwise_whole() -> None:
    uri = ClusterURI.parse("rediss://ann:secret@[::1]:7000,b/n?parts=D")
    assert str(uri) == "valkeys://ann:***@[::1]:7000,b:6379/n?parts=D"
    assert "secret" not in repr(uri)
    assert str(ClusterURI.parse("valkey://h/n")) == "valkey://h:6379/n"


def test_only_strings_with_one_of_four_schemes_are_cluster_uris() -> None:
    yes = ["valkey://", "valkeys://h", "redis://h/n", "rediss://h"]
    no = [
        "photos",
        "/a/valkey://",
        "valkey:h",
        "valkey",
        "http://valkey://h",
        "",
        None,
        7,
        b"redis://",
    ]
    assert [is_cluster_uri(text) for text in yes] == [True] * 4
    assert [is_cluster_uri(text) for text in no] == [False] * len(no)
