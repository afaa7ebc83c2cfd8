# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The spool: an alert that was accepted is on disk until it was answered, or until somebody was told that it was not."""

from __future__ import annotations

import dataclasses
import pathlib
import time
import typing as t
from collections.abc import Callable, Mapping, Sequence

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError

Json = t.Any


class SpoolError(GuardError):
    """Nothing was stored. Kinds: C(spool_full), C(spool_unusable), C(spool_in_use), C(shutting_down)."""

    default_kind = "spool_unusable"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpoolLimits:
    """How much is kept, and for how long.

    Attributes:
        max_bytes: of alerts that wait.
        max_alerts: that wait.
        history_days: for which alerts that ended are kept.
        history_max_bytes: of alerts that ended; the oldest go first.
        raw_hours: for which the message as received is kept with an alert that ended.
        fold_isolated: seconds after an isolation within which the same alert is folded into the one that led to it.
        fold_decided: seconds after the outcomes no_policy, protected and audit within which the same alert is folded.
    """

    max_bytes: int = 268_435_456
    max_alerts: int = 100_000
    history_days: float = 7
    history_max_bytes: int = 209_715_200
    raw_hours: float = 24
    fold_isolated: float = 10
    fold_decided: float = 10


@dataclasses.dataclass(frozen=True)
class Offer:
    """An alert to be stored, with its inventory host.

    Attributes:
        alert: with its C(inventory_host), or without where it is not known.
        targets: inventory hosts that are to answer; or a pattern or group, such as C(all), where the host is not known.
    """

    alert: Alert
    targets: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Stored:
    """What became of an offer.

    Attributes:
        trace_id: of the alert.
        folded_into: trace id of the alert with which it is answered, or empty.
    """

    trace_id: str
    folded_into: str = ""


class Spool:
    """Made by L(open). All methods are for the thread of the event loop; a thread of its own writes."""

    @classmethod
    async def open(
        cls, directory: pathlib.Path, limits: SpoolLimits | None = None, clock: Callable[[], float] = time.time
    ) -> Spool:
        """Open the spool in a directory, which is made (0700) where it is missing. Raises SpoolError."""
        raise NotImplementedError

    async def store(
        self,
        offers: Sequence[Offer],
        counts: Mapping[str, int] | None = None,
        position: tuple[str, Json] | None = None,
    ) -> list[Stored]:
        """Put alerts on disk, all or none, with what else is known of the same request or batch of lines.

        Returns once it is synced to disk, in the order of the offers. Without offers and position the counts are
        written within a second, and nothing is waited for.

        Args:
            offers: each is stored, or folded into an earlier one.
            counts: elements that are not offered: C(rejected), C(dropped), C(passed_over). C(received) may be said,
                and is then the number of all elements, offers included.
            position: name of a followed file, and how far it is read.

        Raises:
            SpoolError: nothing was stored, and no position; the same may be offered again later.
            ValueError: the counts do not add up.
        """
        raise NotImplementedError

    def position(self, name: str) -> Json | None:
        """What was last remembered by that name."""
        raise NotImplementedError

    async def remember(self, name: str, value: Json) -> None:
        """Keep a JSON value by name, such as the port for receipts. Raises SpoolError."""
        raise NotImplementedError

    @property
    def key(self) -> bytes:
        """The secret behind capabilities, made once."""
        raise NotImplementedError

    @property
    def accounts(self) -> dict[str, int]:
        """Numbers of elements: received = the sum of all others (see accounting). Cheap."""
        raise NotImplementedError

    def figures(self) -> dict[str, float]:
        """For metrics: C(waiting_alerts), C(waiting_bytes), C(history_alerts), C(history_bytes). Cheap."""
        raise NotImplementedError

    def troubles(self) -> list[str]:
        """Why nothing can be stored at the moment; empty where it can."""
        raise NotImplementedError

    async def trace(self, trace_id: str) -> dict[str, Json] | None:
        """What is known of an alert that waits or has ended. Raises SpoolError. See also L(trace)."""
        raise NotImplementedError

    async def close(self) -> None:
        """Write what is still to be written, and give the directory back."""
        raise NotImplementedError


def trace(directory: pathlib.Path, trace_id: str) -> dict[str, Json] | None:
    """What the spool in a directory knows of an alert, for another process; the spool may be in use.

    C({"trace_id", "state": "waiting" | an account of ENDS, "outcome", "received_at", "ended_at", "attempts", "folded",
    "hosts": {host: {"outcome", "policy_id", "record_id", "container", "milliseconds"} or null}, "alert": {...}}).
    Raises SpoolError.
    """
    raise NotImplementedError
