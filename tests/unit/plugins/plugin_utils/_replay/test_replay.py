# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import gzip
import itertools
import json
import lzma
import pathlib
import tracemalloc
import typing as t

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert, ContainerRef
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import Severity
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy, TargetFilter
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import Limits, PolicySet
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._records.reader import Reader, Record
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._replay import replay as replay_module
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._replay.containers import Containers
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._replay.log import AlertLog
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._replay.replay import Replay, Report, replay_file
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._replay.simulation import OUTCOMES, Bounds
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._replay.table import table

DB = "d" * 12
WEB = "a" * 12


def policy(name: str = "shells", **keys: t.Any) -> Policy:
    return Policy.from_dict({"id": name, "action": {"type": "pause"}, **keys})


def alert(seconds: float | None = 0, container: str = WEB, name: str = "web-1", **keys: t.Any) -> dict[str, t.Any]:
    """A message of Falco, that many seconds after 12:00."""
    moment = (
        None
        if seconds is None
        else f"2026-04-05T{12 + int(seconds) // 3600:02}:{int(seconds) // 60 % 60:02}:{seconds % 60:012.9f}Z"
    )
    return {
        "hostname": "host-1",
        "priority": "Critical",
        "rule": "Shell",
        "source": "syscall",
        "time": moment,
        "output_fields": {
            "container.id": container,
            "container.name": name,
            "container.image.repository": "nginx",
            "container.image.tag": "1.27",
        },
        **keys,
    }


def run(
    policies: t.Iterable[Policy],
    messages: t.Iterable[object],
    protect: TargetFilter | None = None,
    limits: Limits | None = None,
    **options: t.Any,
) -> Report:
    """The report on these messages; texts and bytes are lines as they stand."""
    replay = Replay(PolicySet.of(policies, protect or TargetFilter(), limits or Limits()), **options)
    reader = Reader()
    for message in messages:
        line = message if isinstance(message, bytes) else message.encode() if isinstance(message, str) else None
        for record in reader.feed((json.dumps(message).encode() if line is None else line) + b"\n"):
            replay.take_record(record)
    for record in reader.close():
        replay.take_record(record)
    replay.note_lines(reader.lines)
    report = replay.report()
    json.dumps(report)
    for found in report["policies"]:
        assert found["alerts"] == sum(found[outcome] for outcome in OUTCOMES)
    totals = report["totals"]
    assert totals["answered"] == sum(found["alerts"] for found in report["policies"])
    assert totals["alerts"] == totals["answered"] + totals["unwanted"]
    return report


def outcomes(report: Report, index: int = 0) -> dict[str, int]:
    found = report["policies"][index]
    return {outcome: found[outcome] for outcome in OUTCOMES if found[outcome]}


