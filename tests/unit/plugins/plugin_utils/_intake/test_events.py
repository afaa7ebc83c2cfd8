# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import (
    MAX_TAGS,
    RAW_LIMIT,
    Alert,
    ContainerRef,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import Severity
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.events import (
    MAX_ALERTS,
    MAX_BYTES,
    events_of,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.hosts import Placed

ALERT = Alert(
    id="a",
    trace_id="t",
    source="falco",
    rule="Shell",
    severity=Severity.HIGH,
    received_at="",
    host="6bc1b4be90d6",
    container=ContainerRef(id="0123456789ab"),
)
RAW = "A" * 16_000
LARGEST = dataclasses.replace(
    ALERT,
    rule="\U0001f600" * 1024,
    message="\U0001f600" * 1024,
    tags=("\U0001f600" * 128,) * MAX_TAGS,
    container=ContainerRef(id="0" * 64, name="n" * 255, image="\U0001f600" * 1024),
    raw="A" * (4 * RAW_LIMIT // 3 + 4),
)


def placed(alert: Alert = ALERT, *targets: str) -> Placed:
    return Placed(alert, targets or ("all",))


def test_an_event_is_shaped_as_the_source_shapes_it() -> None:
    (event,) = events_of([placed(), placed(dataclasses.replace(ALERT, inventory_host="web-1"), "web-1")])
    assert event.keys() == {"alerts", "meta"}
    assert event["meta"] == {"hosts": ["all", "web-1"]}
    assert [alert["inventory_host"] for alert in event["alerts"]] == ["", "web-1"]
    assert [Alert.from_dict(alert).rule for alert in event["alerts"]] == ["Shell", "Shell"]
    assert json.loads(json.dumps(event)) == event


def test_no_alerts_are_no_event() -> None:
    assert events_of([]) == []


def test_messages_as_received_are_there_where_they_fit() -> None:
    with_raw = dataclasses.replace(ALERT, raw=RAW)
    (event,) = events_of([placed(with_raw)] * 15)
    assert {alert["raw"] for alert in event["alerts"]} == {RAW}
    (event,) = events_of([placed(with_raw)] * 20)
    assert {alert["raw"] for alert in event["alerts"]} == {""}
    assert len(event["alerts"]) == 20


def test_the_largest_alert_fits_with_its_message() -> None:
    (event,) = events_of([placed(LARGEST, *(f"host-{number}" for number in range(10)))])
    assert event["alerts"][0]["raw"]
    assert len(json.dumps(event)) <= MAX_BYTES


def test_many_alerts_are_several_events() -> None:
    events = events_of([placed(dataclasses.replace(ALERT, id=f"{number}")) for number in range(MAX_ALERTS + 1)])
    assert [len(event["alerts"]) for event in events] == [MAX_ALERTS, 1]
    assert [alert["id"] for event in events for alert in event["alerts"]] == [str(n) for n in range(MAX_ALERTS + 1)]


def test_large_alerts_are_several_events_and_each_has_its_own_hosts() -> None:
    large = [placed(dataclasses.replace(LARGEST, raw=""), f"web-{number}") for number in range(9)]
    events = events_of(large)
    assert len(events) > 1
    assert all(len(json.dumps(event)) <= MAX_BYTES for event in events)
    assert [host for event in events for host in event["meta"]["hosts"]] == [f"web-{number}" for number in range(9)]


def test_events_share_nothing_that_the_engine_changes() -> None:
    first, second = events_of([placed()] * (MAX_ALERTS + 1))
    first["meta"]["uuid"] = "one"  # as the engine's own filter does
    first["meta"]["hosts"].append("other")
    first["alerts"][0]["tags"].append("more")
    assert second["meta"] == {"hosts": ["all"]}
    assert second["alerts"][0]["tags"] == []


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.builds(
            lambda sizes, targets: placed(
                dataclasses.replace(ALERT, message="m" * sizes[0], tags=("t" * 128,) * sizes[1], raw="A" * sizes[2]),
                *targets,
            ),
            st.tuples(st.integers(0, 1024), st.integers(0, 64), st.sampled_from([0, 100, 87_384])),
            st.lists(st.sampled_from(["web-1", "web-2", "h" * 253]), min_size=1, max_size=3),
        ),
        max_size=60,
    )
)
def test_every_alert_is_in_one_event_and_no_event_is_too_large(alerts: list[Placed]) -> None:
    events = events_of(alerts)
    assert [each for event in events for each in event.placed] == alerts
    for event in events:
        assert 0 < len(event["alerts"]) == len(event.placed) <= MAX_ALERTS
        assert len(json.dumps(event)) <= MAX_BYTES
        assert event["meta"] == {"hosts": sorted({host for each in event.placed for host in each.targets})}
