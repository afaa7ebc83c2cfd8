# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a receipt says."""

from __future__ import annotations

import datetime
import typing as t
import uuid

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.packed import written
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results import receipt
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.receipt import Delivery, DeliveryError

NOW = datetime.datetime(2026, 4, 5, 12, 0, 10, tzinfo=datetime.UTC)
SAID = {
    "id": "d-1",
    "hosts": ["web-1", "all"],
    "pattern": True,
    "deadline": "2026-04-05T12:10:00Z",
    "receipt_url": "http://127.0.0.1:5001/receipts",
    "capability": "ab" * 32,
}


def event(delivery: t.Any) -> dict[str, t.Any]:
    alerts = [{"trace_id": "t-1"}, "none", {"trace_id": "t-2"}]
    return {"ansible_eda": {"event": {"alerts": alerts, "delivery": delivery}}}


def response(trace_id: str, outcome: str, acts: bool = True, **event: t.Any) -> dict[str, t.Any]:
    container = {"id": "ab" * 32, "name": "web", "image": "shop"}
    decision = {"outcome": "isolate" if acts else outcome, "trace_id": trace_id, "policy_id": "p", "container": None}
    return {"decision": decision, "event": {"outcome": outcome, "container": container, **event} if acts else None}


def told(alerts: t.Any, found: dict[str, t.Any]) -> dict[str, str]:
    return {entry["trace_id"]: entry["outcome"] for entry in receipt.entries(alerts, "web-1", found, NOW)}


def alert(trace_id: str, host: str = "web-1") -> dict[str, str]:
    return {"trace_id": trace_id, "inventory_host": host}


class TestDelivery:
    def test_is_read_from_the_event(self) -> None:
        delivery = Delivery.of(event(SAID))
        assert delivery is not None
        assert (delivery.id, delivery.hosts, delivery.deadline) == ("d-1", ("web-1", "all"), SAID["deadline"])
        assert SAID["capability"] not in repr(delivery)

    @pytest.mark.parametrize("variables", [{}, {"ansible_eda": {}}, {"ansible_eda": {"event": "x"}}, event(None)])
    def test_that_is_not_there(self, variables: dict[str, t.Any]) -> None:
        assert Delivery.of(variables) is None

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("id", "a b"),
            ("hosts", "web-1"),
            ("hosts", [1]),
            ("pattern", "yes"),
            ("deadline", "soon"),
            ("receipt_url", "file:///etc/passwd"),
            ("receipt_url", "//host"),
            ("receipt_url", ""),
            ("capability", "x\r\nHost: evil"),
        ],
    )
    def test_that_cannot_be_used(self, key: str, value: t.Any) -> None:
        with pytest.raises(DeliveryError, match=key):
            Delivery.of(event({**SAID, key: value}))

    def test_without_an_address_is_handed_on(self) -> None:
        without = {key: value for key, value in SAID.items() if key != "receipt_url"}
        delivery = Delivery.of(event(without))
        assert delivery is not None
        assert delivery.receipt_url == ""
        run_hosts = [f"web-{number}" for number in range(20)]
        for host, says in (("web-0", True), ("web-9", True), ("web-10", False)):
            said = delivery.handed_on(delivery.receipt(host, run_hosts, "answered", [], {"policy_set_digest": "d"}))
            assert said.pop("run_hosts", None) == (run_hosts if says else None)
            told = {"state": "answered", "policy_set_digest": "d", "message": "", "alerts": []}
            assert said == {"host": host, **told}, "nothing of it allows to acknowledge"

    def test_to_hosts_says_no_others(self) -> None:
        delivery = Delivery.of(event({**SAID, "pattern": False}))
        assert delivery is not None
        assert "run_hosts" not in delivery.handed_on(delivery.receipt("web-1", ["web-1"], "answered", [], {}))

    def test_is_of_alerts_that_are_packed_too(self) -> None:
        given = [{"trace_id": f"t-{number}", "rule": str(uuid.uuid4())} for number in range(600)]
        alerts, number = written(given)
        delivery = Delivery.of({"ansible_eda": {"event": {**alerts, "delivery": SAID}}})
        assert delivery is not None
        assert (len(alerts["alerts"]), number) == (1, 600)
        assert delivery.trace_ids == tuple(alert["trace_id"] for alert in given)

    def test_beside_alerts_that_nobody_can_read(self) -> None:
        with pytest.raises(DeliveryError, match="packed_alerts"):
            Delivery.of({"ansible_eda": {"event": {"alerts": [], "packed_alerts": "x", "delivery": SAID}}})

    def test_that_is_none(self) -> None:
        with pytest.raises(DeliveryError):
            Delivery.of(event("x"))


