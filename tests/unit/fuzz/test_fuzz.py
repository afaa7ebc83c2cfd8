# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small part of what C(make fuzz) does, the same each time."""

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.filters import normalize
from ansible_collections.ironpost.container_guard.tests.fuzz import listener, parsers

SEED = 1


def test_parsers() -> None:
    counts, _watch = parsers.run("parsers", parsers.read, SEED, range(10_000))
    # Inputs are of use where they get everywhere.
    assert {what for what, number in counts.items() if number > 5} >= {
        *(
            f"alert of {source}"
            for source in ("falco", "tetragon", "wazuh", "suricata", "crowdsec", "alertmanager", "grafana")
        ),
        *(
            "alert of another source",
            "not_json",
            "not_an_alert",
            "invalid_alert",
            "resolved",
            "no_alert",
            "state_change",
        ),
    }


def test_logs() -> None:
    counts, _watch = parsers.run("logs", parsers.read_log, SEED, range(500))
    assert counts["record"] > 500
    assert len(counts) > 3


def test_filters() -> None:
    counts, _watch = parsers.run("filters", parsers.filtering(), SEED, range(5_000))
    assert min(counts["0 events"], counts["1 events"]) > 500


def test_a_fault_of_a_filter_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{normalize.__module__}.read_message", lambda *_arguments: 1 / 0)
    with pytest.raises(parsers.FailedError, match=f"input 0 of seed {SEED} for the filters"):
        parsers.run("filters", parsers.filtering(), SEED, range(1))


def test_the_listener(tmp_path: pathlib.Path) -> None:
    counts = listener.run(tmp_path, SEED, range(1_500))
    assert min(counts["status 202"], counts["status 400"]) > 200
    assert min(counts["status 401"], counts["no answer"]) > 5
