# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Of which delivery a job is, and what its artifacts say, whoever wrote them."""

from __future__ import annotations

import contextlib
import datetime
import json
import typing as t
import uuid

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.jobs import (
    Job,
    job_id,
    job_of,
    receipts_in,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.packed import written
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.receipts import (
    Claim,
    Receipt,
    ReceiptError,
    capability,
    read_receipt,
)

KEY = b"k" * 32
NOW = datetime.datetime(2026, 4, 5, 12, 0, tzinfo=datetime.UTC)
DEADLINE = "2026-04-05T12:10:00.000000Z"
ANSWER = {"trace_id": "t-1", "outcome": "isolated"}


def claim(*hosts: str, pattern: bool = False, trace_ids: t.Sequence[str] = ("t-1",)) -> Claim:
    return Claim("d-1", hosts, pattern, DEADLINE, tuple(trace_ids))


def listed(known: Claim, **delivery: t.Any) -> dict[str, t.Any]:
    """A job as the controller lists it."""
    said = {
        "id": known.delivery,
        "hosts": list(known.hosts),
        "pattern": known.pattern,
        "deadline": known.deadline,
        "capability": capability(KEY, known),
        **delivery,
    }
    event, _number = written([{"trace_id": trace_id, "rule": str(uuid.uuid4())} for trace_id in known.trace_ids])
    variables = {"ansible_eda": {"ruleset": "x", "event": {**event, "meta": {}, "delivery": said}}}
    return {"id": 17, "status": "running", "extra_vars": json.dumps(variables)}


def job(*hosts: str, pattern: bool = False) -> Job:
    known = claim(*hosts, pattern=pattern)
    return Job(17, known, capability(KEY, known))


def receipt(host: str, state: str = "answered", **fields: t.Any) -> dict[str, t.Any]:
    return {"host": host, "state": state, "policy_set_digest": "", "message": "", "alerts": [ANSWER], **fields}


def handed(**hosts: t.Any) -> dict[str, t.Any]:
    """Artifacts, with dashes in the names of hosts."""
    return {"guard_responses": {name.replace("_", "-"): said for name, said in hosts.items()}}


def read(of: Job, artifacts: t.Any) -> dict[str, Receipt]:
    """What counts of the artifacts, by host."""
    found = {}
    for body in receipts_in(of, artifacts):
        said = read_receipt(KEY, f"Receipt {of.capability}", body, NOW)
        assert said.host not in found
        found[said.host] = said
    return found


class TestJobs:
    def test_of_a_delivery(self) -> None:
        found = job_of(KEY, listed(claim("web-1", "web-2")))
        assert found == job("web-1", "web-2")
        assert found is not None
        assert found.capability not in repr(found)

    def test_of_more_alerts_than_one_can_read(self) -> None:
        known = claim("web-1", trace_ids=[f"t-{number}" for number in range(600)])
        value = listed(known)
        assert "packed_alerts" in value["extra_vars"]
        found = job_of(KEY, value)
        assert found is not None
        assert found.claim == known

    @pytest.mark.parametrize(
        "changed",
        [
            {"id": "d-2"},
            {"id": "d-1 "},
            {"hosts": ["web-1", "web-2"]},
            {"hosts": "web-1"},
            {"hosts": [["web-1"]]},
            {"pattern": True},
            {"pattern": 0},
            {"deadline": "2027-04-05T12:10:00.000000Z"},
            {"deadline": None},
            {"capability": None},
            {"capability": ""},
            {"capability": "ab" * 32},
            {"capability": "\ud800"},
        ],
        ids=repr,
    )
    def test_of_another_delivery(self, changed: dict[str, t.Any]) -> None:
        assert job_of(KEY, listed(claim("web-1"), **changed)) is None

    @pytest.mark.parametrize(
        "changed",
        [
            {"extra_vars": ""},
            {"extra_vars": "{}"},
            {"extra_vars": "---"},
            {"extra_vars": "[" * 100_000},
            {"extra_vars": None},
            {"extra_vars": "$hidden due to Ansible no_log flag$"},
            {"extra_vars": '{"ansible_eda": {"event": {"unanswered": []}}}'},
            {"id": None},
            {"id": True},
            {"id": "17"},
            {"id": -1},
        ],
        ids=lambda changed: repr(changed)[:60],
    )
    def test_of_something_else(self, changed: dict[str, t.Any]) -> None:
        assert job_of(KEY, {**listed(claim("web-1")), **changed}) is None

    def test_of_another_intake(self) -> None:
        assert job_of(b"x" * 32, listed(claim("web-1"))) is None

    @pytest.mark.parametrize("value", [None, [], "x", {}, {"id": {}}, {"id": 1.0}], ids=repr)
    def test_that_are_none(self, value: t.Any) -> None:
        assert (job_id(value), job_of(KEY, value)) == (0, None)


class TestReceipts:
    def test_of_each_host(self) -> None:
        of_web_1 = receipt("web-1", policy_set_digest="sha256:abc", message="all is {{ well }}")
        artifacts = handed(web_1={"receipts": [of_web_1]}, web_2={"receipts": [receipt("web-2", "failed", alerts=[])]})
        found = read(job("web-1", "web-2"), artifacts)
        assert {host: said.state for host, said in found.items()} == {"web-1": "answered", "web-2": "failed"}
        said = found["web-1"]
        assert (said.policy_set_digest, said.message) == ("sha256:abc", "all is { { well }}")
        assert [(answer.trace_id, answer.outcome) for answer in said.answers] == [("t-1", "isolated")]

    def test_a_host_speaks_for_itself_once(self) -> None:
        liar = [receipt("web-2"), receipt("web-1", "failed"), receipt("web-1"), receipt("web-3", "unknown_host")]
        found = read(job("web-1", "web-2"), handed(web_1={"receipts": liar}, web_3={"receipts": [receipt("web-3")]}))
        assert {host: said.state for host, said in found.items()} == {"web-1": "failed"}

    def test_the_first_says_which_hosts_are_none(self) -> None:
        said = [receipt("web-2", "unknown_host", message="not in the inventory", alerts=[]), receipt("web-1")]
        found = read(job("web-1", "web-2"), handed(web_1={"receipts": said}))
        assert {host: said.state for host, said in found.items()} == {"web-2": "unknown_host", "web-1": "answered"}

    def test_a_host_that_answers_is_one(self) -> None:
        said = {"web_1": {"receipts": [receipt("web-2", "unknown_host")]}, "web_2": {"receipts": [receipt("web-2")]}}
        assert read(job("web-1", "web-2"), handed(**said))["web-2"].state == "answered"

    @pytest.mark.parametrize(
        ("said", "why"),
        [
            ({"error": {"message": "timed out"}, "containers": []}, "timed out"),
            ({"error": {"message": {}}}, "its job handed on no receipt"),
            ({"receipts": "web-1"}, "its job handed on no receipt"),
            ({"receipts": [["web-1"], None]}, "its job handed on no receipt"),
            ("$hidden due to Ansible no_log flag$", "its job handed on no receipt"),
        ],
        ids=repr,
    )
    def test_a_host_that_handed_on_none_has_failed(self, said: t.Any, why: str) -> None:
        found = read(job("web-1", "web-2"), handed(web_1=said, web_9=said))
        assert {host: (said.state, said.message) for host, said in found.items()} == {"web-1": ("failed", why)}

    def test_a_pattern_means_the_hosts_of_the_run(self) -> None:
        run_hosts = ["web-1", "web-2", "web-3"]
        first = {"receipts": [receipt("web-1", run_hosts=run_hosts)]}
        artifacts = handed(web_1=first, web_2={"receipts": [receipt("web-2")]}, web_3={}, web_9={})
        found = read(job("all", pattern=True), artifacts)
        assert {host: said.state for host, said in found.items()} == {
            "web-1": "answered",
            "web-2": "answered",
            "web-3": "failed",
        }
        assert {said.run_hosts for said in found.values()} == {tuple(run_hosts)}

    def test_of_a_pattern_whose_hosts_nobody_says(self) -> None:
        assert receipts_in(job("all", pattern=True), handed(web_1={"receipts": [receipt("web-1")]})) == []

    @pytest.mark.parametrize(
        "artifacts",
        [None, [], "$hidden due to Ansible no_log flag$", {}, {"guard_responses": []}, {"other": {"web-1": {}}}],
        ids=repr,
    )
    def test_that_are_not_there(self, artifacts: t.Any) -> None:
        assert receipts_in(job("web-1"), artifacts) == []


texts = st.text(st.characters(codec=None), max_size=8) | st.sampled_from(
    ["web-1", "web-2", "answered", "unknown_host", "t-1", "isolated", "{{ x }}", "receipts", "alerts", "host", "state"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
# Mostly right, so that many get through the checks.
made_up = st.fixed_dictionaries(
    {"host": st.sampled_from(["web-1", "web-2", "all"]) | values},
    optional={
        "state": st.sampled_from(["answered", "failed", "unknown_host"]) | values,
        "alerts": st.lists(st.fixed_dictionaries({"trace_id": st.just("t-1") | values, "outcome": texts}) | values),
        "message": values,
        "run_hosts": st.lists(texts) | values,
        "policy_set_digest": values,
        "hosts": values,
        "delivery": values,
    },
)
said_by_hosts = st.dictionaries(
    st.sampled_from(["web-1", "web-2", "all"]) | texts,
    st.fixed_dictionaries({"receipts": st.lists(made_up | values, max_size=4)}) | values,
    max_size=4,
)


@given(artifacts=st.fixed_dictionaries({"guard_responses": said_by_hosts | values}) | values, pattern=st.booleans())
@example({"guard_responses": {"web-1": {"receipts": [{"host": "web-1", "alerts": [{"trace_id": "\ud800"}]}]}}}, False)
def test_whatever_artifacts_hold(artifacts: t.Any, pattern: bool) -> None:
    of = job(*(["all"] if pattern else ["web-1", "web-2"]), pattern=pattern)
    hosts = []
    for body in receipts_in(of, artifacts):
        with contextlib.suppress(ReceiptError):
            said = read_receipt(KEY, f"Receipt {of.capability}", body, NOW)
            absent = said.state == "unknown_host"
            assert said.host in (said.run_hosts if pattern and not absent else of.claim.hosts)
            assert {answer.trace_id for answer in said.answers} <= {"t-1"}
            assert "{{" not in said.message
            hosts.append(said.host)
    assert len(hosts) == len(set(hosts))


@given(value=values)
def test_whatever_a_controller_lists(value: t.Any) -> None:
    assert job_of(KEY, value) is None
    assert job_of(KEY, {"id": 17, "extra_vars": json.dumps({"ansible_eda": {"event": value}})}) is None
