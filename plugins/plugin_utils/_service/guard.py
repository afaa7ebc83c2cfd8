# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The guard of this host without a controller: where it works, who asks, and what it says."""

from __future__ import annotations

import os
import pwd
import re
import typing as t
import urllib.parse
from collections.abc import Mapping, Sequence

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.client import DockerEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.lazy import connected_when_asked
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.retry import NO_RETRY, Retry
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.ground_truth import HostTruth
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_log import ActionLog
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.config import Config

DONE, NOT_DONE, WRONG_USAGE = 0, 1, 2
"""Exit statuses."""
WRONG = "invalid_option"
"""The kind of error that a wrong command line is."""
LOOK_TIMEOUT = 10
"""Seconds that one call to the engine may take where nothing is changed: who looks at three in the morning waits."""
# As useradd takes them, with those of a directory service: name@domain, DOMAIN\name.
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\-]{0,63}\$?")

Json = dict[str, t.Any]


class Said(t.NamedTuple):
    """What a command says.

    Attributes:
        found: all of it, for programs.
        lines: for people.
        troubles: what was not done, or is to be known beside; a line each.
        status: exit status.
    """

    found: Json
    lines: Sequence[str]
    troubles: Sequence[str] = ()
    status: int = DONE


class Guard:
    """The guard of this host, as the commands use it.

    Args:
        config: where it works.
        actor: who asks, for the records.
    """

    def __init__(self, config: Config, actor: str) -> None:
        self.config = config
        self.actor = actor
        self.files = StateDir(config.state_dir)
        self.journal = Journal(self.files)
        self.log = ActionLog(self.files)

    def engine(self, timeout: int, retry: Retry = NO_RETRY) -> Engine:
        """The engine, connected when it is asked."""
        return connected_when_asked(lambda: retry.call(lambda: DockerEngine(self.config.docker_host, timeout)))

    def to_look(self) -> Engine:
        """The engine for whoever changes nothing."""
        return self.engine(min(LOOK_TIMEOUT, self.config.action_timeout))

    def isolator(self, engine: Engine, retry: Retry = NO_RETRY) -> Isolator:
        """What isolates."""
        return Isolator(engine, self.journal, HostTruth(self.config.docker_host), retry)


def actor_of(environment: Mapping[str, str]) -> str:
    """Who asks, for the records: the user of sudo, or else the one whose process this is."""
    user = environment.get("SUDO_USER", "")
    if os.geteuid() == 0:
        return user if _USER.fullmatch(user) else "root"
    try:
        return text.display(pwd.getpwuid(os.geteuid()).pw_name, 128)
    except KeyError:
        return str(os.geteuid())


def check_rights(paths: Sequence[str], rights: int) -> None:
    """Raises GuardError (C(forbidden)) where this user must not use one of the paths.

    Args:
        paths: absolute; of one that is not there the directory counts in which it would be.
        rights: as C(os.access) takes them.
    """
    if os.geteuid() == 0:
        return
    for path in paths:
        there = path
        while not os.path.lexists(there) and os.path.dirname(there) != there:
            there = os.path.dirname(there)
        if not os.access(there, rights):
            raise GuardError(f"{path} is not for this user", kind="forbidden", remedy="Run it as root, with sudo")


def places_of(config: Config) -> list[str]:
    """What this process has to read and write: the state directory, and the socket of the engine."""
    url = urllib.parse.urlsplit(config.docker_host)
    return [config.state_dir, *([url.path] if url.scheme == "unix" else [])]


def wrong_usage(message: str, remedy: str) -> GuardError:
    """The error of a command line that cannot be meant."""
    return GuardError(message, kind=WRONG, remedy=remedy)
