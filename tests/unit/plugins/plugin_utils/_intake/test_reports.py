# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whatever a host reports is refused, rejected, or becomes an event that is no template anywhere."""

from __future__ import annotations

import json
import typing as t

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import ActionEvent
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.heartbeats import Heartbeats
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.http import RefusedError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.reports import (
    MOST_BYTES,
    MOST_REPORTS,
    Told,
    fitting,
    read_reports,
)
from ansible_collections.ironpost.container_guard.tests.fuzz.parsers import assert_inert

FULL_ID = "ab" * 32
IMAGE_ID = f"sha256:{'cd' * 32}"
CONTAINER = {"id": FULL_ID, "name": "shop", "image": "shop:1"}


def action(**fields: t.Any) -> dict[str, t.Any]:
    given = {"policy_id": "p", "alert_id": "a-1", "trace_id": "t-1", "container": CONTAINER, "changed": True, **fields}
    return ActionEvent(given.pop("outcome", "isolated"), **given).to_dict()


def report(kind: str = "action", sequence: int = 1, **fields: t.Any) -> dict[str, t.Any]:
    return {"sequence": sequence, "kind": kind, **fields}


def read(*reports: object, **fields: t.Any) -> Told:
    given = {"host": "web-1", "spool": "s-1", "reports": list(reports), **fields}
    return read_reports(json.dumps(given).encode("utf-8", "surrogatepass"))


def test_an_isolation() -> None:
    (found,) = read(report(action=action(host="web-2", before={"paused": False}), image_id=IMAGE_ID)).reports
    assert found.kind == "action"
    assert found.event["action"] == {
        **action(),
        "id": found.event["action"]["id"],
        "time": found.event["action"]["time"],
        "host": "web-1",
        "before": {"paused": False},
    }
    assert found.event["isolated"] == {
        "container_id": FULL_ID,
        "name": "shop",
        "image": "shop:1",
        "image_id": IMAGE_ID,
        "trace_id": "t-1",
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"outcome": "failed"},
        {"outcome": "released"},
        {"changed": False},
        {"alert_id": ""},
        {"repeat_of": "r-1"},
        {"container": None},
        {"container": {**CONTAINER, "id": "ab" * 6}},
    ],
)
def test_what_is_no_new_isolation(fields: dict[str, t.Any]) -> None:
    (found,) = read(report(action=action(**fields))).reports
    assert set(found.event) == {"action", "host"}


@pytest.mark.parametrize("image_id", [None, 3, "shop:1", "sha256:ab", f"{IMAGE_ID} ", f"{IMAGE_ID},other", [IMAGE_ID]])
def test_an_image_that_is_none_is_not_hunted_for(image_id: object) -> None:
    (found,) = read(report(action=action(), image_id=image_id)).reports
    assert found.event["isolated"]["image_id"] == ""


def test_unanswered_alerts_have_the_shape_of_those_of_the_source() -> None:
    alert = {"trace_id": "t-1", "host": "web-2", "rule": "r", "why": "{{ x }}", "attempts": 3, "more": 1}
    (found,) = read(report("unanswered", unanswered=[alert])).reports
    assert found.event == {
        "host": "web-1",
        "unanswered": [
            {
                "trace_id": "t-1",
                "id": "",
                "host": "web-1",
                "source": "",
                "rule": "r",
                "severity": "",
                "container": {"id": "", "name": ""},
                "why": "{ { x }}",
                "attempts": 3,
                "received_at": "",
            }
        ],
    }


def test_a_breach() -> None:
    breach = {"container_id": FULL_ID, "name": "shop", "kinds": ["unpaused", "{{"], "done": "repaired", "time": "today"}
    (found,) = read(report("breach", breach=breach)).reports
    assert found.event["breach"] == {
        "container_id": FULL_ID,
        "name": "shop",
        "kinds": ["unpaused", ""],
        "done": "repaired",
        "time": "",
    }


@pytest.mark.parametrize(
    ("given_report", "why"),
    [
        (report("news"), "its kind is not known"),
        (report(["action"]), "its kind is not known"),
        (report(), "it has no action"),
        (report(action={"outcome": "done"}), "the outcome of its action is none"),
        (report("unanswered", unanswered=[]), "no list of at most"),
        (report("unanswered", unanswered=["t-1"]), "one of its alerts is no object"),
        (report("unanswered", unanswered=[{"rule": "r" * 1000}] * 200), "larger than"),
        (report("breach", breach=3), "it has no breach"),
        (report(action={**action(), "count": float("nan")}), "it holds what no report does"),
        (report(action={**action(), "actions": ["x" * 1000] * 200}), "larger than"),
    ],
)
def test_a_report_that_cannot_be_used_keeps_back_none_behind_it(given_report: dict[str, t.Any], why: str) -> None:
    first, second = read(given_report, report(sequence=2, action=action())).reports
    assert (first.kind, first.event, first.sequence) == ("rejected", {}, 1)
    assert why in first.reason
    assert second.kind == "action"


def test_keys_are_no_paths_to_the_rule_engine() -> None:
    before = {"a.b": {"": 1, "c[0]": [{"d e": 2}]}, "x" * 200: 3}
    (found,) = read(report(action=action(before=before))).reports
    assert found.event["action"]["before"] == {"a_b": {"_": 1, "c_0_": [{"d_e": 2}]}, "x" * 128: 3}


