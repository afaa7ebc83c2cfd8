# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import hashlib
import json
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import RAW_LIMIT
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import (
    DETECTORS,
    MAX_ALERTS,
    Reading,
    alert_from_object,
    read_message,
)
from ansible_collections.ironpost.container_guard.tests.readings import alerts_from_bytes
from ansible_collections.ironpost.container_guard.tests.unit.plugins.module_utils._alert.detectors.samples import (
    ALERTMANAGER,
    FALCO,
    RESOLVED,
    SAMPLES,
    Message,
)

GENERIC = {"source": "sensor", "rule": "Shell spawned", "severity": "high"}


def test_the_message_travels_as_it_was_received() -> None:
    body = b' {"source": "s", "rule": "r", "severity": "low", "message": "{{ x }}\\ud83d\\ude00"}\n'
    (alert,) = alerts_from_bytes(body)
    assert base64.b64decode(alert.raw) == body
    assert alert.raw_sha256 == hashlib.sha256(body).hexdigest()


def test_of_a_large_message_only_the_hash_travels() -> None:
    body = json.dumps({**GENERIC, "message": "x" * RAW_LIMIT}).encode()
    (alert,) = alerts_from_bytes(body)
    assert alert.raw == ""
    assert alert.raw_sha256 == hashlib.sha256(body).hexdigest()


def test_senders_choose_neither_host_nor_time_of_receipt() -> None:
    body = json.dumps({**GENERIC, "inventory_host": "all", "received_at": "2001-01-01T00:00:00Z", "raw": "e30="})
    (alert,) = alerts_from_bytes(body.encode())
    assert alert.inventory_host == ""
    assert not alert.received_at.startswith("2001")
    assert base64.b64decode(alert.raw) == body.encode()


def test_an_array_is_one_alert_an_element() -> None:
    falco = {"priority": "Error", "rule": "r"}
    first, second = alerts_from_bytes(json.dumps([GENERIC, falco]).encode())
    assert (first.source, second.source) == ("sensor", "falco")
    assert json.loads(base64.b64decode(second.raw)) == falco


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b"", "not_json", "line 1 column 1"),
        (b"\xff", "not_json", "not UTF-8"),
        (b'{"a":NaN}', "not_json", "NaN is not a JSON number"),
        (b"1" * 5000, "not_json", "4300 digits"),
        (b"[" * 100_000, "not_json", "nested too deeply"),
        (b"1", "not_an_alert", "not a JSON object"),
        (b"null", "not_an_alert", "not a JSON object"),
        (b"[]", "not_an_alert", "holds no alert"),
        (b"{}", "not_an_alert", "no known detector"),
        (b'{"source":"s","rule":"r"}', "invalid_alert", "severity is not one of"),
        (json.dumps([GENERIC, {**GENERIC, "rule": 1}]).encode(), "invalid_alert", "element 1: rule is not usable text"),
        (json.dumps([GENERIC, [GENERIC]]).encode(), "not_an_alert", "element 1: the message is not a JSON object"),
    ],
)
def test_refused(body: bytes, kind: str, message: str) -> None:
    with pytest.raises(AlertError, match=message) as caught:
        alerts_from_bytes(body)
    assert caught.value.kind == kind


def rules(found: Reading) -> list[str]:
    return [alert.rule for alert in found.alerts]


def reasons(found: Reading) -> list[tuple[int, str]]:
    return [(each.index, each.kind) for each in found.rejected]


BY_SHAPE = [(name, message) for name, messages in SAMPLES.items() for message in messages]


@pytest.mark.parametrize(("name", "message"), BY_SHAPE)
def test_every_sample_is_read_by_its_shape_as_by_its_name(name: str, message: Message) -> None:
    by_shape, by_name = (read_message(json.dumps(message).encode(), detector) for detector in ("", name))
    assert by_shape.rejected == by_name.rejected == ()
    assert by_shape.passed_over == by_name.passed_over
    assert [alert.container for alert in by_shape.alerts] == [alert.container for alert in by_name.alerts]
    first = next(detector.name for detector in DETECTORS.values() if detector.recognises(message))
    assert first == {"falcosidekick": "falco"}.get(name, name)


def test_every_detector_has_samples() -> None:
    assert SAMPLES.keys() == DETECTORS.keys()


def test_one_object_a_line() -> None:
    body = b"\n".join(json.dumps({**FALCO, "rule": rule}).encode() for rule in "ab") + b"\r\n\n"
    found = read_message(body)
    assert (rules(found), found.rejected) == (["a", "b"], ())
    assert json.loads(base64.b64decode(found.alerts[1].raw)) == {**FALCO, "rule": "b"}


def test_what_is_wrong_with_one_line_or_element_refuses_no_other() -> None:
    good = json.dumps(GENERIC)
    lines = [good[:-3], good, "", "7", '{"severity": NaN}', "{}", good, '{"a":' * 50_000]
    found = read_message("\n".join(lines).encode())
    assert reasons(found) == [
        (0, "not_json"),
        (2, "not_an_alert"),
        (3, "not_json"),
        (4, "not_an_alert"),
        (6, "not_json"),
    ]
    assert (len(found.alerts), found.received) == (2, 7)
    array = read_message(json.dumps([7, GENERIC, {**GENERIC, "rule": ""}, None]).encode())
    assert (len(array.alerts), reasons(array)) == (
        1,
        [(0, "not_an_alert"), (2, "invalid_alert"), (3, "not_an_alert")],
    )


