# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module preflight_info: what the guard finds on a host before it has to act there.

A check says what was found, and names a problem by a word. What that problem means, and which command mends it, is
said on the controller: people type such commands, and a host that somebody took over must not choose them.
"""

from __future__ import annotations

import getpass
import os
import platform
import re
import shutil
import stat
import sys
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker import sdk
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import (
    EngineError,
    EngineForbidden,
    EngineTimeout,
    EngineUnreachable,
    EngineUnsupported,
    SdkMissing,
    SdkUnusable,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._module import common
from ansible_collections.ironpost.container_guard.plugins.module_utils._module.policy_set import path_of
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.errors import PolicyError
from ansible_collections.ironpost.container_guard.plugins.module_utils._response import action_log
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.deployed import read_deployment

OLDEST_ENGINE = (20, 10)
"""The oldest engine on which all that the guard relies on is tested."""
LEAST_SPACE = 2 * action_log.MAX_BYTES * action_log.MAX_FILES
"""In bytes: the action log when it has its full size, and as much again for the journal."""
NOTHING = "-"
_VERSION = re.compile(r"(\d+)\.(\d+)\.")
_PACKAGE_MANAGERS = {"apt": "apt-get", "dnf": "dnf", "zypper": "zypper", "apk": "apk", "pacman": "pacman"}


class Check(t.NamedTuple):
    """One thing that was looked at.

    Attributes:
        name: of what was looked at.
        found: what is there, in a few words.
        problem: what is wrong with it, a word of C(PROBLEMS) on the controller; empty where nothing is.
        detail: what is known beyond that, for people.
    """

    name: str
    found: str
    problem: str = ""
    detail: str = ""


def argument_spec() -> common.Spec:
    """Options of the module."""
    return {
        "policy_set": {"type": "path", "default": common.DEFAULT_POLICY_SET, "aliases": ["path"]},
        **common.engine_spec(),
        **common.state_spec(),
    }


def main() -> None:
    """Entry point."""
    common.run(common.GuardModule(argument_spec=argument_spec(), supports_check_mode=True), report)


def report(module: AnsibleModule) -> dict[str, t.Any]:
    """What the module does. Raises GuardError (C(invalid_option))."""
    params = module.params
    state_dir, policy_path = common.state_dir_of(params), path_of({"path": params["policy_set"]})
    common.in_range(params, "action_timeout", 1, 300)
    uid, user = os.geteuid(), _user()
    policy_set, digest = policy_set_check(policy_path)
    checks = [
        python_check(),
        user_check(uid, user),
        *engine_checks(lambda: common.engine_of(params)),
        state_dir_check(state_dir),
        space_check(state_dir),
        policy_set,
    ]
    return {
        "changed": False,
        "checks": [check._asdict() for check in checks],
        "policy_set_digest": digest,
        "python": sys.executable or "",
        "package_manager": package_manager(sys.prefix, sys.base_prefix),
        "user": user,
        "uid": uid,
        "time": timestamp.now(),
    }


def python_check() -> Check:
    """Which Python runs this. One that is too old does not come so far."""
    return Check("python", platform.python_version())


def user_check(uid: int, user: str) -> Check:
    """Whether this is root."""
    return Check("user", user, "not_root" if uid else "")


def engine_checks(connect: t.Callable[[], Engine]) -> list[Check]:
    """The SDK, and what can be asked of the engine through it.

    Args:
        connect: connects to the engine. Raises EngineError.
    """
    found = _sdk_version()
    not_asked = Check("live_restore", NOTHING, "not_asked")
    try:
        engine = connect()
    except (SdkMissing, SdkUnusable) as error:
        missing = isinstance(error, SdkMissing)
        trouble = Check(
            "sdk", "none" if missing else found, "sdk_missing" if missing else "sdk_unusable", error.message
        )
        return [trouble, Check("engine", NOTHING, "not_asked"), not_asked]
    except EngineError as error:
        return [Check("sdk", found), _engine_trouble(error), not_asked]
    version = engine.version().engine
    try:
        on = engine.live_restore()
        live_restore = Check("live_restore", "on" if on else "off", "" if on else "live_restore_off")
    except EngineError as error:  # a socket proxy need not let this call through
        live_restore = not_asked._replace(detail=error.message)
    return [Check("sdk", found), Check("engine", version, _version_problem(version)), live_restore]


def state_dir_check(path: str) -> Check:
    """Whether the state directory is there, for nobody else, and can be written; or can be made."""
    there = _existing(path)
    found = os.stat(there)
    mode = f"{stat.S_IMODE(found.st_mode):04o}"
    if not stat.S_ISDIR(found.st_mode):
        return Check("state_dir", "no directory", "state_dir_no_directory", there)
    if not os.access(there, os.W_OK | os.X_OK):
        return Check("state_dir", "not writable", "state_dir_unwritable", there)
    if there != path:
        return Check("state_dir", "made when needed")
    if found.st_uid != os.geteuid():
        return Check("state_dir", f"of user {found.st_uid}", "state_dir_owner")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return Check("state_dir", mode, "state_dir_open")
    return Check("state_dir", mode, "state_dir_readable" if found.st_mode & 0o077 else "")


def space_check(path: str, least: int = LEAST_SPACE) -> Check:
    """Whether there is room for what is written to the state directory.

    Args:
        path: of the directory; it need not exist.
        least: bytes that must be free.
    """
    found = os.statvfs(_existing(path))
    free = found.f_bavail * found.f_frsize
    # Some file systems do not count their inodes, and say that they have none at all.
    enough = free >= least and (found.f_favail > 0 or not found.f_files)
    return Check("space", shown_size(free), "" if enough else "space_low")


def policy_set_check(path: str) -> tuple[Check, str]:
    """Whether a policy set is deployed that can be read, and its digest or nothing."""
    try:
        digest = read_deployment(path).policy_set.digest
    except PolicyError as error:
        missing = error.kind == "policy_set_missing"
        found = ("none", "policy_set_missing") if missing else ("damaged", "policy_set_damaged")
        return Check("policy_set", *found, error.message), ""
    return Check("policy_set", digest.rpartition(":")[2][:12]), digest


def package_manager(prefix: str, base_prefix: str) -> str:
    """The package manager that installs for this Python, or empty where that is not the one of the distribution.

    Args:
        prefix: C(sys.prefix), and likewise base_prefix; they differ in a virtual environment.
        base_prefix: of the Python that it was made with.
    """
    if not prefix == base_prefix == "/usr":
        return ""
    return next((name for name, program in _PACKAGE_MANAGERS.items() if shutil.which(program)), "")


def shown_size(size: int) -> str:
    """The number of bytes for people."""
    return f"{size // 10**9} GB" if size >= 10**9 else f"{size // 10**6} MB"


def _sdk_version() -> str:
    try:
        docker, _requests = sdk.load()
    except EngineError:
        return "unusable"
    return str(getattr(docker, "__version__", "unknown"))


def _engine_trouble(error: EngineError) -> Check:
    words = (
        (EngineForbidden, "forbidden", "engine_forbidden"),
        (EngineTimeout, "silent", "engine_timeout"),
        (EngineUnsupported, "unsupported", "engine_unsupported"),
    )
    for kind, found, problem in words:
        if isinstance(error, kind):
            return Check("engine", found, problem, error.message)
    if not isinstance(error, EngineUnreachable):
        return Check("engine", "error", "engine_error", error.message)
    installed = bool(shutil.which("dockerd"))
    return Check("engine", "unreachable", "engine_unreachable" if installed else "engine_not_installed", error.message)


def _version_problem(version: str) -> str:
    found = _VERSION.match(version)
    if not found:
        return "engine_version_unknown"
    return "engine_too_old" if (int(found[1]), int(found[2])) < OLDEST_ENGINE else ""


def _existing(path: str) -> str:
    """The path, or what of it exists."""
    while not os.path.lexists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def _user() -> str:
    try:
        return getpass.getuser() if os.geteuid() else "root"
    except Exception:  # there is none of that number, for which each Python has another error
        return str(os.geteuid())
