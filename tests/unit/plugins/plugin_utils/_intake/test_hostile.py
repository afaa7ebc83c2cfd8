# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whatever is posted becomes an AlertError or an event that is no template anywhere."""

from __future__ import annotations

import asyncio
import base64
import collections
import contextlib
import dataclasses
import json
import pathlib
import typing as t
from collections.abc import Iterator

import jinja2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import (
    Facets,
    read_message,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.events import AlertEvent
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.hosts import Placed
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.receipts import ReceiptError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.spool import Offer
from ansible_collections.ironpost.container_guard.tests.fakes.rule_engine import authorization, engine, receipt
from ansible_collections.ironpost.container_guard.tests.readings import alerts_from_bytes

JINJA = jinja2.Environment(autoescape=False)  # noqa: S701 - no HTML here

pieces = st.sampled_from(
    [
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "{",
        "#jinja2:",
        "lookup('pipe','id')",
        "\n",
        "\r",
        "\0",
        "\x1b[2J",
        "\ud800",
        " ",
    ]
)
texts = (
    st.lists(pieces | st.text(st.characters(codec=None), max_size=5), max_size=8).map("".join)
    | st.sampled_from(["", "<NA>", "host", "null", "/", "a" * 12, "f" * 64, "web-1"])
    | st.text(st.characters(codec=None))
)
scalars = st.none() | st.booleans() | st.integers() | st.integers(-(10**30), 10**30) | st.floats() | texts
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=10)


def object_of(required: dict[str, st.SearchStrategy[t.Any]], *optional: str) -> st.SearchStrategy[dict[str, t.Any]]:
    return st.fixed_dictionaries(required, optional=dict.fromkeys(optional, values))


def container_of(*keys: str) -> st.SearchStrategy[dict[str, t.Any]]:
    ids = st.just("0123456789ab") | values
    return st.fixed_dictionaries({}, optional={key: ids if key.endswith("id") else values for key in keys})


# Mostly right, so that many get through the checks.
falco = st.builds(
    lambda message, fields: {**message, "output_fields": fields},
    object_of(
        {"priority": st.sampled_from(["Critical", "info"]), "rule": texts}, "uuid", "time", "hostname", "tags", "output"
    ),
    container_of("container.id", "container.full_id", "container.name", "container.image", "proc.cmdline") | values,
)
generic = st.builds(
    lambda message, container: {**message, "container": container},
    object_of(
        {"source": st.just("sensor") | texts, "rule": texts, "severity": st.sampled_from(["info", "HIGH"])},
        *("id", "trace_id", "time", "host", "inventory_host", "tags", "message", "raw", "raw_sha256"),
    ),
    container_of("id", "name", "image") | values,
)
messages = falco | generic | st.lists(falco | generic, max_size=3) | values