def test_who_bloats_what_was_done_does_not_hide_it() -> None:
    large = fitting(report(action=action(reasons=("{{" * MOST_BYTES,)), image_id=IMAGE_ID))
    assert len(json.dumps(large)) < MOST_BYTES
    # Texts grow as they become inert.
    growing = report(action=action(reasons=["{{" * 400] * 90))
    assert len(json.dumps(growing)) < MOST_BYTES
    for given_report in (large, growing):
        (found,) = read(given_report).reports
        assert found.event["isolated"]["container_id"] == FULL_ID
        assert "reasons" not in found.event["action"]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"\xff", "no JSON"),
        (b"[]", "no JSON object"),
        (b'{"spool": "s"}', "host is not"),
        (b'{"host": "all,!web-1", "spool": "s"}', "host is not"),
        (b'{"host": "web-1"}', "spool is not"),
        (b'{"host": "web-1", "spool": "s", "reports": {}}', "no list"),
        (json.dumps({"host": "a", "spool": "s", "reports": [{}] * (MOST_REPORTS + 1)}).encode(), "at most"),
        (b'{"host": "a", "spool": "s", "reports": [{"kind": "action"}]}', "report 0 has no sequence"),
        (b'{"host": "a", "spool": "s", "reports": [{"sequence": true}]}', "report 0 has no sequence"),
        (b'{"host": "a", "spool": "s", "reports": [{"sequence": 9223372036854775808}]}', "report 0 has no sequence"),
        (b'{"host": "a", "spool": "s", "reports": [{"sequence": 2}, {"sequence": 2}]}', "report 1 has no sequence"),
        (b'{"host": "a", "spool": "s", "heartbeat": []}', "heartbeat is no object"),
        (b'{"host": "a", "spool": "s", "heartbeat": {"state": "ready"}}', "no interval"),
        (b'{"host": "a", "spool": "s", "heartbeat": {"interval": NaN, "state": "ready"}}', "interval of heartbeat"),
        (b'{"host": "a", "spool": "s", "heartbeat": {"interval": 0.5, "state": "ready"}}', "interval of heartbeat"),
        (b'{"host": "a", "spool": "s", "heartbeat": {"interval": 30, "state": "{{"}}', "no state"),
    ],
)
def test_what_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(RefusedError, match=why) as caught:
        read_reports(body)
    assert (caught.value.status, caught.value.kind) == (400, "no_report")


pieces = st.sampled_from(["{{", "}}", "{%", "{#", "{", "#jinja2:", "\n", "\0", "\x1b[2J", "\ud800", " ", "__ansible"])
texts = st.lists(pieces | st.text(st.characters(codec=None), max_size=5), max_size=6).map("".join) | st.sampled_from(
    ["", "web-1", "isolated", FULL_ID, IMAGE_ID, "2026-04-05T12:43:02Z"]
)
scalars = st.none() | st.booleans() | st.integers() | st.integers(-(10**30), 10**30) | st.floats() | texts
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=10)


def objects(*keys: str, **likely: st.SearchStrategy[t.Any]) -> st.SearchStrategy[dict[str, t.Any]]:
    """Objects that may have any of the keys, and any others."""
    known = {**dict.fromkeys(keys, values), **{key: strategy | values for key, strategy in likely.items()}}
    return st.builds(
        lambda some, others: {**others, **some},
        st.fixed_dictionaries({}, optional=known),
        st.dictionaries(texts, values),
    )


containers = objects("image", id=st.just(FULL_ID), name=st.just("shop"))
actions = st.builds(
    lambda sound, given: {**sound, **given},
    st.builds(lambda outcome: action(outcome=outcome), st.sampled_from(["isolated", "failed", "held"])),
    objects(*(set(action()) - {"outcome", "container"}), container=containers),
)
breaches = objects("name", "done", "time", "kinds", "container_id")
alerts = objects("trace_id", "id", "host", "source", "rule", "severity", "why", "attempts", container=containers)
reports = st.lists(
    objects(
        kind=st.sampled_from(["action", "unanswered", "breach"]),
        action=actions,
        unanswered=st.lists(alerts, min_size=1, max_size=3),
        breach=breaches,
        image_id=st.just(IMAGE_ID),
    ),
    max_size=4,
)
heartbeats = st.builds(
    lambda sound, given: {**sound, **given},
    st.just({"interval": 30, "state": "degraded"}),
    objects("troubles", "version", "policy_set_digest", "isolated", "waiting", "dropped", "accounts"),
)


@given(reports, heartbeats, heartbeats)
@example(
    [{"kind": "action", "action": {**action(), "{{ x }}": {"#jinja2: a": ["{%"]}}}], {"interval": 1, "state": "x"}, {}
)
def test_no_text_of_an_event_is_a_template(
    some: list[dict[str, t.Any]], first: dict[str, t.Any], second: dict[str, t.Any]
) -> None:
    numbered = [{**one, "sequence": sequence} for sequence, one in enumerate(some, 1)]
    try:
        told = read(*numbered, heartbeat={**first})
        again = read(heartbeat=second)
    except RefusedError as error:
        assert_inert(error.to_dict())
        return
    assert len(told.reports) == len(some)
    for found in told.reports:
        assert bool(found.event) == (found.kind != "rejected")
        assert found.event.get("host", "web-1") == "web-1"
        assert_inert({**found.event, "reason": found.reason})
    beats = Heartbeats({}, {}, 0)
    for now, beat in enumerate((told.heartbeat, again.heartbeat)):
        assert beat
        change = beats.beat("web-1", beat, now, now)
        beats.take(change)
        assert_inert(list(change.events))


@given(st.binary() | st.text().map(str.encode))
def test_bytes(body: bytes) -> None:
    with pytest.raises(RefusedError):
        read_reports(body)