def test_the_whole_report_of_a_small_log() -> None:
    policies = [
        policy(target_filter={"container_names": ["web-*"]}, severity_threshold="high"),
        policy("watch", rules=["Write*"], mode="audit"),
        policy("idle", rules=["Never"]),
        policy("off", enabled=False),
    ]
    report = run(
        policies,
        [
            "Sun Apr  5 12:00:00 2026: Falco version: 0.43.0 (x86_64)",
            "[libs] 12:00:00 loaded",
            "",
            alert(0),
            alert(1),
            alert(2, DB, "db-1"),
            alert(3, DB, "db-1", rule="Write below etc", priority="Notice"),
            alert(4, "host", "host"),
            alert(5, priority="Loud"),
            '{"cut off',
        ],
    )
    numbers = dict.fromkeys(OUTCOMES, 0)
    nothing = {"approval": "", "alerts": 0, **numbers, "containers": 0, "sample": []}
    web = {"host": "host-1", "id": WEB, "name": "web-1", "image": "nginx:1.27"}
    assert report == {
        "digest": PolicySet.of(policies).digest,
        "totals": {
            "lines": 10,
            "skipped": 3,
            "refused": 1,
            "passed_over": 0,
            "alerts": 5,
            "answered": 4,
            "unwanted": 1,
            "without_container": 1,
            "without_time": 0,
            "out_of_order": 0,
        },
        "span": {"first": "2026-04-05T12:00:00.000000Z", "last": "2026-04-05T12:00:04.000000Z", "seconds": 4.0},
        "policies": [
            {"id": "idle", "mode": "enforce", **nothing},
            {"id": "off", "mode": "disabled", **nothing},
            {
                "id": "shells",
                "mode": "enforce",
                "approval": "",
                "alerts": 3,
                **numbers,
                "isolations": 1,
                "repeats": 1,
                "no_container": 1,
                "containers": 1,
                "sample": [web],
            },
            {
                "id": "watch",
                "mode": "audit",
                "approval": "",
                "alerts": 1,
                **numbers,
                "audit": 1,
                "containers": 1,
                "sample": [{**web, "id": DB, "name": "db-1"}],
            },
        ],
        "unwanted": [
            {
                "rule": "Shell",
                "severity": "critical",
                "alerts": 1,
                "nearest": [
                    "idle: rules [Never] does not match [Shell]",
                    "shells: container_names [web-*] does not match [db-1]",
                    "watch: rules [Write*] does not match [Shell]",
                ],
            }
        ],
        "skipped": [
            {"reason": "it is text and holds no JSON", "lines": 2, "line": 1},
            {"reason": "its JSON is cut off or broken", "lines": 1, "line": 10},
        ],
        "refused": [
            {
                "reason": "priority is not one of emergency, alert, critical, error, warning, notice, "
                "informational, info, debug",
                "lines": 1,
                "line": 9,
            },
        ],
        "notes": [],
    }
    heading = "policy mode alerts containers would isolate repeats cooldown limit protected audit undecidable"
    assert [line.split() for line in table(report)[4:8]] == [
        [*heading.split(), "no", "container", "unresolved"],
        ["shells", "enforce", "3", "1", "1", "1", "0", "0", "0", "0", "0", "1", "0"],
        ["watch", "audit", "1", "1", "0", "0", "0", "0", "0", "1", "0", "0", "0"],
        [],
    ]
    assert "no alert for: idle, off" in table(report)


def test_released_containers_are_isolated_again_after_the_cooldown() -> None:
    report = run(
        [policy(release_after=60, cooldown=100)], [alert(seconds) for seconds in (0, 59, 60, 99, 100, 159, 160, 200)]
    )
    assert outcomes(report) == {"isolations": 3, "repeats": 2, "cooldown": 3}


def test_without_release_everything_that_follows_is_a_repeat_whatever_policy_asks() -> None:
    report = run([policy("a", rules=["Shell"]), policy("b")], [alert(0), alert(90_00, rule="Other"), alert(9_999)])
    assert outcomes(report) == {"isolations": 1, "repeats": 1}
    assert outcomes(report, 1) == {"repeats": 1}


def test_the_limit_is_one_of_each_host() -> None:
    messages = [alert(second, f"{second:012x}", hostname=f"host-{second % 2}") for second in range(40)]
    report = run([policy()], messages, limits=Limits(1, 3, 10))
    assert outcomes(report) == {"isolations": 2 * 3 * 4, "limit": 16}


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_limit_holds_for_files_in_any_order(order: tuple[int, ...]) -> None:
    days = [[alert(day * 7200 + second, f"{day}{second:011x}") for second in range(50)] for day in range(3)]
    report = run([policy()], [message for day in order for message in days[day]], limits=Limits(1, 3, 600))
    assert outcomes(report) == {"isolations": 9, "limit": 141}
    assert report["span"]["seconds"] == 14449


@settings(max_examples=60)
@given(st.permutations([0, 10, 20, 30, 40, 1000, 1010, 3000]))
def test_alerts_may_come_in_any_order(times: list[int]) -> None:
    report = run([policy(release_after=60)], map(alert, times))
    found = outcomes(report)
    assert found["isolations"] + found["repeats"] == 8
    assert found["isolations"] >= 3
    assert report["totals"]["out_of_order"] == sum(after < before for before, after in itertools.pairwise(times))


