# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the preflight of a host means, and the table of all hosts.

The host names a problem by a word. What it means and the command that mends it stand here, since people type these
commands: of what the host says they hold only a user, a path and a package manager that were checked.
"""

from __future__ import annotations

import collections
import datetime
import re
import shlex
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import age, text
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import parse_timestamp
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results import checks
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.errors import AnswerError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.table import aligned, names

Json = dict[str, t.Any]
OK, WARNING, MISSING, UNKNOWN = "ok", "warning", "missing", "unknown"
COLUMNS = ("python", "user", "sdk", "engine", "live_restore", "state_dir", "space", "policy_set", "clock")
"""What is looked at. The clock is compared on the controller, all else is found on the host."""
PACKAGES: t.Mapping[str, tuple[str, str]] = {
    "apt": ("python3-docker", "apt-get install -y python3-docker"),
    "dnf": (
        "python3-docker",
        "dnf install -y python3-docker (where it is not found: first dnf install -y epel-release)",
    ),
    "zypper": ("python3-docker", "zypper install -y python3-docker"),
    "apk": ("py3-docker-py", "apk add py3-docker-py"),
    "pacman": ("python-docker", "pacman -S --noconfirm python-docker"),
}
"""By package manager: the package with the docker SDK, and the command that installs it."""
_CELL = 20
_REMARK = 160
# What stands in a command as it is.
_USER = re.compile(r"[a-z_0-9][a-z0-9_.-]{0,63}", re.IGNORECASE)
_PATH = re.compile(r"(/[A-Za-z0-9._+-]{1,255}){1,40}")
_SUDO = re.compile(r"password is required|(missing|incorrect) (sudo|become) password|not in the sudoers", re.IGNORECASE)


class Problem(t.NamedTuple):
    """What a word means: how bad that is, the same for people, and the command that mends it or what to do.

    A remedy may name C({state_dir}), C({policy_set}), C({user}), C({python}) and C({install}).
    """

    state: str
    what: str
    remedy: str


_AS_ROOT = "become root: -b, or ansible_become: true in the inventory"
PROBLEMS: t.Mapping[str, Problem] = {
    "not_asked": Problem(UNKNOWN, "it could not be asked", ""),
    "not_root": Problem(
        WARNING, "the user is not root, so that networks and freezer of the kernel are not compared", _AS_ROOT
    ),
    "sdk_missing": Problem(MISSING, "the Python there has no docker SDK", "{install}"),
    "sdk_unusable": Problem(
        MISSING,
        "the docker SDK does not work with what else is installed",
        "{python} -m venv /opt/guard && /opt/guard/bin/pip install 'docker>=7.1'; then let"
        " ansible_python_interpreter be /opt/guard/bin/python",
    ),
    "engine_unreachable": Problem(MISSING, "no Docker Engine answers", "systemctl start docker"),
    "engine_not_installed": Problem(
        MISSING,
        "no Docker Engine answers, and there is no dockerd",
        "install the Docker Engine (https://docs.docker.com/engine/install/), or let guard_docker_host name its socket",
    ),
    "engine_forbidden": Problem(
        MISSING,
        "this user may not use the socket of the engine",
        f"{_AS_ROOT}; a socket proxy has to let GET /version through",
    ),
    "engine_timeout": Problem(
        MISSING, "the Docker Engine is silent", "journalctl -u docker; then: systemctl restart docker"
    ),
    "engine_unsupported": Problem(
        MISSING, "what answers is Podman and no Docker Engine", "let guard_docker_host name the socket of dockerd"
    ),
    "engine_error": Problem(MISSING, "the Docker Engine answers with an error", "docker version; journalctl -u docker"),
    "engine_too_old": Problem(MISSING, "the Docker Engine is older than 20.10", "install Docker Engine 20.10 or newer"),
    "engine_version_unknown": Problem(WARNING, "the Docker Engine does not say its version", "docker version"),
    "live_restore_off": Problem(
        WARNING,
        "a restart of the engine ends containers, and with them what is paused",
        'put "live-restore": true into /etc/docker/daemon.json; then: systemctl reload docker',
    ),
    "state_dir_no_directory": Problem(
        MISSING, "the state directory, or what it is to lie in, is no directory", "ls -ld {state_dir}"
    ),
    "state_dir_unwritable": Problem(
        MISSING,
        "the state directory cannot be written",
        "findmnt -T {state_dir} says whether it is mounted read-only; else become root",
    ),
    "state_dir_owner": Problem(MISSING, "the state directory belongs to another user", "chown -R {user} {state_dir}"),
    "state_dir_open": Problem(MISSING, "others may write to the state directory", "chmod 0700 {state_dir}"),
    "state_dir_readable": Problem(WARNING, "others may read the state directory", "chmod 0700 {state_dir}"),
    "space_low": Problem(
        WARNING, "there is little room for the action log and the journal", "df -h {state_dir}; df -i {state_dir}"
    ),
    "policy_set_missing": Problem(
        WARNING,
        "no policy set is deployed",
        "ansible-playbook -b ironpost.container_guard.deploy_policies -e policies_src=DIRECTORY",
    ),
    "policy_set_damaged": Problem(
        MISSING,
        "the policy set cannot be read",
        "ansible-playbook -b ironpost.container_guard.deploy_policies -e policies_src=DIRECTORY",
    ),
    "clock_skew": Problem(WARNING, "its clock differs from that of the controller", "timedatectl set-ntp true"),
    # Of hosts that were not asked at all.
    "unreachable": Problem(MISSING, "it is not reached", "ansible HOST -m ansible.builtin.ping"),
    "become_refused": Problem(
        MISSING, "the user may not become root", "-K asks for the password of sudo; or let sudo ask for none"
    ),
    "not_run": Problem(MISSING, "the module does not run there", "ansible HOST -m ansible.builtin.ping -b -vvv"),
}


def judged(found: Json, state_dir: str, policy_set: str, before: datetime.datetime, after: datetime.datetime) -> Json:
    """What a host found out, with what it means.

    Args:
        found: the result of the module.
        state_dir: on the host, as the task says, and likewise policy_set.
        before: when the host was asked, by the clock of the controller; after: when its answer was there.

    Raises:
        AnswerError: no preflight ends so.
    """
    manager = found["package_manager"]
    if manager not in ("", *PACKAGES):
        raise AnswerError("a package manager that does not exist")
    user = found["user"] if _USER.fullmatch(found["user"]) else "USER"
    python = found["python"] if _PATH.fullmatch(found["python"]) else "python3"
    known = [_known(check) for check in checks.dicts(found["checks"], "checks")]
    if [check["name"] for check in known] != list(COLUMNS[:-1]):
        raise AnswerError("other checks than those of the module")
    package, install = PACKAGES.get(manager, ("", f"{python} -m pip install 'docker>=7.1'"))
    values = {
        "state_dir": shlex.quote(state_dir),
        "policy_set": shlex.quote(policy_set),
        "user": user,
        "python": python,
        "install": install,
    }
    shown = [_meaning(check, values) for check in (*known, _clock(found["time"], before, after))]
    return {
        **found,
        "checks": shown,
        "package": package,
        "ready": all(check["state"] != MISSING for check in shown),
    }


def checked(hosts: t.Mapping[str, Json], left: t.Container[str] = ()) -> Json:
    """The preflight of all hosts as lines for people, and as data.

    Args:
        hosts: of each host the result of preflight_info; failed and unreachable ones, too. Empty where there is none.
        left: hosts that are still to be asked, as their batch comes later: they are passed over.

    Returns:
        C(lines), a C(conclusion), whether all are C(ready), and C(hosts): of each whether it is ready, what was found,
        and its problems.
    """
    found = {host: _checks_of(result) for host, result in hosts.items() if result or host not in left}
    rows = [["host", *(name.replace("_", " ") for name in COLUMNS)]]
    for host, each in found.items():
        cells = {check["name"]: text.display(check["found"], _CELL) for check in each}
        remark = "" if len(each) > 1 else text.display(each[0]["detail"], _REMARK)
        rows.append([host, f"{each[0]['what']}: {remark}"] if remark else [host, *(cells[name] for name in COLUMNS)])
    groups: dict[tuple[str, str, str], list[str]] = collections.defaultdict(list)
    for host, each in found.items():
        for check in each:
            if check["state"] in (MISSING, WARNING):
                groups[check["state"], check["what"], check["remedy"]].append(host)
    lines = aligned(rows, "l" * len(rows[0]))
    for state in (MISSING, WARNING):
        for (of_state, what, remedy), concerned in groups.items():
            if of_state == state:
                lines += [f"{state} on {names(concerned)}: {what}", f"    {remedy}"]
    ready = {host: all(check["state"] != MISSING for check in each) for host, each in found.items()}
    late = [host for host, is_ready in ready.items() if not is_ready]
    conclusion = f"not ready: {names(late)}" if late else f"ready: {names(list(ready))}"
    return {
        "lines": [*lines, conclusion],
        "conclusion": conclusion,
        "ready": not late,
        "hosts": {
            host: {
                "ready": ready[host],
                "found": {check["name"]: check["found"] for check in each if check["found"]},
                "problems": [
                    {key: check[key] for key in ("name", "problem", "state", "what", "remedy")}
                    for check in each
                    if check["state"] in (MISSING, WARNING)
                ],
            }
            for host, each in found.items()
        },
    }


def _known(check: Json) -> dict[str, str]:
    found = {key: check.get(key) for key in ("name", "found", "problem", "detail")}
    if not all(isinstance(value, str) for value in found.values()):
        raise AnswerError("a check that is no text")
    if found["problem"] and found["problem"] not in PROBLEMS:
        raise AnswerError("a problem that does not exist")
    return t.cast("dict[str, str]", found)


def _meaning(check: dict[str, str], values: t.Mapping[str, str]) -> dict[str, str]:
    problem = PROBLEMS[check["problem"]] if check["problem"] else Problem(OK, "", "")
    remedy = problem.remedy.format(**values)
    return {**check, "state": problem.state, "what": problem.what, "remedy": remedy}


def _clock(told: str, before: datetime.datetime, after: datetime.datetime) -> dict[str, str]:
    """How far its clock is outside of the time in which it was asked."""
    moment = parse_timestamp(told)
    if moment is None:
        raise AnswerError("a time that is none")
    apart = max((before - moment).total_seconds(), 0) or min((after - moment).total_seconds(), 0)
    problem = "clock_skew" if abs(apart) > age.SKEW.total_seconds() else ""
    side = "behind" if apart > 0 else "ahead"
    found = f"{abs(apart):.0f} s {side}" if abs(apart) >= 1 else "agrees"
    return {"name": "clock", "found": found, "problem": problem, "detail": ""}


def _checks_of(result: Json) -> list[dict[str, str]]:
    if result.get("checks"):
        return t.cast("list[dict[str, str]]", result["checks"])
    message = str(result.get("msg") or "it was lost before it could be asked").removeprefix("Task failed: ")
    said = f"{message} {result.get('module_stderr') or ''} {result.get('module_stdout') or ''}"
    word = "unreachable" if result.get("unreachable") else "become_refused" if _SUDO.search(said) else "not_run"
    return [_meaning({"name": "host", "found": "", "problem": word, "detail": message}, {})]
