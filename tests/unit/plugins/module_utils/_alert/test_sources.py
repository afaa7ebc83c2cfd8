# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import DETECTORS
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.sources import SOURCES, source_of


@pytest.mark.parametrize("name", ["falco", "FALCO", "falcosidekick", "sysdig", "tetragon", "wazuh", "Wazuh"])
def test_sources_that_name_containers(name: str) -> None:
    assert source_of(name).names_containers


@pytest.mark.parametrize("name", ["suricata", "crowdsec", "alertmanager", "honeypot", "", "falco2"])
def test_sources_that_may_say_nothing_about_containers(name: str) -> None:
    assert not source_of(name).names_containers


def test_startsat_is_no_event() -> None:
    assert not source_of("alertmanager").time_is_of_event
    assert source_of("falco").time_is_of_event
    assert source_of("suricata").time_is_of_event


def test_every_detector_that_is_read_is_known() -> None:
    assert DETECTORS.keys() - {"generic"} <= SOURCES.keys()
    assert all(name == name.lower() for name in SOURCES)


def test_how_to_say_the_id_names_the_rule_as_it_stands() -> None:
    how = source_of("falco").how_to_say_the_id
    assert how.format(rule="{0} {rule}") == "add %container.id to the output of rule {0} {rule}"
