# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mutes: what the guard does not answer by acting for a time, as somebody said so on this host.

A mute keeps from acting and undoes nothing. It ends by itself, also where nobody takes it away, and whatever a clock
does. Doubt never mutes: a file that is damaged mutes nothing, and that is told.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import re
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import Severity
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import (
    format_timestamp,
    parse_timestamp,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.container import Container
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.glob import compiled
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir, StateDirError

LONGEST = datetime.timedelta(days=7)
MAX_MUTES = 1_000
NAME = "mutes.json"
FORMAT = 1
_LOCK = "mutes"
_LOCK_TIMEOUT = 10
_POLICY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
# A name, or a glob over names; something of it has to be said.
_CONTAINER = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9_.*?-]{1,255}")


@dataclasses.dataclass(frozen=True)
class Mute:
    """Who must not be isolated by alerts for a time.

    Attributes:
        policy: id of the policy that is muted, or empty for each.
        container: the containers that are muted: a name, a glob over names, or 12 or more digits of an id. Empty for
            each; with an empty policy, too, all alerts about this host are muted.
        force: it mutes alerts of severity critical, too.
        reason: why, for people.
        actor: who said so, as claimed.
        since: when that was, RFC 3339, by the clock of the controller.
        until: when it ends, RFC 3339.
    """

    policy: str = ""
    container: str = ""
    force: bool = False
    reason: str = ""
    actor: str = ""
    since: str = ""
    until: str = ""

    @classmethod
    def of(
        cls,
        policy: str,
        container: str,
        since: datetime.datetime,
        until: datetime.datetime,
        reason: str = "",
        actor: str = "",
        force: bool = False,
    ) -> Mute:
        """The mute of that moment. Raises GuardError (C(invalid_option)) where it mutes nothing, or too long."""
        name = container[1:] if container.startswith("/") else container
        if policy and not _POLICY.fullmatch(policy):
            raise _invalid(f"the policy {text.display(policy, 80)!r} has no id of a policy")
        if name and not _CONTAINER.fullmatch(name):
            raise _invalid(
                f"the container is {text.display(container, 80)!r}",
                "Give a name, a glob over names such as web-*, or 12 or more digits of an id",
            )
        if not since < until <= since + LONGEST:
            raise _invalid(
                f"a mute until {format_timestamp(until)} does not end within the next 7 days",
                "Nothing was muted. It is at most 7d; mute again then",
            )
        return cls(policy, name, force, reason, actor, format_timestamp(since), format_timestamp(until))

    @property
    def subject(self) -> tuple[str, str]:
        """What is muted. There is one mute of each."""
        return self.policy, self.container

    @property
    def of_host(self) -> bool:
        """Whether all alerts about this host are muted."""
        return not (self.policy or self.container)

    def holds(self, moment: datetime.datetime) -> bool:
        """Whether it mutes at that moment. Never for longer than LONGEST, also where a clock was set back."""
        until = parse_timestamp(self.until)
        return until is not None and moment < until <= moment + LONGEST

    def means(self, policy_id: str, container: Container | None) -> bool:
        """Whether that policy must not act on that container; None for one that is not known."""
        if self.policy not in ("", policy_id):
            return False
        if not self.container or container is None:
            return not self.container
        if text.container_id(self.container):
            return container.id.startswith(self.container)
        return compiled(self.container).matches(container.name)

    def covers(self, alert: Alert) -> bool:
        """Whether alerts of that severity are muted."""
        return self.force or alert.severity < Severity.CRITICAL

    def __str__(self) -> str:
        policy = f"policy {self.policy}" if self.policy else ""
        container = f"container {self.container}" if self.container else ""
        return "{} is muted until {}{}{}: {}".format(
            " on ".join(filter(None, [policy, container])) or "this host",
            self.until,
            f" by {self.actor}" if self.actor else "",
            ", critical alerts too" if self.force else "",
            self.reason,
        )

    @classmethod
    def from_dict(cls, value: t.Mapping[str, t.Any]) -> Mute:
        """What dataclasses.asdict made of a mute. Raises GuardError, TypeError, KeyError or ValueError for others."""
        since, until = parse_timestamp(value["since"]), parse_timestamp(value["until"])
        if since is None or until is None or not isinstance(value["force"], bool):
            raise ValueError("a mute without a time")
        if not isinstance(value["policy"], str) or not isinstance(value["container"], str):
            raise TypeError("a mute of what is no text")
        found = cls.of(value["policy"], value["container"], since, until, force=value["force"])
        return dataclasses.replace(found, reason=text.display(value["reason"]), actor=text.display(value["actor"], 128))


class Mutes:
    """The mutes of this host: one file in its state directory.

    Args:
        files: where it is; whose C(warnings) say where it cannot be read.
    """

    def __init__(self, files: StateDir) -> None:
        self._files = files

    def holding(self, moment: datetime.datetime) -> tuple[Mute, ...]:
        """Those that hold at that moment, in the order of what they mute. What cannot be read mutes nothing."""
        try:
            content = self._files.read(NAME)
        except StateDirError as error:
            self._files.warnings.append(f"nothing is muted: {error}")
            return ()
        if content is None:
            return ()
        try:
            mutes = _parsed(content)
        except (GuardError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self._files.warnings.append(f"{NAME} in {self._files.path} is damaged ({error!r}): nothing is muted")
            return ()
        return tuple(mute for mute in mutes if mute.holds(moment))

    @contextlib.contextmanager
    def changing(self) -> t.Iterator[None]:
        """Keep others from changing them meanwhile. Raises StateDirError."""
        with self._files.lock(_LOCK, _LOCK_TIMEOUT):
            yield

    def write(self, mutes: t.Iterable[Mute]) -> None:
        """Replace the file. Raises StateDirError, or GuardError (C(too_many_mutes))."""
        kept = sorted(mutes, key=lambda mute: mute.subject)
        if len(kept) > MAX_MUTES:
            raise GuardError(f"there would be more than {MAX_MUTES} mutes", kind="too_many_mutes")
        content = {"format": FORMAT, "mutes": [dataclasses.asdict(mute) for mute in kept]}
        self._files.write(NAME, json.dumps(content, indent=1, sort_keys=True) + "\n")


def _parsed(content: bytes) -> list[Mute]:
    found = json.loads(content.decode("utf-8"))
    if found["format"] != FORMAT:
        raise ValueError(f"format {found['format']!r}")
    return [Mute.from_dict(value) for value in found["mutes"]]


def _invalid(message: str, remedy: str = "") -> GuardError:
    return GuardError(message, kind="invalid_option", remedy=remedy)
