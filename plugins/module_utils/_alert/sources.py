# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is known of detectors by their names: the one list of that."""

from __future__ import annotations

import dataclasses
import typing as t


@dataclasses.dataclass(frozen=True)
class Source:
    """How far the alerts of a detector can be taken at their word.

    Attributes:
        names_containers: it says which container an alert is about, where it is about one. An alert of it that says
            nothing about containers never means whichever container matches.
        time_is_of_event: the time in its alerts is that of the event.
        how_to_say_the_id: what makes it say container ids, for people; C({rule}) stands for the rule. May be empty.
    """

    names_containers: bool = False
    time_is_of_event: bool = True
    how_to_say_the_id: str = ""


_FALCO = Source(names_containers=True, how_to_say_the_id="add %container.id to the output of rule {rule}")
_TETRAGON = Source(names_containers=True, how_to_say_the_id="Tetragon 1.7.0 and newer say it wherever there is one")
_UNKNOWN = Source()

SOURCES: t.Mapping[str, Source] = {
    "falco": _FALCO,
    "falcosidekick": _FALCO,
    "sysdig": Source(names_containers=True),
    "tetragon": Source(
        names_containers=True, how_to_say_the_id="Tetragon 1.7.0 and newer say it wherever there is one"
    ),
    "wazuh": Source(names_containers=True),
    # startsAt is when the rule began to fire, hours before the message where it is sent again.
    "alertmanager": Source(time_is_of_event=False),
    "grafana": Source(time_is_of_event=False),
    "suricata": _UNKNOWN,
    "crowdsec": _UNKNOWN,
    "ironpost": _UNKNOWN,
}
"""By name in lower case."""


def source_of(name: str) -> Source:
    """What is known of the detector of that name, in any case."""
    return SOURCES.get(name.lower(), _UNKNOWN)
