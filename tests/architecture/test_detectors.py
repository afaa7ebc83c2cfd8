# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each detector has its page, and what the page says of severities is what the parser does."""

from __future__ import annotations

import http.server
import json
import pathlib
import re
import subprocess
import sys
import threading

import pytest
import yaml

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.detector import PassedOver
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import DETECTORS
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import SEVERITIES

REPOSITORY = next(path for path in pathlib.Path(__file__).absolute().parents if (path / "galaxy.yml").is_file())
PAGES = REPOSITORY / "docs/detectors"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROW = re.compile(rf"^\| ([^|]+) \| ({'|'.join(SEVERITIES)}) \|$", re.MULTILINE)


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


def section(name: str, title: str) -> str:
    """What stands under a heading."""
    return page(name).partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_each_detector_has_a_page_and_the_index_has_all() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} == {"README", *DETECTORS}
    for name in DETECTORS:
        assert f"| `/alerts/{name}` |" in page("README")
        assert f"[{name}.md]({name}.md)" in page("README")


@pytest.mark.parametrize("name", DETECTORS)
def test_the_table_of_severities(name: str) -> None:
    detector = DETECTORS[name]
    said = {
        word.strip().lower(): severity
        for words, severity in ROW.findall(section(name, "Severity"))
        for word in words.split(",")
    }
    own = detector.severities
    if name == "wazuh":  # Falco within Wazuh is on the page of Falco
        own = {word: severity for word, severity in own.items() if word.isdecimal()}
    assert said == own
    if detector.default:
        assert f"`{detector.default}`" in section(name, "Severity")


@pytest.mark.parametrize("name", DETECTORS)
def test_a_page_says_what_is_read_and_what_is_not(name: str) -> None:
    assert section(name, "What is read")
    assert section(name, "What needs no answer")


def test_every_reason_to_pass_over_is_explained() -> None:
    assert [reason.value for reason in PassedOver if f"| `{reason.value}` |" not in page("README")] == []


@pytest.mark.parametrize("path", sorted(PAGES.glob("*.md")), ids=lambda path: path.stem)
def test_what_one_would_copy_is_well_formed(path: pathlib.Path) -> None:
    for language, block in BLOCK.findall(path.read_text(encoding="utf-8")):
        if language == "yaml":
            assert yaml.safe_load(block)
        elif language == "json":
            assert json.loads(block)
        elif language == "python":
            compile(block, str(path), "exec")


def test_the_integration_of_wazuh_posts_the_alert(tmp_path: pathlib.Path) -> None:
    ((_language, script),) = [block for block in BLOCK.findall(page("wazuh")) if block[0] == "python"]
    posted = []

    class Guard(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posted.append((self.path, self.headers["Authorization"], body))
            self.send_response(202)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    alert = tmp_path / "alert.json"
    alert.write_text('{"rule": {"level": 5, "id": "87908"}, "agent": {"id": "001"}}')
    (tmp_path / "custom-guard").write_text(script)
    with http.server.HTTPServer(("127.0.0.1", 0), Guard) as guard:
        threading.Thread(target=guard.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{guard.server_port}/alerts/wazuh"
        subprocess.run([sys.executable, tmp_path / "custom-guard", alert, "s-token", url], check=True, timeout=30)
    assert posted == [("/alerts/wazuh", "Bearer s-token", alert.read_bytes())]
