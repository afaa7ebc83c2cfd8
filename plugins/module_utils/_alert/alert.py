# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Alert: one normalised message of a detector.

Every Alert is safe to hand on: its texts are inert, its identifiers are checked. L(Alert.from_dict) is the only way to
make one from the outside, so the parsers of the detectors cannot forget it.
"""

from __future__ import annotations

import dataclasses
import enum
import typing as t
import uuid

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text, timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import Severity

MAX_TAGS = 64
RAW_LIMIT = 65_536
"""Longest message, in bytes, that travels with its alert; of a longer one only the SHA-256 does."""

HOST = "host"
"""What detectors say instead of an id where no container is concerned."""
UNKNOWN = "<NA>"
"""What detectors say of something that they could not find out."""

KEYS = frozenset(
    [
        "id",
        "trace_id",
        "source",
        "rule",
        "severity",
        "time",
        "received_at",
        "host",
        "inventory_host",
        "container",
        "tags",
        "message",
        "raw",
        "raw_sha256",
    ]
)
"""What a generic alert may hold."""
_CONTAINER_KEYS = frozenset(("id", "name", "image", "pid", "addresses", "subject"))
_OLD_CONTAINER_KEYS = frozenset(("id", "name", "image"))
MAX_ADDRESSES = 2


class Subject(enum.Enum):
    """What an alert is about, as far as containers go."""

    CONTAINER = "container"
    """One container, which it names by its id."""
    UNIDENTIFIED = "unidentified"
    """One container, of which it says no usable id. It may say a name."""
    NOT_DOCKER = "not_docker"
    """The host, or a container that Docker does not run (lxc, podman, cri)."""
    NOTHING = "nothing"
    """It says nothing about containers."""

    @classmethod
    def parse(cls, value: object) -> Subject:
        """The subject of that name. Raises AlertError."""
        try:
            return cls(value)
        except ValueError:
            names = ", ".join(subject.value for subject in cls)
            raise AlertError(f"container.subject is not one of {names}") from None


@dataclasses.dataclass(frozen=True)
class ContainerRef:
    """What an alert says about its container. It is true where it says an id or a name.

    Attributes:
        id: the id or a prefix of it, 12 to 64 hexadecimal digits, or empty.
        name: the name without a slash, or empty.
        image: display text.
        subject: what the alert is about. Where there is an id, a name or a process that follows from it.
        pid: a process in it, by the number that it has on the host, or 0.
        addresses: either side of a flow, at most 2 in canonical form, who began it first where that is known.
    """

    id: str = ""
    name: str = ""
    image: str = ""
    subject: Subject = Subject.NOTHING
    pid: int = 0
    addresses: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.subject is Subject.NOT_DOCKER:
            object.__setattr__(self, "id", "")  # the id of another engine could be the prefix of one of Docker
            object.__setattr__(self, "pid", 0)
        elif self.id or self.name or self.pid:
            object.__setattr__(self, "subject", Subject.CONTAINER if self.id else Subject.UNIDENTIFIED)

    def __bool__(self) -> bool:
        return self.subject is not Subject.NOT_DOCKER and bool(self.id or self.name)

    def __str__(self) -> str:
        said = (self.name, f"({self.id[:12]})" if self.id else "")
        process = f"the container of process {self.pid}" if self.pid else "no container"
        return " ".join(part for part in said if part) or process

    @classmethod
    def from_dict(cls, value: object, unsaid: Subject = Subject.UNIDENTIFIED) -> ContainerRef:
        """The reference in a container object of an alert. Raises AlertError.

        Args:
            value: the object; None where the alert has none, so that it says nothing about containers.
            unsaid: the subject of an object that says nothing of its keys, or an image only.
        """
        if value is None:
            return cls()
        if not isinstance(value, dict):
            raise AlertError("container is not an object")
        _reject_unknown(value, _CONTAINER_KEYS, "container.")
        given_id, given_name = value.get("id"), value.get("name") or ""
        pid, addresses = _pid(value.get("pid")), _addresses(value.get("addresses"))
        # Who speaks of addresses alone watches a network, and knows no containers.
        unsaid = Subject.NOTHING if addresses else unsaid
        subject = Subject.parse(value["subject"]) if value.get("subject") else unsaid
        if given_id is not None and not isinstance(given_id, str):
            # Taken for "no id", it would leave the name to decide, which others can choose.
            raise AlertError("container.id is not text")
        if given_id == HOST:
            # A container could be *named* "host", so the name goes too.
            return cls(subject=Subject.NOT_DOCKER)
        if subject is Subject.NOT_DOCKER or given_id == UNKNOWN:
            given_id = ""
        usable_id = text.container_id(given_id)
        if given_id and not usable_id:
            raise AlertError("container.id is not 12 to 64 lower-case hexadecimal digits")
        if given_name == UNKNOWN:
            given_name = ""
        if given_name and not given_id and not text.container_name(given_name):
            raise AlertError("container.name is not a container name, and there is no container.id")
        return cls(
            id=usable_id,
            name=text.container_name(given_name),
            image="" if value.get("image") == UNKNOWN else text.display(value.get("image")),
            subject=subject,
            pid=pid,
            addresses=addresses,
        )

    def to_dict(self) -> dict[str, t.Any]:
        """The reference as JSON-serialisable data, which from_dict reads back."""
        return {
            **vars(self),
            "subject": self.subject.value,
            "addresses": list(self.addresses),
        }


def _pid(value: object) -> int:
    if value in (None, 0) and not isinstance(value, bool):
        return 0
    if isinstance(value, str) or not text.process_id(value):
        # As with the id, it would leave something else to decide.
        raise AlertError("container.pid is not the number of a process")
    return text.process_id(value)


def _addresses(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)) or len(value) > MAX_ADDRESSES:
        raise AlertError(f"container.addresses is not a list of at most {MAX_ADDRESSES}")
    found = tuple(dict.fromkeys(text.address(each) for each in value))
    if "" in found:
        raise AlertError("container.addresses holds something else than IP addresses")
    return found


@dataclasses.dataclass(frozen=True)
class Alert:
    """One normalised detector message.

    Attributes:
        id: identity of this message.
        trace_id: carried into every record of what was done about the alert.
        source: name of the detector, such as C(falco).
        rule: name of the rule that fired; display text.
        severity: on the scale of the guard.
        time: when it happened, as the detector says; RFC 3339, or empty where it said nothing readable.
        received_at: when the guard received it; RFC 3339.
        host: the host as the detector names it, or empty.
        inventory_host: the inventory name of that host, or empty where it is not known.
        container: what the alert says about its container, or that it says nothing about any.
        tags: display texts, at most 64.
        message: display text.
        raw: the message as received, base64, or empty where it is larger than RAW_LIMIT or did not come as bytes.
        raw_sha256: SHA-256 of the message as received, hexadecimal, or empty.
    """

    id: str
    trace_id: str
    source: str
    rule: str
    severity: Severity
    received_at: str
    time: str = ""
    host: str = ""
    inventory_host: str = ""
    container: ContainerRef = ContainerRef()
    tags: tuple[str, ...] = ()
    message: str = ""
    raw: str = ""
    raw_sha256: str = ""

    @classmethod
    def from_dict(cls, value: object) -> Alert:
        """The alert in an object of the generic shape, or as L(to_dict) wrote it. Raises AlertError."""
        if not isinstance(value, dict):
            raise AlertError("the alert is not a JSON object", kind="not_an_alert")
        _reject_unknown(value, KEYS, "")
        tags = value.get("tags")
        if tags is not None and not isinstance(tags, (list, tuple)):
            raise AlertError("tags is not a list")
        when = timestamp.parse_timestamp(value.get("time"))
        received = timestamp.parse_timestamp(value.get("received_at"))
        return cls(
            id=text.token(value.get("id")) or str(uuid.uuid4()),
            trace_id=text.token(value.get("trace_id")) or str(uuid.uuid4()),
            source=_required(value, "source", text.token),
            rule=_required(value, "rule", text.display),
            severity=Severity.parse(value.get("severity")),
            time=timestamp.format_timestamp(when) if when else "",
            received_at=timestamp.format_timestamp(received) if received else timestamp.now(),
            host=text.host_name(value.get("host")),
            inventory_host=text.host_name(value.get("inventory_host")),
            container=ContainerRef.from_dict(
                value.get("container"), Subject.NOTHING if _is_old_record(value) else Subject.UNIDENTIFIED
            ),
            tags=tuple(tag for tag in (text.display(tag, 128) for tag in (tags or ())[:MAX_TAGS]) if tag),
            message=text.display(value.get("message")),
            raw=text.base64_text(value.get("raw")),
            raw_sha256=text.sha256_hex(value.get("raw_sha256")),
        )

    @property
    def subject(self) -> Subject:
        """What it is about, as far as containers go."""
        return self.container.subject

    def to_dict(self) -> dict[str, t.Any]:
        """The alert as JSON-serialisable data, inert in every key and value."""
        return {
            **vars(self),
            "severity": str(self.severity),
            "container": self.container.to_dict(),
            "tags": list(self.tags),
        }


def _is_old_record(value: dict[str, t.Any]) -> bool:
    """Whether an older version of the guard wrote it, with an empty container whatever the alert was about."""
    container = value.get("container")
    return "received_at" in value and isinstance(container, dict) and container.keys() == _OLD_CONTAINER_KEYS


def _required(value: dict[str, t.Any], key: str, check: t.Callable[[object], str]) -> str:
    found = value.get(key)
    checked = check(found) if isinstance(found, str) else ""
    if not checked.strip():
        state = "missing" if found in (None, "") else "not usable text"
        raise AlertError(f"{key} is {state}")
    return checked


def _reject_unknown(value: dict[t.Any, t.Any], known: frozenset[str], prefix: str) -> None:
    # A misspelt "container" would make an alert that nothing answers.
    if value.keys() <= known:
        return
    unknown = sorted(text.display(key, 64) or "?" for key in value if key not in known)
    raise AlertError(
        "unknown key {}".format(", ".join(prefix + key for key in unknown[:5])),
        remedy="Known keys: {}".format(", ".join(sorted(prefix + key for key in known))),
    )
