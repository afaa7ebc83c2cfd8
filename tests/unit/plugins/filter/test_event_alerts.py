# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter event_alerts."""

from __future__ import annotations

import uuid

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.ironpost.container_guard.plugins.filter.event_alerts import event_alerts
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.packed import written


@pytest.mark.parametrize("many", [1, 600])
def test_all_alerts_are_there(many: int) -> None:
    rules = [str(uuid.uuid4()) for _number in range(many)]
    event, number = written([{"rule": rule} for rule in rules])
    assert number == many
    assert [alert["rule"] for alert in event_alerts(event)] == rules


def test_an_event_about_none_has_none() -> None:
    assert event_alerts({"unanswered": []}) == []


@pytest.mark.parametrize("event", [None, [], "x", {"alerts": [], "packed_alerts": "x"}])
def test_what_is_no_event_is_an_error(event: object) -> None:
    with pytest.raises(AnsibleFilterError):
        event_alerts(event)