def test_an_alert_from_the_far_future_spoils_nothing() -> None:
    future = {**alert(), "time": "9999-12-31T23:59:59Z"}
    report = run([policy(release_after=60, cooldown=60)], [future, alert(0), alert(70)], limits=Limits(1, 5, 600))
    assert outcomes(report) == {"isolations": 3}


def test_alerts_without_a_time_count_at_the_one_before() -> None:
    report = run([policy(release_after=60)], [alert(None), alert(0), alert(None), alert(70), alert(None)])
    assert outcomes(report) == {"isolations": 3, "repeats": 2}
    assert report["totals"]["without_time"] == 3


def test_protected_containers() -> None:
    report = run([policy()], [alert()], protect=TargetFilter(container_names=("web-*",), labels=("keep",)))
    assert outcomes(report) == {"protected": 1}
    assert report["notes"] == []
    report = run([policy()], [alert()], protect=TargetFilter(labels=("keep",)))
    assert outcomes(report) == {"isolations": 1}
    assert report["notes"] == [
        (
            "1 alerts were not checked for all protection: what is not known of the container, such as its labels, "
            "could protect it"
        )
    ]


@pytest.mark.parametrize("target_filter", [{"labels": ["env=prod"]}, {"exclude": {"labels": ["env=prod"]}}])
def test_what_depends_on_labels_is_undecidable_without(target_filter: dict[str, t.Any]) -> None:
    policies = [policy("a", target_filter=target_filter), policy("b")]
    report = run(policies, [alert()])
    assert outcomes(report) == {"undecidable": 1}
    assert report["notes"] == [
        (
            "1 alerts are undecidable: a policy asks for what is not known of the container, such as its labels or the "
            "tag of its image"
        )
    ]


def test_a_policy_that_fails_on_what_is_known_is_decidable() -> None:
    target_filter = {"labels": ["env=prod"], "container_names": ["db-*"]}
    report = run([policy("a", target_filter=target_filter), policy("b")], [alert()])
    assert outcomes(report, 0) == {}
    assert outcomes(report, 1) == {"isolations": 1}


@pytest.mark.parametrize(("env", "expected"), [("prod", {"isolations": 1}), ("test", {})])
def test_a_containers_file_tells_labels(tmp_path: pathlib.Path, env: str, expected: dict[str, int]) -> None:
    path = tmp_path / "containers.json"
    path.write_text(json.dumps([{"id": WEB + "0" * 52, "name": "web", "image": "y", "labels": {"env": env}}]))
    report = run([policy(target_filter={"labels": ["env=prod"]})], [alert()], containers=Containers.from_file(path))
    assert outcomes(report) == expected


def tagless(image: str = "hub:5000/shop", **keys: t.Any) -> dict[str, t.Any]:
    """A message of a rule that prints the repository of the image only."""
    fields = {"container.id": WEB, "container.name": "web-1", "container.image.repository": image}
    return alert(output_fields=fields, **keys)


@pytest.mark.parametrize(
    ("target_filter", "expected"),
    [
        ({"image_patterns": ["hub:5000/shop:4.2*"]}, {"undecidable": 1}),
        ({"image_patterns": ["*:latest"]}, {"undecidable": 1}),
        ({"image_patterns": ["hub:5000/shop"]}, {"undecidable": 1}),
        ({"image_patterns": ["*shop?4*"]}, {"undecidable": 1}),
        ({"image_patterns": ["nginx:*", "*/shop:*"]}, {"isolations": 1}),
        ({"image_patterns": ["*@sha256:00*"]}, {"undecidable": 1}),
        ({"image_patterns": ["*4.2"]}, {"undecidable": 1}),
        ({"image_patterns": ["hub:5000/shop:"]}, {"undecidable": 1}),
        ({"image_patterns": ["hub:5000/*"]}, {"isolations": 1}),
        ({"image_patterns": ["*"]}, {"isolations": 1}),
        ({"image_patterns": ["hub:5000/shops:*", "nginx:*", "*/web"]}, {}),
        ({"exclude": {"image_patterns": ["hub:5000/shop:4.2*"]}}, {"undecidable": 1}),
        ({"exclude": {"image_patterns": ["*/shop:*"]}}, {}),
        ({"exclude": {"image_patterns": ["nginx:1*"]}}, {"isolations": 1}),
    ],
)
def test_an_image_without_its_tag_is_not_known(target_filter: dict[str, t.Any], expected: dict[str, int]) -> None:
    assert outcomes(run([policy(target_filter=target_filter)], [tagless()])) == expected


