# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import json
import pathlib
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.command import check, main
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.spool import Spool
from ansible_collections.ironpost.container_guard.tests.fakes.rule_engine import offer

TOKEN = "correct-horse-battery"


def run(*arguments: str, variables: object = None) -> int:
    return main(arguments, io.StringIO(json.dumps(variables)))


def guard(**options: object) -> dict[str, t.Any]:
    return {"guard": {"token": TOKEN, **options}}


def test_a_misspelt_option_is_named_and_no_secret_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", variables={"guard": {"tokne": TOKEN}}) == 1
    said = capsys.readouterr()
    assert said.err == "unknown option of guard 'tokne'. Did you mean token?\n"
    assert said.out == ""


def test_what_the_role_needs_to_know_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", variables=guard(inventory="web-1,web-2,", hosts=["web-1"])) == 0
    assert json.loads(capsys.readouterr().out) == {
        "hosts": 2,
        "health": "http://127.0.0.1:5000/healthz",
        "certificate_required": False,
        "warnings": [],
    }


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("0.0.0.0", "127.0.0.1"),  # noqa: S104 - nothing listens
        ("::", "[::1]"),
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::7", "[2001:db8::7]"),
        ("guard.example.com", "guard.example.com"),
    ],
)
def test_where_this_machine_asks_whether_it_is_well(host: str, reached: str) -> None:
    assert check(guard(host=host, port=5001)).health == f"http://{reached}:5001/healthz"


def test_hosts_that_are_not_in_the_inventory(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", variables=guard(inventory="web-1,", hosts=["web-l"])) == 1
    assert "hosts: not in the inventory: web-l" in capsys.readouterr().err


def test_files_that_are_not_there(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", variables=guard(certfile=str(tmp_path / "tls.crt"))) == 1
    assert "tls.crt" in capsys.readouterr().err
    assert run("check", variables=guard(inventory=str(tmp_path / "missing"))) == 1
    assert "missing" in capsys.readouterr().err


def test_options_in_variables_of_their_own_and_those_that_nobody_reads() -> None:
    found = check({"guard_token": TOKEN, "guard_port": "5002", "guard_hots": ["web-1"]})
    assert found.health == "http://127.0.0.1:5002/healthz"
    assert found.warnings == ["The variable guard_hots is not read by the source. Did you mean guard_hosts?"]


def test_a_port_that_changes_with_every_start() -> None:
    with pytest.raises(ValueError, match="port is 0"):
        check(guard(port=0))


async def test_how_many_alerts_wait(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("waiting", str(tmp_path)) == 1
    assert "cannot be read" in capsys.readouterr().err
    spool = await Spool.open(tmp_path)
    try:
        assert run("waiting", str(tmp_path)) == 0
        await spool.store([offer(), offer("another")])
        assert run("waiting", str(tmp_path)) == 0
        assert capsys.readouterr().out == "0\n2\n"
    finally:
        await spool.close()


def test_other_words() -> None:
    assert run("chekc") == 1
