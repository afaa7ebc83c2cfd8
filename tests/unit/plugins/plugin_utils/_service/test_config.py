# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The configuration of the host service."""

from __future__ import annotations

import json
import pathlib
import re
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.config import (
    ConfigError,
    parse_config,
    read_config,
)

TOKEN = "a-token-of-16-letters"
MINIMAL = {"host": "web-1", "intake": {"token": TOKEN}}
CONTROLLER_TOKEN = "correct-horse-battery"
URL = "https://guard.example.com:5000"


def test_a_token_of_the_host_speaks_for_the_host_alone() -> None:
    config = parse_config(MINIMAL)
    (sender,) = config.intake.senders
    assert (sender.name, sender.hosts, sender.tokens) == ("local", ("web-1",), (TOKEN,))
    assert config.intake.all_tokens == ()
    assert config.intake.port == 5001
    assert config.intake.host == "127.0.0.1"


def test_alerts_are_taken_to_the_host_at_once() -> None:
    options = parse_config(MINIMAL).intake
    assert (options.batch_window, options.batch_interval, options.lookup_hosts) == (0, 0, ("web-1",))
    assert options.answer_timeout == options.answer_deadline


def test_files_are_about_this_host() -> None:
    config = parse_config({"host": "web-1", "intake": {"files": ["/var/log/falco.json", {"path": "/x", "host": "b"}]}})
    assert [(file.path, file.host) for file in config.intake.files] == [("/var/log/falco.json", "web-1"), ("/x", "b")]


def test_other_senders_speak_for_this_host_unless_they_say_more() -> None:
    senders = [{"name": "a", "tokens": [TOKEN]}, {"name": "b", "tokens": [f"{TOKEN}2"], "hosts": ["web-1", "web-2"]}]
    config = parse_config({"host": "web-1", "intake": {"senders": senders}})
    assert [sender.hosts for sender in config.intake.senders] == [("web-1",), ("web-1", "web-2")]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"host": None}, "host is missing"),
        ({"host": "-x"}, "host holds"),
        ({"hots": "web-1"}, "Did you mean host?"),
        ({"state_dir": "here"}, "state_dir is 'here'. Set it to an absolute path"),
        ({"action_timeout": 0}, "action_timeout is 0"),
        ({"intake": {"tokn": TOKEN}}, "Did you mean token?"),
        ({"intake": {"inventory": "x"}}, "unknown setting of intake 'inventory'"),
        ({"intake": {}}, "no way to tell senders apart"),
        ({"intake": {"hmac_secret": TOKEN}}, "without a token or path_token"),
        ({"intake": {"token": "short"}}, "not usable"),
        ({"intake": []}, "intake is no dictionary"),
    ],
)
def test_what_cannot_be_used_is_named(changes: dict[str, t.Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_config({**MINIMAL, **changes})


def test_no_message_shows_a_token() -> None:
    with pytest.raises(ValueError, match="not usable") as error:
        parse_config({"host": "web-1", "intake": {"token": "s3cret!"}})
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"{", "is no JSON"), (b"\xff", "is no JSON"), (b"[]", "no dictionary"), (b" " * 1_048_577, "is larger")],
)
def test_a_file_that_is_none_is_named(tmp_path: pathlib.Path, content: bytes, said: str) -> None:
    path = tmp_path / "service.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=said) as error:
        read_config(str(path))
    assert str(path) in str(error.value)


def test_a_file_that_is_missing_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_config(str(tmp_path / "service.json"))


def test_a_file_is_read(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "service.json"
    path.write_text(json.dumps(MINIMAL))
    assert read_config(str(path)) == parse_config(MINIMAL)


def with_controller(**controller: t.Any) -> dict[str, t.Any]:
    return {"host": "web-1", "intake": {"token": "a-token-of-the-host"}, "controller": controller}


def test_without_a_controller_nothing_is_reported() -> None:
    assert parse_config({"host": "web-1", "intake": {"token": "a-token-of-the-host"}}).controller is None


def test_a_controller() -> None:
    found = parse_config(with_controller(url=URL, token=CONTROLLER_TOKEN, cafile="/etc/ca.pem", heartbeat=5)).controller
    assert found
    assert (found.url, found.token, found.cafile, found.heartbeat) == (URL, CONTROLLER_TOKEN, "/etc/ca.pem", 5)
    assert CONTROLLER_TOKEN not in repr(found)
    found = parse_config(with_controller(url=URL, certfile="/etc/web-1.pem", keyfile="/etc/web-1.key")).controller
    assert found
    assert (found.token, found.heartbeat) == ("", 30)


@pytest.mark.parametrize(
    ("controller", "why"),
    [
        ({}, "controller has no url"),
        ({"url": "guard.example.com", "token": CONTROLLER_TOKEN}, "controller.url is 'guard.example.com'"),
        ({"url": "ftp://guard.example.com", "token": CONTROLLER_TOKEN}, "Set it to an address such as"),
        ({"url": "https://user@guard.example.com", "token": CONTROLLER_TOKEN}, "Set it to an address such as"),
        ({"url": "https://guard.example.com/?a=b", "token": CONTROLLER_TOKEN}, "Set it to an address such as"),
        ({"url": "https://guard.example.com/ a", "token": CONTROLLER_TOKEN}, "Set it to an address such as"),
        ({"url": URL}, "controller has nothing to show"),
        ({"url": URL, "token": CONTROLLER_TOKEN, "token_file": "/etc/token"}, "a token and a token_file"),
        ({"url": URL, "token": "short"}, "controller.token is not usable"),
        ({"url": URL, "token_file": "token"}, "controller.token_file is 'token'. Set it to an absolute path"),
        ({"url": URL, "token": CONTROLLER_TOKEN, "keyfile": "/etc/key"}, "a keyfile and no certfile"),
        ({"url": "http://127.0.0.1:5000", "certfile": "/etc/web-1.pem"}, "its url is none of https"),
        ({"url": URL, "token": CONTROLLER_TOKEN, "heartbeat": 0.5}, "controller.heartbeat is 0.5"),
        ({"url": URL, "tokn": CONTROLLER_TOKEN}, "unknown setting of controller 'tokn'. Did you mean token"),
    ],
)
def test_what_does_not_do(controller: dict[str, t.Any], why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        parse_config(with_controller(**controller))