def test_short_forms_of_an_image_without_its_tag() -> None:
    sure = policy(target_filter={"image_patterns": ["nginx:*"]})
    assert outcomes(run([sure], [tagless("docker.io/library/nginx")])) == {"isolations": 1}


@pytest.mark.parametrize(
    ("pattern", "outcome", "notes"),
    [("*/shop:*", "protected", 0), ("*/shop:4", "isolations", 1), ("x", "isolations", 0)],
)
def test_protection_by_an_image_without_its_tag(pattern: str, outcome: str, notes: int) -> None:
    report = run([policy()], [tagless()], protect=TargetFilter(image_patterns=(pattern,)))
    assert outcomes(report) == {outcome: 1}
    assert len(report["notes"]) == notes


def test_policies_that_an_image_without_its_tag_cannot_match() -> None:
    report = run([policy(target_filter={"image_patterns": ["nginx:*"]})], [tagless()])
    assert report["unwanted"][0]["nearest"] == ["shells: image_patterns [nginx:*] does not match [hub:5000/shop:<NA>]"]


def test_a_log_without_alerts_says_why() -> None:
    text = "Sun Apr  5 12:00:00 2026: Falco version: 0.43.0 (x86_64)"
    as_text = "12:43:02.928967123: Notice shell opened (user=root container_id=3f2a91c07be4)"
    report = run([policy()], [text, as_text, as_text, {"a": 1}])
    assert report["notes"] == [
        (
            "no alert was found in 4 lines: it is an alert of Falco as text: set json_output to true in falco.yaml (2, "
            "first line 2); it is text and holds no JSON (1, first line 1); the message has the shape of no known "
            "detector and is no generic alert either (1, first line 4)"
        )
    ]
    assert run([policy()], [])["notes"] == ["the log is empty, so this says nothing about the policies"]
    assert run([policy()], ["", ""])["notes"] == ["no alert was found in 2 lines: all of them are blank"]


@pytest.mark.parametrize(("texts", "told"), [(2, False), (3, True)])
def test_a_log_of_which_more_than_half_was_skipped_says_so(texts: int, told: bool) -> None:
    report = run([policy()], [alert(0), alert(1), "", *["text"] * texts])
    assert [note.partition(",")[0] for note in report["notes"]] == ["3 lines were skipped"] * told


ONE, TWO = json.dumps(alert(0)), json.dumps(alert(1))


def prefixed(prefix: str) -> bytes:
    return f"{prefix}{ONE}\n{prefix}{TWO}\n".encode()


def wrapped(wrap: t.Callable[[str], object]) -> bytes:
    return "".join(json.dumps(wrap(each)) + "\n" for each in (ONE, TWO)).encode()


LOGS = {
    "syslog": prefixed("Apr  5 12:43:02 web-1 falco[812]: "),
    "journalctl, ISO": prefixed("2026-04-05T12:43:02+0000 web-1 falco[812]: "),
    "syslog of falcosidekick": prefixed("<5>2026-04-05T12:43:02Z web-1 Falco[1]: "),
    "compose": prefixed("falco-1  | "),
    "docker logs with times": prefixed("2026-04-05T12:43:02.930000000Z "),
    "UTF-16 LE": b"\xff\xfe" + f"{ONE}\r\n{TWO}\r\n".encode("utf-16-le"),
    "docker json-file": wrapped(lambda it: {"log": it + "\n", "stream": "stdout", "time": "2026-04-05T12:43:02.93Z"}),
    "journald": wrapped(lambda it: {"MESSAGE": list(it.encode()), "SYSLOG_IDENTIFIER": "falco"}),
    "Vector": wrapped(lambda it: {"file": "/var/log/falco.log", "message": it, "source_type": "file"}),
    "pretty": "\n".join(json.dumps(alert(second), indent=2) for second in range(2)).encode(),
    "text glued to an alert": f"Sun Apr  5 12:43:02 2026: Falco internal: event drop.{ONE}\n{TWO}\n".encode(),
    "a hole": b"\0" * 5000 + prefixed(""),
    "gzip without a suffix": gzip.compress(prefixed("")),
    "xz without a suffix": lzma.compress(prefixed("")),
}


