# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text

# Text that is made of what templates are made of far more often than chance would have it.
hostile = st.lists(st.sampled_from(["{", "}", "%", "#", "#jinja2:", " ", "\n", "\ud800", "\x1b", "x"])).map("".join)


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("bash -i", "bash -i"),
        ("{{ x }}", "{ { x }}"),
        ("{{{{", "{ { { { "),
        ("{% if %}{# #}", "{ % if %}{ # #}"),
        ("awk {", "awk { "),
        ("{a} #", "{a} #"),
        ("#jinja2: variable_start_string:'[['", "# jinja2: variable_start_string:'[['"),
        ("see #jinja2:", "see #jinja2:"),
        ("a\nb\x1b[2J", r"a\nb\x1b[2J"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\ud800", r"\ud800"),
        (17, "17"),
        (1.5, "1.5"),
        pytest.param(10**5000, "", id="huge"),
        (True, ""),
        (None, ""),
        ([], ""),
        ({"a": 1}, ""),
    ],
)
def test_display(given_text: object, shown: str) -> None:
    assert text.display(given_text) == shown


def test_display_is_bounded() -> None:
    assert text.display("x" * 5000) == "x" * 1021 + "..."
    assert text.display("x" * 1024) == "x" * 1024
    assert text.display("{" * 1024) == "{ " * 510 + "{..."
    assert len(text.display("\n" * 1024)) == 1024


@given(hostile | st.text(st.characters(codec=None)), st.integers(10, 100))
def test_display_is_inert_and_idempotent(value: str, limit: int) -> None:
    shown = text.display(value, limit)
    assert len(shown) <= limit
    assert shown.isprintable()
    assert text.display(shown, limit) == shown
    assert jinja2.Environment(autoescape=False).from_string(shown).render() == shown  # noqa: S701 - no HTML here
    assert not shown.startswith("#jinja2:")


@pytest.mark.parametrize("value", ["a" * 12, "0123456789abcdef" * 4, "f" * 31])
def test_container_id(value: str) -> None:
    assert text.container_id(value) == value


@pytest.mark.parametrize(
    "value", ["a" * 11, "a" * 65, "A" * 12, "g" * 12, "a" * 12 + "\n", "host", "", None, 12, ["a"]]
)
def test_no_container_id(value: object) -> None:
    assert text.container_id(value) == ""


@pytest.mark.parametrize(("value", "name"), [("web-1", "web-1"), ("/web_1.x", "web_1.x"), ("0a", "0a")])
def test_container_name(value: str, name: str) -> None:
    assert text.container_name(value) == name


@pytest.mark.parametrize("value", ["a", "-a", "//a", "a b", "a/b", "a" * 256, "a\n", "<NA>", "", None, 3])
def test_no_container_name(value: object) -> None:
    assert text.container_name(value) == ""


@pytest.mark.parametrize("value", ["web-1", "web-1.example.com", "054aab939018", "10.0.0.5"])
def test_host_name(value: str) -> None:
    assert text.host_name(value) == value


@pytest.mark.parametrize(
    "value", ["a,b", "a:b", "!a", "@/etc/hosts", "*", "a[0]", "~a", "a b", "a\n", "-a", "&a", "", None]
)
def test_no_host_name(value: object) -> None:
    assert text.host_name(value) == ""


def test_token() -> None:
    assert text.token("11f2:a-b_c.d") == "11f2:a-b_c.d"
    assert [text.token(value) for value in ("", " a", "a b", "{{", "a" * 129, None, 1)] == [""] * 7


def test_base64_and_sha256() -> None:
    assert text.base64_text("eyJhIjoxfQ==") == "eyJhIjoxfQ=="
    assert [text.base64_text(value) for value in ("{{", "a\n", "====", None)] == [""] * 4
    assert text.sha256_hex("0" * 64) == "0" * 64
    assert [text.sha256_hex(value) for value in ("0" * 63, "A" * 64, None)] == [""] * 3


@pytest.mark.parametrize("value", [1, "1", 812, "812", 4_194_304])
def test_a_process_id(value: object) -> None:
    assert text.process_id(value) == int(str(value))


@pytest.mark.parametrize(
    "value", [None, True, 0, "0", -1, "-1", "", " 1", "1 ", "\u0661", 1.0, 4_194_305, 2**70, "9" * 5000, [1], {}]
)
def test_no_process_id(value: object) -> None:
    assert text.process_id(value) == 0


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("172.18.0.4", "172.18.0.4"),
        ("fe80:0000:0000:0000:0042:acff:fe12:0004", "fe80::42:acff:fe12:4"),
        ("::ffff:172.18.0.4", "172.18.0.4"),
        ("2001:DB8::1", "2001:db8::1"),
    ],
)
def test_an_address(value: str, address: str) -> None:
    assert text.address(value) == address
    assert text.address(address) == address


@pytest.mark.parametrize(
    "value",
    [None, "", "172.18.0", "172.18.0.4/16", "172.18.0.04", " ::1", "fe80::1%eth0", "fe80::1%{{x}}", 5, b"1234", []],
)
def test_no_address(value: object) -> None:
    assert text.address(value) == ""