def strings_of(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from strings_of(key)
            yield from strings_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings_of(item)
    elif isinstance(value, str):
        yield value


def assert_inert(event: object) -> None:
    """No text of the event, key or value, is a template to Ansible, and all of it is shown as it is."""
    assert json.loads(json.dumps(event)) == event
    for string in strings_of(event):
        assert not any(delimiter in string for delimiter in ("{{", "{%", "{#"))
        assert not string.endswith("{")
        assert not string.startswith("#jinja2:")
        assert string.isprintable()
        assert JINJA.from_string(string).render() == string


def check(body: bytes) -> None:
    try:
        alerts = alerts_from_bytes(body)
    except AlertError as error:
        for string in strings_of(error.to_dict()):
            assert string.isprintable()
            assert JINJA.from_string(string).render() == string
        return
    event = AlertEvent([Placed(alert, ("all",)) for alert in alerts])
    assert_inert(event)
    assert all(alert["container"]["id"] not in ("host", "<NA>") for alert in event["alerts"])


@given(messages)
@example({"priority": "Critical", "rule": "{{ x }}", "output": "#jinja2: a:1\n{{", "tags": ["{%", {"{{": 1}]})
@example({"source": "s", "rule": "{", "severity": "low", "{{ x }}": 1})
@example([{"source": "s", "rule": "r", "severity": "low", "container": {"{#": 10**4000}}])
def test_json(message: object) -> None:
    check(json.dumps(message).encode())


@given(messages)
def test_json_with_raw_surrogates(message: object) -> None:
    check(json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass"))


@given(st.binary() | st.text().map(str.encode))
@example(b'{"source":"s","rule":"r","severity":"low","message":1e400}')
@example(b'{"source":"s","rule":"r","severity":"low","message":' + b"9" * 5000 + b"}")
@example(b'[{"a":' * 50_000)
def test_bytes(body: bytes) -> None:
    check(body)


@given(falco)
def test_what_was_received_can_be_read_back(message: dict[str, t.Any]) -> None:
    body = json.dumps(message).encode()
    try:
        (alert,) = alerts_from_bytes(body)
    except AlertError:
        return
    assert base64.b64decode(alert.raw) == body


async def delivered(directory: pathlib.Path, alerts: t.Iterable[Alert], behaviour: str, says: str) -> list[t.Any]:
    """The events that the rule engine gets of these alerts until they are answered, or told as unanswered."""
    async with engine(directory, {"web-1": behaviour}, answer_timeout=0.1, answer_deadline=0.1) as running:
        placed = [dataclasses.replace(alert, inventory_host="web-1") for alert in alerts]
        await running.spool.store([Offer(alert, ("web-1",)) for alert in placed])
        if placed:
            await running.until(lambda: bool(running.events))
            event = running.events[0]
            said = receipt(event, "web-1", state="failed", message=says)
            with contextlib.suppress(ReceiptError):  # of one that has ended
                await running.deliveries.receipt(authorization(event), said)
        await running.settled()
        return [*running.events, *running.unanswered]


@settings(deadline=None, max_examples=25)
@given(st.lists(falco | generic, min_size=1, max_size=8), st.sampled_from(["no_policy", "hang", "failed"]), texts)
@example([{"source": "s", "rule": "{{ x }}", "severity": "low", "tags": ["#jinja2: a", "{%"]}], "failed", "{{ x }}\n{")
def test_what_leaves_the_spool(
    tmp_path_factory: pytest.TempPathFactory, given_messages: list[object], behaviour: str, says: str
) -> None:
    alerts: list[Alert] = []
    for message in given_messages:
        with contextlib.suppress(AlertError):
            alerts += read_message(json.dumps(message).encode()).alerts
    events = asyncio.run(delivered(tmp_path_factory.mktemp("spool"), alerts, behaviour, says))
    assert bool(events) == bool(alerts)
    for event in events:
        assert_inert(event)


@given(messages, messages)
@example({"priority": "Info", "rule": "r"}, {"priority": "info", "rule": "r", "output": "x"})
@example(
    {"priority": "Info", "rule": "r"}, {"priority": "info", "rule": "r", "output_fields": {"container.id": "host"}}
)
@example({"priority": "Info", "rule": "r"}, {"priority": "info", "rule": "r", "output_fields": {"container.id": 1}})
def test_what_is_not_read_whole_is_what_was_known_to_be_unwanted(first: object, second: object) -> None:
    try:
        unwanted = frozenset(Facets.of(alert) for alert in read_message(json.dumps(first).encode()).alerts)
        whole = read_message(json.dumps(second).encode())
    except AlertError:
        return
    short = read_message(json.dumps(second).encode(), unwanted=unwanted)
    assert (short.received, short.rejected, short.passed_over) == (whole.received, whole.rejected, whole.passed_over)
    left = collections.Counter(map(Facets.of, whole.alerts)) - collections.Counter(map(Facets.of, short.alerts))
    assert left == collections.Counter(short.unwanted)
    assert set(short.unwanted) <= unwanted