@pytest.mark.parametrize("content", LOGS.values(), ids=LOGS)
def test_logs_as_they_are_in_life(tmp_path: pathlib.Path, content: bytes) -> None:
    path = tmp_path / "falco.log.1"
    path.write_bytes(content)
    with AlertLog(path) as log:
        report = replay_file(log, Replay(PolicySet.of([policy()])), lambda _text: None)
    assert outcomes(report) == {"isolations": 1, "repeats": 1}
    assert [report["totals"][name] for name in ("alerts", "skipped", "refused")] == [2, 0, 0]
    assert report["notes"] == []


def test_messages_that_need_no_answer_are_counted_apart() -> None:
    flow = {"event_type": "flow", "timestamp": "2026-04-05T12:43:02.828967+0000"}
    report = run([policy()], [flow, alert()])
    assert report["totals"]["passed_over"] == 1
    assert "1 alerts, 0 skipped, 0 refused, 1 need no answer" in table(report)[0]
    assert run([policy()], [flow])["notes"] == ["no alert was found in 1 lines: all 1 messages need no answer"]


SWEEP = policy("sweep", scope="matching_containers", target_filter={"container_names": ["web-*"]})


def test_alerts_that_say_nothing_about_containers_come_to_policies_of_that_scope() -> None:
    report = run([policy("a"), SWEEP], [{"source": "suricata", "rule": "Shell", "severity": "high"}])
    assert outcomes(report, 1) == {"undecidable": 1}
    assert report["totals"]["without_container"] == 1


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({"container.id": "host", "container.name": "host"}, "no_container"),
        ({"container.id": "101", "container.name": "pct-mail"}, "no_container"),
        ({"container.id": None}, "unresolved"),
        ({}, "unresolved"),
        (None, "unresolved"),
        ({"container.name": "web-1"}, "isolations"),
        ({"container_id": WEB}, "isolations"),
    ],
)
def test_alerts_that_name_no_container_of_docker_isolate_none(fields: dict[str, t.Any] | None, outcome: str) -> None:
    report = run([policy("a"), SWEEP], [alert(output_fields=fields)])
    assert outcomes(report, 0) == {outcome: 1}
    assert outcomes(report, 1) == {}


def test_alerts_about_the_host_that_no_policy_would_want_are_unwanted() -> None:
    report = run([policy("a", rules=["Other"]), SWEEP], [alert(container="host")])
    assert report["totals"]["unwanted"] == 1
    assert report["unwanted"][0]["nearest"][0] == "a: rules [Other] does not match [Shell]"


def test_a_set_in_audit_mode_isolates_nothing() -> None:
    replay = Replay(PolicySet.of([policy("a"), policy("off", enabled=False)], mode="audit"))
    replay.take_record(Record(1, json.dumps(alert()).encode()))
    report = replay.report()
    assert outcomes(report) == {"audit": 1}
    assert [found["mode"] for found in report["policies"]] == ["audit", "disabled"]


def test_old_alerts_have_no_age() -> None:
    report = run([policy("a")], [alert(0), alert(3600, DB, "db")], limits=Limits(max_alert_age=1))
    assert outcomes(report) == {"isolations": 2}


def test_hosts_are_known_by_the_names_of_the_inventory() -> None:
    policies = [policy(hosts=["web-*"])]
    assert outcomes(run(policies, [alert()])) == {}
    report = run(policies, [alert()], host_map={"host-1": "web-1"})
    assert outcomes(report) == {"isolations": 1}
    assert report["policies"][0]["sample"][0]["host"] == "web-1"


