# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From bytes to Alerts: decode, recognise the detector, normalise."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import types
import typing as t
import uuid

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import (
    KEYS,
    RAW_LIMIT,
    Alert,
    ContainerRef,
    Subject,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.detector import (
    Detector,
    Overrides,
    PassedOver,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.detectors import (
    alertmanager,
    crowdsec,
    falco,
    falcosidekick,
    generic,
    grafana,
    ironpost,
    suricata,
    tetragon,
    wazuh,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import now

MAX_ALERTS = 1_000
"""Most alerts in one message: reading 20,000 held up all other senders for 0.8 s."""
DETECTORS: t.Mapping[str, Detector] = {
    module.DETECTOR.name: module.DETECTOR
    for module in (
        falco,
        falcosidekick,
        tetragon,
        wazuh,
        suricata,
        crowdsec,
        grafana,
        alertmanager,
        ironpost,
        generic,
    )
}
"""By name. The first one that recognises a message reads it, so what is more special comes first."""
_LINE = re.compile(r"\S[^\n]*")
NO_OVERRIDES: Overrides = types.MappingProxyType({})
_OF_ORIGIN = uuid.UUID("7a1ad8f6-5a0c-4b6e-9a53-0f1de5c1b3a4")
"""Namespace of the ids that alerts have by their origin."""


class Origin(t.NamedTuple):
    """Where a message is kept by others. Whoever reads it there, and whenever, finds the same alerts in it.

    Attributes:
        name: of the message, which no other one has.
        received_at: when it came there, RFC 3339.
    """

    name: str
    received_at: str


@dataclasses.dataclass(frozen=True)
class Rejected:
    """An element of a message that is no alert. All texts are display texts.

    Attributes:
        index: its place in the message, from 0.
        kind: of the AlertError.
        reason: what is wrong with it.
        remedy: what the sender can do about it; may be empty.
    """

    index: int
    kind: str
    reason: str
    remedy: str = ""

    @classmethod
    def of(cls, index: int, error: AlertError) -> Rejected:
        """The element at that place, which that error refuses."""
        return cls(index, error.kind, text.display(error.message), text.display(error.remedy))


class Facets(t.NamedTuple):
    """What policies ask of an alert before its container is looked for. Two that are equal have the same answer.

    Attributes:
        source, rule, severity, host, tags: of the alert.
        subject: what it is about, as far as containers go.
        has_addresses: whether it says addresses of its container.
    """

    source: str
    rule: str
    severity: str
    host: str
    tags: tuple[str, ...]
    subject: Subject
    has_addresses: bool

    @classmethod
    def of(cls, alert: Alert) -> Facets:
        """Those of an alert."""
        has_addresses = bool(alert.container.addresses)
        return cls(alert.source, alert.rule, str(alert.severity), alert.host, alert.tags, alert.subject, has_addresses)


class Reading(t.NamedTuple):
    """What a message holds, in elements: each is an alert, rejected or passed over.

    Attributes:
        alerts: in the order of the message.
        rejected: likewise.
        passed_over: how many need no answer, by the value of PassedOver.
        places: of the alerts in the message, from 0.
        unwanted: how many were known to be unwanted before they were read whole, by their facets.
    """

    alerts: tuple[Alert, ...]
    rejected: tuple[Rejected, ...] = ()
    passed_over: t.Mapping[str, int] = types.MappingProxyType({})
    places: tuple[int, ...] = ()
    unwanted: t.Mapping[Facets, int] = types.MappingProxyType({})

    @property
    def received(self) -> int:
        """How many elements there are."""
        counted = sum(self.passed_over.values()) if self.passed_over else 0
        counted += sum(self.unwanted.values()) if self.unwanted else 0
        return len(self.alerts) + len(self.rejected) + counted


def read_message(
    body: bytes,
    detector: str = "",
    severities: Overrides = NO_OVERRIDES,
    unwanted: t.Container[Facets] = frozenset(),
    origin: Origin | None = None,
) -> Reading:
    """What a message as received holds: one JSON object, an array of them, or objects one a line (NDJSON).

    Each element is read for itself, and refuses no other.

    Args:
        body: the message.
        detector: whose messages are read, of DETECTORS; empty where their shape tells.
        severities: what L(read_overrides) made.
        unwanted: what is known to be wanted by nobody. It is counted, and not read whole: most of a flood is of that.
        origin: where others keep the message; without, it is received now, and by nobody else.

    Raises:
        AlertError: where the message as a whole is none: C(not_json), C(not_an_alert) where it is empty or the detector
            is not known, C(too_many_alerts). Nothing else is raised, whatever the bytes are.
    """
    if detector and detector not in DETECTORS:
        raise AlertError(
            f"{text.display(detector, 64)} is no known detector",
            kind="not_an_alert",
            remedy="Known are {}".format(", ".join(sorted(DETECTORS))),
        )
    elements = _elements(body, detector)
    if not elements:
        raise AlertError("the message holds no alert", kind="not_an_alert")
    if len(elements) > MAX_ALERTS:
        raise AlertError(
            f"the message has {len(elements)} elements, of at most {MAX_ALERTS}",
            kind="too_many_alerts",
            remedy="Send it in several messages",
        )
    alerts: list[Alert] = []
    places: list[int] = []
    rejected: list[Rejected] = []
    passed_over: dict[str, int] = {}
    dropped: dict[Facets, int] = {}
    for index, element in enumerate(elements):
        try:
            if isinstance(element, AlertError):
                raise element
            found = element.alert(severities, unwanted, origin and _Place(origin, index))
        except AlertError as error:
            rejected.append(Rejected.of(index, error))
        else:
            if isinstance(found, PassedOver):
                passed_over[found.value] = passed_over.get(found.value, 0) + 1
            elif isinstance(found, Facets):
                dropped[found] = dropped.get(found, 0) + 1
            else:
                alerts.append(found)
                places.append(index)
    return Reading(tuple(alerts), tuple(rejected), passed_over, tuple(places), dropped)


def alert_from_object(message: object) -> Alert:
    """The alert in one decoded message of any known detector. Raises AlertError, also where it needs no answer."""
    detector, parts = _split(message, "")
    if len(parts) != 1:
        raise AlertError(
            f"the message holds {len(parts)} alerts", kind="not_an_alert", remedy="Give its elements one by one"
        )
    found = _alert(parts[0], detector, NO_OVERRIDES)
    if isinstance(found, PassedOver):
        raise AlertError(f"the message needs no answer ({found.value})", kind="not_an_alert")
    return found


class _Place(t.NamedTuple):
    """The place of an element in a message that others keep."""

    origin: Origin
    number: int

    def ids(self, found: t.Mapping[str, t.Any]) -> dict[str, str]:
        """The identities of the alert: its own, as far as it has any that can be used."""
        return {
            name: text.token(found.get(name)) or str(uuid.uuid5(_OF_ORIGIN, f"{name} {self.number} {self.origin.name}"))
            for name in ("id", "trace_id")
        }


class _Element(t.NamedTuple):
    """An element of a message: as decoded, as received, or None where it stood among others, and who reads it."""

    value: object
    raw: bytes | None
    detector: Detector

    def alert(
        self, severities: Overrides, unwanted: t.Container[Facets], place: _Place | None
    ) -> Alert | Facets | PassedOver:
        """The alert in it, or what it would be that nobody wants, or why it needs no answer. Raises AlertError."""
        found = _converted(self.value, self.detector, severities)
        if isinstance(found, PassedOver):
            return found
        if unwanted:
            facets = _facets(found)
            if facets is not None and facets in unwanted:
                return facets
        raw = _written(self.value) if self.raw is None else self.raw
        return dataclasses.replace(
            Alert.from_dict({**found, **place.ids(found)} if place else found),
            received_at=place.origin.received_at if place else now(),
            inventory_host="",  # senders do not choose the host that acts
            raw=base64.b64encode(raw).decode("ascii") if len(raw) <= RAW_LIMIT else "",
            raw_sha256=hashlib.sha256(raw).hexdigest(),
        )


def _alert(value: object, detector: Detector, severities: Overrides) -> Alert | PassedOver:
    found = _converted(value, detector, severities)
    return found if isinstance(found, PassedOver) else Alert.from_dict(found)


def _converted(value: object, detector: Detector, severities: Overrides) -> dict[str, t.Any] | PassedOver:
    """The generic alert in a decoded message, which is yet to be checked. Raises AlertError."""
    if not isinstance(value, dict):
        raise AlertError("the alert is not a JSON object", kind="not_an_alert")
    found = detector.convert(value)
    if isinstance(found, PassedOver):
        return found
    return {**found, "severity": detector.severity(found, severities)}


def _facets(found: dict[str, t.Any]) -> Facets | None:
    """The facets of a generic alert, as far as they stand there as they are; None where it has to be read whole.

    They are compared with those of alerts, so what is equal needs no check of its own.
    """
    tags = found.get("tags") or ()
    if "received_at" in found or not found.keys() <= KEYS or not isinstance(tags, (list, tuple)):
        return None
    if not all(isinstance(said, str) for said in (found.get("source"), found.get("rule"), *tags)):
        return None
    host = found.get("host") or ""
    try:
        container = ContainerRef.from_dict(found.get("container"))
    except AlertError:
        return None
    if not isinstance(host, str):
        return None
    has_addresses = bool(container.addresses)
    return Facets(
        found["source"], found["rule"], found["severity"], host, tuple(tags), container.subject, has_addresses
    )


def _elements(body: bytes, name: str) -> list[_Element | AlertError]:
    """The elements of a message, and why others are none. Raises AlertError where it is not JSON."""
    found: list[_Element | AlertError] = []
    for message in _messages(body):
        try:
            if isinstance(message, AlertError):
                raise message
            value, raw = message
            detector, parts = _split(value, name)
        except AlertError as error:
            found.append(error)
        else:
            found += [_Element(part, raw if part is value else None, detector) for part in parts]
    return found


def _split(message: object, name: str) -> tuple[Detector, t.Sequence[object]]:
    """Who reads the message, and the alerts that it holds. Raises AlertError."""
    if not isinstance(message, dict):
        raise AlertError("the message is not a JSON object", kind="not_an_alert")
    candidates = [DETECTORS[name]] if name else DETECTORS.values()
    for detector in candidates:
        if detector.recognises(message):
            parts = detector.split(message)
            if not parts:
                raise AlertError("the message holds no alert", kind="not_an_alert")
            return detector, parts
    if name:
        raise AlertError(
            f"the message does not have the shape of {name}",
            kind="not_an_alert",
            remedy="Name another detector in the path, or none, so that the shape tells",
        )
    raise AlertError(
        "the message has the shape of no known detector and is no generic alert either",
        kind="not_an_alert",
        remedy="A generic alert has at least source, rule and severity",
    )


def _messages(body: bytes) -> list[tuple[object, bytes | None] | AlertError]:
    """The values of one JSON text or of one a line, as received where they stand alone. Raises AlertError."""
    try:
        content = body.decode(json.detect_encoding(body))
    except UnicodeDecodeError as error:
        raise AlertError(
            f"the message is not {error.encoding.upper()} (at byte {error.start})", kind="not_json"
        ) from None
    try:
        value = _decoded(content, "message")
    except AlertError as error:
        return _lines(content, error)
    return [(each, None) for each in value] if isinstance(value, list) else [(value, body)]


def _lines(content: str, error: AlertError) -> list[tuple[object, bytes | None] | AlertError]:
    """The values that stand one a line. Raises the error where no line is an object."""
    found: list[tuple[object, bytes | None] | AlertError] = []
    for line in _LINE.finditer(content):
        try:
            found.append((_decoded(line.group(), "line"), line.group().encode("utf-8")))
        except AlertError as reason:
            found.append(reason)
        if len(found) > MAX_ALERTS:
            break
    if not any(isinstance(each, tuple) and isinstance(each[0], dict) for each in found):
        raise error
    return found


def _decoded(content: str, what: str) -> t.Any:
    try:
        return _DECODER.decode(content)
    except RecursionError:
        raise AlertError(f"the {what} is nested too deeply", kind="not_json") from None
    except json.JSONDecodeError as error:
        raise AlertError(
            f"the {what} is not JSON ({error.msg}, line {error.lineno} column {error.colno})",
            kind="not_json",
            remedy=falco.remedy_for(content.lstrip()[:100].encode("utf-8")),
        ) from None
    except ValueError as error:  # NaN, Infinity, an integer of more than 4,300 digits
        raise AlertError(f"the {what} is not JSON ({error})", kind="not_json") from None


def _reject_constant(name: str) -> t.NoReturn:
    raise ValueError(f"{name} is not a JSON number")


_DECODER = json.JSONDecoder(parse_constant=_reject_constant)


def _written(value: object) -> bytes:
    try:
        return json.dumps(value).encode("ascii")
    except RecursionError:
        raise AlertError("the alert is nested too deeply", kind="invalid_alert") from None
