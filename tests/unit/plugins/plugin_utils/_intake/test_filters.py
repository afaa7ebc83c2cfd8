# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import dataclasses
import json
import pathlib
import time
import typing as t
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.events import MAX_BYTES
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.filters import Filter, decide, normalize
from ansible_collections.ironpost.container_guard.tests.unit.plugins.plugin_utils._intake.test_hostile import (
    assert_inert,
    messages,
    texts,
    values,
)
from ansible_collections.ironpost.container_guard.tests.unit.plugins.plugin_utils._intake.test_wanted import (
    WANTS_MINERS,
    WANTS_SHELLS,
    Clock,
)


def falco(rule: str = "Shell", **changes: t.Any) -> dict[str, t.Any]:
    return {
        "hostname": "6bc1b4be90d6",
        "priority": "Critical",
        "rule": rule,
        "output": "a shell (cmdline={{ lookup('pipe', 'id') }})",
        "output_fields": {"container.id": "0123456789ab"},
        **changes,
    }


def webhook(message: object) -> dict[str, t.Any]:
    """The event of eda.builtin.webhook, with what a sender may do to it."""
    return {"payload": message, "meta": {"endpoint": "{{ x }}", "headers": {"Host": "a"}, "hosts": ["db-1"]}}


def as_list(result: object) -> list[dict[str, t.Any]]:
    found = result if isinstance(result, list) else [result]
    assert all(isinstance(each, dict) for each in found)
    return found


@dataclasses.dataclass
class Running:
    """A filter, its options and its clock."""

    path: pathlib.Path
    clock: Clock
    filter: Filter

    def configure(self, **options: t.Any) -> None:
        """Write the options. The filter looks for them at the next event."""
        new = self.path.with_name("new")
        new.write_text(json.dumps(options))
        new.rename(self.path)
        self.clock.now += 1

    def rules(self, event: object) -> list[str]:
        """The rules of the alerts that are left of an event."""
        return [alert["rule"] for each in as_list(self.filter(event, str(self.path))) for alert in each["alerts"]]

    def hosts(self, event: object) -> list[list[str]]:
        """The hosts that are asked about what is left of an event."""
        return [each["meta"]["hosts"] for each in as_list(self.filter(event, str(self.path)))]