def test_hostile_lines_are_counted_and_inert() -> None:
    bad = "{{ lookup('pipe', 'id') }}"
    report = run(
        [policy("none", rules=["x"])],
        [b"\xff\xfe{", b"{\xff}", "[" * 20_000, '{"a":' * 20_000, '{"a": 1' + "0" * 5000 + "}", "[]", "{}",
         json.dumps([alert(), 7]), {"rule": "x", "severity": "low", "source": "y", bad: 1},
         alert(rule=bad + "\x1b[2J", name=bad), alert(rule="#jinja2: x"), "\ufeff" + json.dumps(alert())],
    )  # fmt: skip
    totals = report["totals"]
    assert [totals[name] for name in ("lines", "alerts", "skipped", "refused")] == [12, 4, 3, 4]
    text = "\n".join([*table(report), *map(str, [report])])
    assert "{{" not in text.replace("{'", "")
    assert "\x1b" not in text
    assert not any(line.startswith("#jinja2:") for line in table(report))


def test_bounds_are_kept_and_told() -> None:
    bounds = Bounds(containers=5, cooldowns=2, hosts=2, rules=3, sample=2, shown_rules=2)
    messages = [
        alert(number, f"{number:012x}", hostname=f"host-{number}", rule=rule)
        for number in range(9)
        for rule in ("Shell", f"rule {number}")
    ]
    broken = [{"rule": "x", "severity": "low", "source": "y", f"key{number}": 1} for number in range(9)]
    report = run(
        [policy(rules=["Shell"], cooldown=9, release_after=1)],
        [*messages, *broken],
        limits=Limits(1, 9, 9),
        bounds=bounds,
    )
    assert outcomes(report) == {"isolations": 5, "not_simulated": 4}
    assert report["policies"][0]["containers"] == 5
    assert len(report["policies"][0]["sample"]) == 2
    assert len(report["unwanted"]) <= 2
    assert [note.partition(":")[0] for note in report["notes"]] == [
        "more than 5 containers",
        "more than 2 cooldowns",
        "more than 2 hosts",
        "more than 3 rules that no policy wants",
        "more than 3 reasons for refusal",
    ]


def peak(count: int) -> int:
    """Most memory, in bytes, that a replay takes of alerts that are all different in everything."""
    policies = PolicySet.of(
        [policy(rules=["*0", "*2", "*4", "*6", "*8"], cooldown=60, release_after=60)], limits=Limits(1, 10, 60)
    )
    replay = Replay(policies, bounds=Bounds(containers=2000, cooldowns=2000, hosts=2000))
    tracemalloc.start()
    for number in range(count):
        # Built as it is, since tracing what the parser allocates takes minutes, and the parser keeps nothing.
        replay.take(
            Alert(
                id="id",
                trace_id="trace",
                source="falco",
                rule=f"rule {number}",
                severity=Severity.HIGH,
                received_at="",
                time=f"2026-04-05T{number % 24:02}:00:00.000000Z",
                host=f"host-{number}",
                container=ContainerRef(f"{number:012x}", f"web-{number}", "nginx"),
                raw="x" * 1000,
            )
        )
    report = replay.report()
    _now, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert report["totals"]["alerts"] == count
    assert report["policies"][0]["not_simulated"] == count // 2 - 2000
    return most


def test_memory_does_not_grow_with_the_alerts() -> None:
    few, many = peak(20_000), peak(200_000)
    assert many < 16 * 1024 * 1024
    assert many < few + 1024 * 1024


def test_progress_is_told(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "alerts.log"
    path.write_text("text\n" * 3)
    monkeypatch.setattr(replay_module, "PROGRESS_INTERVAL", 0.0)
    told: list[str] = []
    with AlertLog(path) as log:
        replay_file(log, Replay(PolicySet.of([])), told.append)
    assert len(told) == 1
    assert told[0].startswith("replay: 3 lines, ")
    assert told[0].endswith(" a second, 100% of the file")