def test_a_line_of_text_by_falco_gets_its_remedy() -> None:
    text = "12:43:02.928967123: Notice A shell was spawned (user=root)"
    (rejected,) = read_message(f"{json.dumps(FALCO)}\n{text}".encode()).rejected
    assert (rejected.index, rejected.remedy) == (1, "Set json_output: true in falco.yaml")


def test_lines_without_any_object_are_no_message() -> None:
    with pytest.raises(AlertError, match="line 1 column 1") as caught:
        read_message(b"GET / HTTP/1.1\n7\n")
    assert caught.value.kind == "not_json"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_other_encodings_of_json(encoding: str) -> None:
    assert rules(read_message(json.dumps(FALCO).encode(encoding))) == [FALCO["rule"]]


def test_groups_and_single_alerts_in_one_array() -> None:
    found = read_message(json.dumps([GENERIC, ALERTMANAGER, FALCO]).encode())
    assert [alert.source for alert in found.alerts] == ["sensor", "alertmanager", "falco"]
    assert (found.passed_over, found.received, found.places) == ({"resolved": 1}, 4, (0, 1, 3))
    empty = read_message(json.dumps([{**ALERTMANAGER, "alerts": []}, GENERIC]).encode())
    assert (reasons(empty), empty.received) == ([(0, "not_an_alert")], 2)


def test_the_raw_message_of_an_alert_in_a_group_is_that_alert() -> None:
    found = read_message(json.dumps(ALERTMANAGER).encode())
    assert json.loads(base64.b64decode(found.alerts[0].raw)) == ALERTMANAGER["alerts"][0]


def test_a_detector_that_is_named_reads_nothing_else() -> None:
    found = read_message(json.dumps([FALCO, GENERIC]).encode(), "suricata")
    assert [each.reason for each in found.rejected] == ["the message does not have the shape of suricata"] * 2


@pytest.mark.parametrize("name", ["osquery", "Falco", "{{ x }}"])
def test_a_detector_that_is_not_known(name: str) -> None:
    with pytest.raises(AlertError, match="is no known detector") as caught:
        read_message(b"{}", name)
    assert "alertmanager, crowdsec, falco, falcosidekick, generic" in caught.value.remedy
    assert "{{" not in str(caught.value)


@pytest.mark.parametrize("separator", [",", "\n"])
def test_too_many(separator: str) -> None:
    body = separator.join([json.dumps(GENERIC)] * (MAX_ALERTS + 1))
    with pytest.raises(AlertError, match="of at most 1000") as caught:
        read_message((f"[{body}]" if separator == "," else body).encode())
    assert caught.value.kind == "too_many_alerts"


@pytest.mark.parametrize("depth", [900, 1_000, 5_000])
def test_depth(depth: int) -> None:
    """Whether the decoder, the encoder or a parser gives up first, it is a reason."""
    nested = '{"a":' * depth + "1" + "}" * depth
    fields = json.dumps({**FALCO, "output_fields": {"container.id": "0" * 12}})
    body = fields.replace('"container.id"', f'"a": {nested}, "container.id"')
    for message in (body, f"[{body}]"):
        try:
            received = read_message(message.encode()).received
        except AlertError as error:
            received = 1 if error.message == "the message is nested too deeply" else 0
        assert received == 1


def test_ten_megabytes() -> None:
    found = read_message(json.dumps({**FALCO, "output": "{{" * 5_000_000, "tags": ["{"] * 100}).encode())
    assert len(found.alerts[0].message) == 1024


def test_numbers_beyond_64_bits() -> None:
    found = read_message(
        json.dumps([{**FALCO, "output": 2**70}, {**FALCO, "time": -(2**70), "hostname": 10**4000}]).encode()
    )
    assert [alert.message for alert in found.alerts] == [str(2**70), FALCO["output"]]


def test_severities_go_by_rule_then_tag_then_the_detectors_own_word() -> None:
    body = json.dumps(FALCO).encode()
    overrides = {"critical": "info", "process": "low", "drop and execute new binary in container": "high"}
    for key in ("drop and execute new binary in container", "process", "critical"):
        (alert,) = read_message(body, severities={"falco": overrides}).alerts
        assert str(alert.severity) == overrides.pop(key)
    (alert,) = read_message(body, severities={"falco": {"default": "medium"}}).alerts
    assert str(alert.severity) == "medium"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"alerts": [RESOLVED], "groupKey": "x"}, "needs no answer .resolved."),
        ({**ALERTMANAGER}, "holds 2 alerts"),
        ([GENERIC], "not a JSON object"),
        ({**ALERTMANAGER, "alerts": []}, "the message holds no alert"),
        ({"alerts": [7], "groupKey": "x"}, "the alert is not a JSON object"),
    ],
)
def test_what_a_person_gives_is_one_alert(message: t.Any, reason: str) -> None:
    with pytest.raises(AlertError, match=reason):
        alert_from_object(message)
