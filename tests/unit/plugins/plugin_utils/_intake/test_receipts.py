# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import hashlib
import hmac
import json
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import OUTCOMES
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.receipts import (
    Answer,
    Claim,
    Receipt,
    ReceiptError,
    capability,
    leading,
    read_receipt,
    verdict,
)

KEY = b"k" * 32
NOW = datetime.datetime(2026, 4, 5, 12, 0, tzinfo=datetime.UTC)
DEADLINE = "2026-04-05T12:10:00.000000Z"


def said(**fields: t.Any) -> bytes:
    value = {
        "delivery": "d-1",
        "hosts": ["web-1"],
        "pattern": False,
        "deadline": DEADLINE,
        "trace_ids": ["t-1"],
        "host": "web-1",
        "run_hosts": ["web-1"],
        "state": "answered",
        "alerts": [{"trace_id": "t-1", "outcome": "isolated"}],
        **fields,
    }
    return json.dumps({name: field for name, field in value.items() if field is not ...}).encode()


def read(body: bytes, key: bytes = KEY, hosts: t.Sequence[str] = ("web-1",), pattern: bool = False) -> Receipt:
    allowed = capability(key, Claim("d-1", tuple(hosts), pattern, DEADLINE, ("t-1",)))
    return read_receipt(KEY, f"Receipt {allowed}", body, NOW)


def test_the_capability_is_an_hmac_over_the_claim() -> None:
    canonical = b'["d-1",["web-1","web-2"],false,"2026-04-05T12:10:00.000000Z",["t-1","t-2"]]'
    expected = hmac.new(KEY, canonical, hashlib.sha256).hexdigest()
    assert capability(KEY, Claim("d-1", ("web-2", "web-1"), False, DEADLINE, ("t-2", "t-1"))) == expected


def test_a_receipt() -> None:
    container = {"id": "6bc1b4be90d6" + "0" * 52, "name": "shop"}
    answer = {"trace_id": "t-1", "outcome": "isolated", "container": container, "policy_id": "p", "record_id": "r-1"}
    body = said(policy_set_digest="sha256:abc", message="{{ text }}", alerts=[{**answer, "milliseconds": 12}])
    found = read(body)
    assert (found.host, found.state, found.policy_set_digest) == ("web-1", "answered", "sha256:abc")
    assert found.message == "{ { text }}"
    (only,) = found.answers
    assert (only.container.id, only.container.name, only.policy_id) == (container["id"], "shop", "p")
    assert (only.record_id, only.milliseconds) == ("r-1", 12)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"host": ...}, 400),
        ({"host": "web 1"}, 400),
        ({"hosts": "web-1"}, 400),
        ({"hosts": [1]}, 400),
        ({"deadline": 5}, 400),
        ({"delivery": None}, 400),
        ({"state": "great"}, 400),
        ({"state": ["answered"]}, 400),
        ({"alerts": {}}, 400),
        ({"alerts": [None]}, 400),
        ({"alerts": [{"trace_id": "t-1"}]}, 400),
        ({"alerts": [{"trace_id": "t-1", "outcome": ["isolated"]}]}, 400),
        ({"alerts": [{"trace_id": "t 1", "outcome": "isolated"}]}, 400),
        ({"alerts": [{"trace_id": "t-1", "outcome": "isolated", "container": "x"}]}, 400),
        ({"hosts": ["web-1", "web-2"]}, 403),
        ({"delivery": "d-2"}, 403),
        ({"deadline": "2026-04-05T12:10:00Z"}, 403),
        ({"host": "web-2"}, 403),
        ({"host": "web-2", "run_hosts": ["web-1", "web-2"]}, 403),
        ({"host": "web-2", "run_hosts": ["web-2"], "pattern": True}, 403),
        ({"trace_ids": ["t-1", "t-2"]}, 403),
        ({"trace_ids": "t-1"}, 400),
        ({"trace_ids": ...}, 400),
        ({"pattern": ...}, 400),
        ({"pattern": 0}, 400),
    ],
    ids=str,
)
def test_what_is_no_receipt_of_this_delivery(fields: dict[str, t.Any], status: int) -> None:
    with pytest.raises(ReceiptError) as caught:
        read(said(**fields))
    assert caught.value.status == status


def test_the_host_of_a_pattern_is_among_those_of_the_run() -> None:
    body = said(hosts=["all"], pattern=True, host="web-2", run_hosts=["web-1", "web-2"])
    assert read(body, hosts=["all"], pattern=True).host == "web-2"
    with pytest.raises(ReceiptError, match="did not go to that host"):
        read(said(hosts=["all"], pattern=True, host="web-2"), hosts=["all"], pattern=True)
    assert read(said(pattern=True, run_hosts=["web-2"]), pattern=True).host == "web-1", "it is no pattern after all"


def test_what_it_says_of_alerts_of_other_deliveries_does_not_count() -> None:
    answers = [{"trace_id": trace_id, "outcome": "held"} for trace_id in ("t-1", "t-2", "t-1")]
    assert [answer.trace_id for answer in read(said(alerts=answers)).answers] == ["t-1", "t-1"]


@pytest.mark.parametrize(("took", "kept"), [(5, 5), (-1, 0), (10**400, 86_400_000), (True, None), ("5", None)])
def test_milliseconds(took: object, kept: int | None) -> None:
    body = said(alerts=[{"trace_id": "t-1", "outcome": "held", "milliseconds": took}])
    assert read(body).answers[0].milliseconds == kept


def test_a_receipt_with_another_key() -> None:
    with pytest.raises(ReceiptError, match="not that of this delivery"):
        read(said(), key=b"x" * 32)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["hosts", "host", "run_hosts", "state", "alerts", "message"]), json_values))
def test_whatever_is_sent_is_a_receipt_or_an_error_with_a_status(fields: dict[str, t.Any]) -> None:
    try:
        status = 204 if read(said(**fields)).host else 0
    except ReceiptError as error:
        status = error.status
    assert status in (204, 400, 403)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        (["no_policy", "isolated", "gone"], "isolated"),
        (["other_host", "no_policy"], "no_policy"),
        (["isolated", "superseded"], "superseded"),
        (["held", "audit"], "held"),
        (["isolated", "refused"], "refused"),
        (["isolated", ""], ""),
    ],
)
def test_the_outcome_that_says_what_became_of_an_alert(outcomes: list[str], expected: str) -> None:
    assert leading(outcomes) == expected
    assert leading(reversed(outcomes)) == expected


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("critical", [False, True])
def test_the_table_of_outcomes_says_what_is_tried_again(outcome: str, critical: bool) -> None:
    again = {"no": False, "critical only": critical, "until answer_deadline": True}[OUTCOMES[outcome].again]
    answers = [Answer("t", "no_policy"), Answer("t", outcome)]
    assert verdict([Answer("t", outcome)], critical) == (Answer("t", outcome), again)
    answer, tried_again = verdict(answers, critical)
    assert tried_again == again
    if not OUTCOMES[outcome].answers:
        assert answer.outcome == outcome
