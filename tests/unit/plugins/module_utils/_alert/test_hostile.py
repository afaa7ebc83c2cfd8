# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whatever stands where in a message of any detector: an alert that is no template anywhere, or a reason."""

from __future__ import annotations

import copy
import json
import typing as t
from collections.abc import Iterator

import jinja2
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert, Subject
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import (
    DETECTORS,
    alert_from_object,
    read_message,
)
from ansible_collections.ironpost.container_guard.tests.unit.plugins.module_utils._alert.detectors.samples import (
    ID,
    SAMPLES,
    Message,
)

JINJA = jinja2.Environment(autoescape=False)  # noqa: S701 - no HTML here
DELETED = "deleted"

hostile = (
    st.none()
    | st.sampled_from(
        ["", "<NA>", "null", "host", "101", "/", ID, ID[:31], "ubuntu:latest", "{{ x }}", "#jinja2: a", "{"]
    )
    | st.sampled_from([True, -1, 0, 1.5, 2**53, 2**64, -(2**70), 10**400, float("inf")])
    | st.sampled_from([[], {}, [[]], ["{{ x }}"], [None], {"": ""}, {"{{ x }}": "{%"}, [{"key": [], "value": {}}]])
    | st.text(st.characters(codec=None), max_size=8)
)


def paths(value: object, path: tuple[t.Any, ...] = ()) -> Iterator[tuple[t.Any, ...]]:
    """Where something stands in a message, the message itself left out."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from paths(inner, (*path, key))


@st.composite
def messages(draw: st.DrawFn) -> tuple[str, Message]:
    """A sample of a detector, with some of it deleted, put elsewhere or replaced."""
    name = draw(st.sampled_from(sorted(SAMPLES)))
    message = copy.deepcopy(draw(st.sampled_from(SAMPLES[name])))
    for _change in range(draw(st.integers(1, 4))):
        places = list(paths(message))
        if not places:
            break
        *above, last = draw(st.sampled_from(places))
        holder: t.Any = message
        for key in above:
            holder = holder[key]
        value = draw(hostile | st.just(DELETED) | st.just(message))
        if value == DELETED:
            del holder[last]
        else:
            holder[last] = copy.deepcopy(value)
    return name, message


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


def check_inert(value: object) -> None:
    for string in strings_of(value):
        assert string.isprintable()
        assert JINJA.from_string(string).render() == string
        assert not string.startswith("#jinja2:")
        assert not string.endswith("{")


def check(alert: Alert) -> None:
    record = alert.to_dict()
    check_inert(record)
    assert Alert.from_dict(json.loads(json.dumps(record))) == alert
    if alert.subject is Subject.NOT_DOCKER:
        assert alert.container.pid == 0
    assert bool(alert.container.id) is (alert.subject is Subject.CONTAINER)


@given(messages(), st.sampled_from(["", *DETECTORS]))
@settings(max_examples=200)
def test_whatever_stands_where_it_is_an_alert_or_a_reason(case: tuple[str, Message], other: str) -> None:
    name, message = case
    body = json.dumps(message).replace("Infinity", "1e400").encode()  # which is a JSON number
    for detector in ("", name, other):
        found = read_message(body, detector)
        for alert in found.alerts:
            check(alert)
        for rejected in found.rejected:
            check_inert([rejected.kind, rejected.reason, rejected.remedy])
        assert found.received >= 1


@given(messages())
def test_what_a_person_gives_is_an_alert_or_a_reason(case: tuple[str, Message]) -> None:
    try:
        check(alert_from_object(case[1]))
    except AlertError as error:
        check_inert(error.to_dict())


@given(st.lists(messages().map(lambda case: json.dumps(case[1])) | st.text(max_size=20), max_size=4), st.data())
def test_lines_that_are_cut_off_or_torn(lines: list[str], data: st.DataObject) -> None:
    body = "\n".join(lines)
    start = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(start, len(body)))
    try:
        found = read_message(body[start:end].encode("utf-8", "surrogatepass"))
    except AlertError as error:
        check_inert(error.to_dict())
    else:
        assert found.received >= 1
