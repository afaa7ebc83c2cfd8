# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import hmac
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import parse_options
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.senders import (
    Senders,
    certificate_names,
)

TOKEN, PATH, OTHER = "correct-horse-battery", "staple-correct-horse", "the-token-of-another"
TLS = {"certfile": "crt", "cafile": "ca"}


def senders(**options: t.Any) -> Senders:
    return Senders(parse_options(options))


def who(found: Senders, authorization: str = "", path: str = "", *names: str) -> str:
    sender = found.identify(authorization, path, frozenset(names))
    return sender.name if sender else ""


def test_by_token_else_by_path_else_by_certificate() -> None:
    found = senders(
        **TLS,
        token=TOKEN,
        senders=[
            {"name": "token", "tokens": [OTHER, "its-token-of-tomorrow"], "hosts": ["a"]},
            {"name": "path", "path_tokens": [PATH], "hosts": ["b"]},
            {"name": "certificate", "certificate": "Web-1.example.com", "hosts": ["c"]},
        ],
    )
    assert who(found, f"Bearer {OTHER}") == "token"
    assert who(found, "bearer its-token-of-tomorrow") == "token"
    assert who(found, f"Bearer {TOKEN}", PATH, "web-1.example.com") == "any"
    assert who(found, "Bearer wrong", PATH, "web-1.example.com") == "path"
    assert who(found, "", "wrong", "x", "web-1.example.com") == "certificate"
    assert who(found, "", "", "web-2.example.com") == ""
    assert who(found, f"Basic {OTHER}") == ""
    assert who(found, f"Bearer {PATH}", OTHER) == ""
    assert who(found) == ""


def test_a_token_and_a_certificate_are_both_needed() -> None:
    both = {"name": "both", "tokens": [TOKEN], "certificate": "web-1", "hosts": ["web-1"]}
    found = senders(**TLS, senders=[both])
    assert who(found, f"Bearer {TOKEN}", "", "web-1") == "both"
    assert who(found, f"Bearer {TOKEN}", "", "web-2") == ""
    assert who(found, "", "", "web-1") == ""


def test_any_certificate_of_the_authority_is_enough_only_where_nothing_else_is_set() -> None:
    assert who(senders(**TLS)) == "any"
    assert who(senders(**TLS, token=TOKEN)) == ""
    assert who(senders(**TLS, senders=[{"name": "x", "certificate": "x", "hosts": ["x"]}])) == ""


@pytest.mark.parametrize(
    "options",
    [
        {"files": ["/var/log/falco.json"]},
        {"files": ["/var/log/falco.json"], "certfile": "crt"},
        {**TLS, "certificate_required": False, "token": TOKEN},
        {**TLS, "certificate_required": False, "senders": [{"name": "x", "certificate": "x", "hosts": ["x"]}]},
        {**TLS, "certificate_required": False, "senders": [{"name": "x", "tokens": [OTHER], "hosts": ["x"]}]},
    ],
)
def test_who_shows_nothing_is_a_stranger(options: dict[str, t.Any]) -> None:
    assert who(senders(**options)) == ""
    assert who(senders(**options), f"Bearer {PATH}", PATH, "any-name-of-the-authority") == ""


def test_a_signature_is_asked_for_where_a_certificate_is_not_required() -> None:
    sender = senders(**TLS, certificate_required=False, hmac_secret=OTHER).identify("", "", ())
    assert sender is not None
    assert not sender.signed("", b"body")


def test_hosts() -> None:
    bound = senders(senders=[{"name": "x", "tokens": [TOKEN], "hosts": ["a", "b"]}])
    sender = bound.identify(f"Bearer {TOKEN}", "", ())
    assert sender is not None
    assert [sender.may_speak_for(host) for host in ("a", "b", "c")] == [True, True, False]
    anybody = senders(token=TOKEN).identify(f"Bearer {TOKEN}", "", ())
    assert anybody is not None
    assert anybody.may_speak_for("c")


@pytest.mark.parametrize("prefix", ["", "sha256=", " sha256="])
def test_signatures(prefix: str) -> None:
    keys = ["one-key-of-sixteen-at-least", "another-key-of-sixteen"]
    sender = senders(hmac_secrets=keys).identify("", "", ())
    assert sender is not None
    for key in keys:
        signature = hmac.new(key.encode(), b"body", hashlib.sha256).hexdigest()
        assert sender.signed(prefix + signature.upper() if not prefix else prefix + signature, b"body")
        assert not sender.signed(prefix + signature, b"body2")
        assert not sender.signed(prefix + signature[:-1], b"body")
    assert not sender.signed("", b"body")
    assert not sender.signed("\ud800\u00fc", b"body")


def test_names_of_a_certificate() -> None:
    decoded = {
        "subject": ((("countryName", "DE"),), (("commonName", "Web-1"),)),
        "subjectAltName": (("DNS", "web-1.Example.com"), ("IP Address", "192.0.2.1"), ("URI", "spiffe://x/falco")),
    }
    assert certificate_names(decoded) == {"web-1", "web-1.example.com", "spiffe://x/falco"}
    assert certificate_names({}) == certificate_names(None) == frozenset()


def test_secrets_are_not_shown() -> None:
    options = parse_options({"senders": [{"name": "x", "tokens": [TOKEN], "hmac_secrets": [OTHER], "hosts": ["a"]}]})
    sender = Senders(options).identify(f"Bearer {TOKEN}", "", ())
    assert TOKEN not in repr(options)
    assert OTHER not in repr(options) + repr(sender)