class TestEntries:
    def test_one_for_each_alert_that_the_host_is_to_answer(self) -> None:
        alerts = [alert("t-1"), alert("t-2", ""), alert("t-3", "web-2"), alert("t-1"), {"id": "none"}, "none"]
        found = {"responses": [response("t-1", "isolated"), response("t-3", "isolated"), response("t-9", "isolated")]}
        assert told(alerts, found) == {"t-1": "isolated"}, "of others the host may say what it likes"

    def test_an_alert_whose_host_is_no_name_concerns_each_host(self) -> None:
        assert receipt.concerned([alert("t-1", "a b"), alert("t-2", "web-2"), alert("t-3")], "web-1") == ["t-1", "t-3"]

    def test_several_containers_are_told_once_for_each_outcome(self) -> None:
        found = {"responses": [response("t-1", outcome) for outcome in ("isolated", "failed", "isolated", "held")]}
        entries = receipt.entries([alert("t-1")], "web-1", found, NOW)
        assert [entry["outcome"] for entry in entries] == ["isolated", "failed", "held"]

    def test_each_container_that_counts_in_limits_is_told_by_one_alert(self) -> None:
        def isolated(trace_id: str, name: str) -> dict[str, t.Any]:
            return response(trace_id, "isolated", container={"id": name * 64, "name": name})

        found = {
            "responses": [
                *(isolated("t-1", name) for name in "abc"),
                *(isolated("t-2", name) for name in "abcd"),
                *(isolated("t-3", name) for name in "abcd"),
            ]
        }
        entries = receipt.entries([alert("t-1"), alert("t-2"), alert("t-3")], "web-1", found, NOW)
        assert [(entry["trace_id"], entry["container"]["name"]) for entry in entries] == [
            *(("t-1", name) for name in "abc"),
            *(("t-2", name) for name in "ad"),
            ("t-3", "a"),
        ]

    def test_a_decision_that_does_not_act_is_the_outcome(self) -> None:
        found = {"responses": [response("t-1", "no_policy", acts=False), response("t-2", "isolate", acts=False)]}
        assert told([alert("t-1"), alert("t-2")], found) == {"t-1": "no_policy", "t-2": "unknown"}

    @pytest.mark.parametrize("kind", ["engine_timeout", "engine_unreachable"])
    def test_what_needed_an_engine_that_is_silent_is_left_out(self, kind: str) -> None:
        silent = response("t-1", "failed", error={"kind": kind})
        found = {"responses": [silent, response("t-2", "no_policy", acts=False)]}
        assert told([alert("t-1"), alert("t-2")], found) == {"t-2": "no_policy"}
        assert receipt.state_of(found) == receipt.FAILED_RUN
        assert receipt.state_of({"responses": found["responses"][1:]}) == receipt.ANSWERED
        assert receipt.state_of({"failed": True, "msg": "bad option"}) == receipt.FAILED_RUN

    def test_other_failures_are_told(self) -> None:
        found = {"responses": [response("t-1", "failed", error={"kind": "engine_error"}), response("t-2", "failed")]}
        assert told([alert("t-1"), alert("t-2")], found) == {"t-1": "failed", "t-2": "failed"}
        assert receipt.state_of(found) == receipt.ANSWERED

    def test_an_element_that_the_host_takes_for_no_alert_is_refused(self) -> None:
        found = {"responses": [], "rejected": [{"index": 1}, {"index": 9}, {"index": -1}, {}]}
        assert told([alert("t-1"), alert("t-2")], found) == {"t-2": "refused"}

    def test_container_policy_and_record(self) -> None:
        found = {
            "responses": [response("t-1", "isolated"), response("t-2", "no_policy", acts=False)],
            "outcomes": [{"record_id": "r-1"}, {"record_id": "r 2"}],
        }
        first, second = receipt.entries([alert("t-1"), alert("t-2")], "web-1", found, NOW)
        assert first["container"] == {"id": "ab" * 32, "name": "web"}
        assert (first["policy_id"], first["record_id"]) == ("p", "r-1")
        assert (second["container"], second["record_id"]) == (None, "")
        found["outcomes"] = found["outcomes"][:1]
        assert receipt.entries([alert("t-1")], "web-1", found, NOW)[0]["record_id"] == ""

    @pytest.mark.parametrize(
        ("accepted", "acted", "answered_at", "milliseconds"),
        [
            # The clock of the host is an hour behind: it acted half a second before it answered.
            ("2026-04-05T12:00:08Z", "2026-04-05T11:00:09.500Z", "2026-04-05T11:00:10Z", 1500),
            ("2026-04-05T12:00:08Z", "2026-04-05T11:00:10Z", "2026-04-05T11:00:09Z", 2000),
            ("2026-04-05T12:00:08Z", "2026-04-05T09:00:00Z", "2026-04-05T11:00:00Z", 0),
            ("2026-04-05T12:00:11Z", "2026-04-05T11:00:09Z", "2026-04-05T11:00:09Z", 0),
            ("", "2026-04-05T11:00:09Z", "2026-04-05T11:00:09Z", None),
            ("2026-04-05T12:00:08Z", "", "2026-04-05T11:00:09Z", None),
            ("2026-04-05T12:00:08Z", "2026-04-05T11:00:09Z", None, None),
        ],
    )
    def test_how_long_it_took_by_the_clock_of_the_controller(
        self, accepted: str, acted: str, answered_at: str | None, milliseconds: int | None
    ) -> None:
        timeline = {"accepted": accepted, "acted": acted}
        found = {"responses": [response("t-1", "isolated", timeline=timeline)], "answered_at": answered_at}
        (entry,) = receipt.entries([alert("t-1")], "web-1", found, NOW)
        assert entry["milliseconds"] == milliseconds


def test_a_receipt_repeats_what_the_capability_is_for() -> None:
    delivery = Delivery.of(event(SAID))
    assert delivery is not None
    found = {"policy_set_digest": "sha256:ab", "msg": "{{ bad }}"}
    assert delivery.receipt("web-1", ["web-1", "web-2"], receipt.ANSWERED, [], found) == {
        "delivery": "d-1",
        "hosts": ["web-1", "all"],
        "pattern": True,
        "deadline": SAID["deadline"],
        "trace_ids": ["t-1", "t-2"],
        "host": "web-1",
        "run_hosts": ["web-1", "web-2"],
        "state": "answered",
        "policy_set_digest": "sha256:ab",
        "message": "{ { bad }}",
        "alerts": [],
    }
