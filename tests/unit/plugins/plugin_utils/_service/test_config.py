# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.config import parse_config

TOKEN = "correct-horse-battery"
URL = "https://guard.example.com:5000"


def config(**controller: t.Any) -> dict[str, t.Any]:
    return {"host": "web-1", "intake": {"token": "a-token-of-the-host"}, "controller": controller}


def test_without_a_controller_nothing_is_reported() -> None:
    assert parse_config({"host": "web-1", "intake": {"token": "a-token-of-the-host"}}).controller is None


def test_a_controller() -> None:
    found = parse_config(config(url=URL, token=TOKEN, cafile="/etc/ca.pem", heartbeat=5)).controller
    assert found
    assert (found.url, found.token, found.cafile, found.heartbeat) == (URL, TOKEN, "/etc/ca.pem", 5)
    assert TOKEN not in repr(found)
    found = parse_config(config(url=URL, certfile="/etc/web-1.pem", keyfile="/etc/web-1.key")).controller
    assert found
    assert (found.token, found.heartbeat) == ("", 30)


@pytest.mark.parametrize(
    ("controller", "why"),
    [
        ({}, "controller has no url"),
        ({"url": "guard.example.com", "token": TOKEN}, "controller.url is 'guard.example.com'"),
        ({"url": "ftp://guard.example.com", "token": TOKEN}, "Set it to an address such as"),
        ({"url": "https://user@guard.example.com", "token": TOKEN}, "Set it to an address such as"),
        ({"url": "https://guard.example.com/?a=b", "token": TOKEN}, "Set it to an address such as"),
        ({"url": "https://guard.example.com/ a", "token": TOKEN}, "Set it to an address such as"),
        ({"url": URL}, "controller has nothing to show"),
        ({"url": URL, "token": TOKEN, "token_file": "/etc/token"}, "a token and a token_file"),
        ({"url": URL, "token": "short"}, "controller.token is not usable"),
        ({"url": URL, "token_file": "token"}, "controller.token_file is 'token'. Set it to an absolute path"),
        ({"url": URL, "token": TOKEN, "keyfile": "/etc/key"}, "a keyfile and no certfile"),
        ({"url": "http://127.0.0.1:5000", "certfile": "/etc/web-1.pem"}, "its url is none of https"),
        ({"url": URL, "token": TOKEN, "heartbeat": 0.5}, "controller.heartbeat is 0.5"),
        ({"url": URL, "tokn": TOKEN}, "unknown setting of controller 'tokn'. Did you mean token"),
    ],
)
def test_what_does_not_do(controller: dict[str, t.Any], why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        parse_config(config(**controller))