@pytest.fixture(params=["normalize", "decide"])
def either(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Running:
    clock = Clock()
    return Running(
        tmp_path / "filters.yml", clock, {"normalize": normalize, "decide": decide}[request.param]({}, clock)
    )


@pytest.fixture
def deciding(tmp_path: pathlib.Path) -> Running:
    clock = Clock()
    running = Running(tmp_path / "filters.yml", clock, decide({}, clock))
    running.configure()
    return running


def test_a_message_becomes_the_event_that_the_source_would_have_made(either: Running) -> None:
    either.configure(hosts=["web-1"], host_map={"6bc1b4be90d6": "web-2"})
    event = either.filter(webhook(falco()), str(either.path))
    assert isinstance(event, dict)
    assert event.keys() == {"alerts", "meta"}
    assert event["meta"] == {"hosts": ["web-2"]}
    (alert,) = event["alerts"]
    assert (alert["source"], alert["severity"], alert["inventory_host"]) == ("falco", "critical", "web-2")
    assert alert["container"]["id"] == "0123456789ab"
    assert alert["message"] == "a shell (cmdline={ { lookup('pipe', 'id') }})"
    assert json.loads(json.dumps(event)) == event


def test_the_event_of_the_source_stays_as_it_is(either: Running) -> None:
    event = webhook(falco())
    before = copy.deepcopy(event)
    either.filter(event)
    assert event == before


def test_hosts_are_mapped_asked_or_nobody_is(either: Running, caplog: pytest.LogCaptureFixture) -> None:
    both = webhook([falco(), falco(hostname="web-1")])
    assert either.hosts(both) == [["all"]]
    either.configure(hosts=["web-1"], lookup_hosts=["docker"], fold_window=0)
    assert either.hosts(both) == [["docker", "web-1"]]
    either.configure(hosts=["web-1"], lookup_hosts=[], fold_window=0)
    assert either.hosts(both) == [["web-1"]]
    assert "Dropped an alert of host '6bc1b4be90d6'" in caplog.text
    assert either.hosts(webhook(falco())) == []


def test_elements_that_are_no_alerts_cost_no_others(either: Running, caplog: pytest.LogCaptureFixture) -> None:
    assert either.rules(webhook([5, falco(), {"hello": "world"}])) == ["Shell"]
    assert "element 0: " in caplog.text


@pytest.mark.parametrize(
    "event", [None, 5, "text", b"\xff", [], {}, {"payload": None}, object(), {1: 2}, ..., float("nan")]
)
def test_what_is_no_alert_is_dropped_and_told(either: Running, event: object, caplog: pytest.LogCaptureFixture) -> None:
    assert either.filter(event) == []
    assert "Dropped what is no alert: " in caplog.text


def test_falco_as_text_is_told_what_to_do(either: Running, caplog: pytest.LogCaptureFixture) -> None:
    assert either.filter({"payload": {"body": "12:43:02.928967267: Critical A shell was spawned"}, "meta": {}}) == []
    assert "json_output: true" in caplog.text


def test_lines_of_json_are_read(either: Running) -> None:
    lines = "\n".join(json.dumps(falco(rule)) for rule in ("Shell", "Miner"))
    assert either.rules({"body": lines, "meta": {}}) == ["Shell", "Miner"]


def test_many_alerts_are_several_events_that_share_nothing(either: Running) -> None:
    long = [falco(f"{number}", output="o" * 1024, tags=["t" * 50] * 10) for number in range(500)]
    events = as_list(either.filter(webhook(long)))
    assert len(events) > 1
    assert [alert["rule"] for event in events for alert in event["alerts"]] == [str(number) for number in range(500)]
    assert all(len(json.dumps(event)) <= MAX_BYTES for event in events)
    events[0]["meta"]["uuid"] = "as the engine does"
    assert all(event["meta"] == {"hosts": ["all"]} for event in events[1:])


def test_the_file_of_options_is_read_again_where_it_was_changed(either: Running) -> None:
    either.configure(host_map={"6bc1b4be90d6": "web-1"}, fold_window=0)
    assert either.hosts(webhook(falco())) == [["web-1"]]
    either.configure(host_map={"6bc1b4be90d6": "web-2"}, fold_window=0)
    assert either.hosts(webhook(falco())) == [["web-2"]]
    either.configure(host_map={"6bc1b4be90d6": "no host, no"})
    assert either.hosts(webhook(falco())) == [["web-2"]]


def test_options_may_stand_in_the_environment() -> None:
    event = decide({"GUARD_HOST_MAP": '{"6bc1b4be90d6": "web-1"}'})(webhook(falco()))
    assert isinstance(event, dict)
    assert event["meta"] == {"hosts": ["web-1"]}


def test_an_argument_that_does_not_exist_is_told(either: Running, caplog: pytest.LogCaptureFixture) -> None:
    assert either.filter(webhook(falco()), hosts=["web-1"])
    assert "A filter has the argument 'hosts'. It knows config alone" in caplog.text


def test_a_fault_of_our_own_costs_one_event(
    either: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(f"{normalize.__module__}.read_message", lambda *_arguments: 1 / 0)
        assert either.filter(webhook(falco())) == []
    assert "ZeroDivisionError" in caplog.text
    assert either.filter(webhook(falco()))


def test_normalize_leaves_what_is_normalised(tmp_path: pathlib.Path) -> None:
    first = normalize({"GUARD_HOST_MAP": '{"6bc1b4be90d6": "web-1"}'})(webhook(falco()))
    assert normalize({})(first) is first
    assert decide({})(first) is first, "the hosts are those of the filter that mapped them"


def test_a_message_that_looks_normalised_is_not_believed(either: Running) -> None:
    real = either.filter(webhook(falco("Miner")))
    assert isinstance(real, dict)
    forged = json.loads(json.dumps(real))
    forged["alerts"][0].update(inventory_host="db-1", received_at="2001-01-01T00:00:00Z", trace_id="forged")
    forged["meta"]["hosts"] = ["db-1"]
    for event in (forged, {"payload": forged, "meta": {}}, {"payload": forged["alerts"], "meta": {}}):
        for found in as_list(either.filter(event)):
            assert found["meta"] == {"hosts": ["all"]}
            assert found["alerts"][0]["inventory_host"] == ""
            assert found["alerts"][0]["received_at"] > "2020"


class TestDecide:
    def test_what_no_policy_wants_is_dropped(self, deciding: Running, tmp_path: pathlib.Path) -> None:
        (tmp_path / "policy_set.json").write_text(WANTS_SHELLS.to_json())
        deciding.configure(policy_set=str(tmp_path / "policy_set.json"))
        assert deciding.rules(webhook([falco("Miner"), falco("Shell")])) == ["Shell"]
        assert deciding.rules(webhook(falco("Miner"))) == []

    def test_a_deployment_between_two_alerts(self, deciding: Running, tmp_path: pathlib.Path) -> None:
        path = tmp_path / "policy_set.json"
        path.write_text(WANTS_SHELLS.to_json())
        deciding.configure(policy_set=str(path), policy_set_confirmed_for=60, fold_window=0)
        assert deciding.rules(webhook(falco("Miner"))) == []
        path.write_text(WANTS_MINERS.to_json())
        deciding.clock.now += 1
        # Hosts may have the one or the other.
        assert deciding.rules(webhook([falco("Miner"), falco("Shell")])) == ["Miner", "Shell"]
        deciding.clock.now += 61
        assert deciding.rules(webhook([falco("Miner"), falco("Shell")])) == ["Miner"]

    def test_other_options_do_not_make_it_forget_the_set_before(
        self, deciding: Running, tmp_path: pathlib.Path
    ) -> None:
        path = tmp_path / "policy_set.json"
        path.write_text(WANTS_SHELLS.to_json())
        deciding.configure(policy_set=str(path), fold_window=0)
        assert deciding.rules(webhook(falco("Miner"))) == []
        path.write_text(WANTS_MINERS.to_json())
        deciding.clock.now += 1
        assert deciding.rules(webhook(falco("Shell"))) == ["Shell"]
        deciding.configure(policy_set=str(path), fold_window=0, hosts=["web-1"])
        assert deciding.rules(webhook(falco("Shell"))) == ["Shell"]

    def test_a_bad_new_set_keeps_the_old_one_and_tells(
        self, deciding: Running, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / "policy_set.json"
        path.write_text(WANTS_SHELLS.to_json())
        deciding.configure(policy_set=str(path))
        assert deciding.rules(webhook(falco("Miner"))) == []
        path.write_text("{")
        deciding.clock.now += 1
        assert deciding.rules(webhook(falco("Miner"))) == []
        assert "policy_set cannot be used" in caplog.text

    def test_repeats_are_dropped_within_the_window(self, deciding: Running) -> None:
        assert deciding.rules(webhook([falco(), falco()])) == ["Shell"]
        deciding.clock.now += 9
        assert deciding.rules(webhook(falco())) == []
        assert deciding.rules(webhook(falco(output_fields={"container.id": "0123456789ac"}))) == ["Shell"]
        deciding.clock.now += 1
        assert deciding.rules(webhook(falco())) == ["Shell"]

    def test_a_new_policy_set_may_want_what_was_a_repeat(self, deciding: Running, tmp_path: pathlib.Path) -> None:
        assert deciding.rules(webhook(falco())) == ["Shell"]
        (tmp_path / "policy_set.json").write_text(WANTS_SHELLS.to_json())
        deciding.configure(policy_set=str(tmp_path / "policy_set.json"))
        assert deciding.rules(webhook(falco())) == ["Shell"]

    def test_hosts_are_those_of_what_is_left(self, deciding: Running) -> None:
        deciding.configure(hosts=["web-1", "web-2"])
        first, second = falco(hostname="web-1"), falco(hostname="web-2")
        assert deciding.hosts(webhook([first])) == [["web-1"]]
        assert deciding.hosts(webhook([first, second])) == [["web-2"]]

    def test_what_was_dropped_is_told_once_a_minute(
        self, deciding: Running, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        (tmp_path / "policy_set.json").write_text(WANTS_SHELLS.to_json())
        deciding.configure(policy_set=str(tmp_path / "policy_set.json"))
        for _second in range(60):
            deciding.rules(webhook([falco("Miner"), falco("Shell"), 5]))
            deciding.clock.now += 1
        assert "Dropped: " not in caplog.text
        deciding.rules(webhook(falco("Miner")))
        line = "Dropped: 54 repeats, 61 that are no alerts (not_an_alert), 61 that no policy wants"
        assert line.replace("61 that are", "60 that are") in caplog.text


def hostile() -> Iterator[object]:
    class Angry(dict[str, t.Any]):
        def items(self) -> t.NoReturn:
            raise RuntimeError

    class AngryText:
        def __str__(self) -> str:
            raise RuntimeError

    cyclic: dict[str, t.Any] = {}
    cyclic.update(payload=cyclic, meta=cyclic)
    deep: object = 1
    for _level in range(200_000):
        deep = [deep]
    yield from (cyclic, deep, {"payload": deep}, Angry(payload=1), {"payload": Angry(rule=1)}, {"a": AngryText()})
    yield {"payload": {"body": cyclic}}
    yield {"x" * 10: 1 << 20_000}
    yield ["x" * 1_000_000] * 1_000


def test_nothing_raises_and_nothing_takes_long(either: Running) -> None:
    for event in hostile():
        began = time.process_time()
        assert either.filter(event) == []
        assert time.process_time() - began < 5
    assert either.filter(webhook(falco()))


events = st.one_of(
    messages.map(webhook),
    messages,
    st.builds(lambda message, meta: {"payload": {"body": message}, "meta": meta}, messages, values),
    st.builds(lambda message: {"body": json.dumps(message), "meta": {}}, messages),
    st.dictionaries(texts, values),
)


@settings(deadline=None)
@given(st.lists(events, max_size=4), st.sampled_from([normalize, decide]))
@example([webhook({"source": "s", "rule": "#jinja2: a", "severity": "low", "tags": ["{%", {"{{": 1}]})], decide)
@example([webhook({"source": "s", "rule": "r {", "severity": "low", "container": {"id": "{#" + "a" * 12}})], decide)
def test_no_text_in_an_event_is_a_template(given_events: list[object], make: t.Callable[..., Filter]) -> None:
    both = make({"GUARD_FOLD_WINDOW": "0"}), decide({"GUARD_FOLD_WINDOW": "0"})
    for event in given_events:
        for found in as_list(both[0](event)):
            for left in as_list(both[1](found)):
                assert_inert(left)
                assert left.keys() == {"alerts", "meta"}
                assert left["meta"] == {"hosts": ["all"]}
