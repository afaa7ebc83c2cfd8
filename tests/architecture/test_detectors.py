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

import jsonschema
import pytest
import yaml

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.detector import PassedOver
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
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
    assert section(name, "Who writes what")
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


SCHEMA = json.loads((PAGES / "alert.schema.json").read_text(encoding="utf-8"))
ALERT = {"source": "honeypot", "rule": "r", "severity": "High"}
CONTAINER = {"id": "0123456789ab", "name": "/web", "image": "x", "pid": 812, "addresses": ["172.18.0.4", "fe80::1"]}


def reads(value: object) -> bool:
    try:
        Alert.from_dict(value)
    except AlertError:
        return False
    return True


@pytest.mark.parametrize(
    ("good", "value"),
    [
        (True, ALERT),
        (True, {**ALERT, "container": CONTAINER, "tags": ["a"], "time": "2026-04-05T12:43:02Z"}),
        (True, Alert.from_dict({**ALERT, "container": CONTAINER}).to_dict()),
        (True, Alert.from_dict(ALERT).to_dict()),
        (True, {**ALERT, "container": dict.fromkeys(CONTAINER), "tags": None, "message": None}),
        (True, {**ALERT, "container": {"id": "host"}}),
        (False, {**ALERT, "contaner": {}}),
        (False, {**ALERT, "source": "a b"}),
        (False, {**ALERT, "rule": " "}),
        (False, {**ALERT, "severity": "urgent"}),
        (False, {"source": "honeypot", "rule": "r"}),
        (False, {**ALERT, "tags": "a"}),
        (False, {**ALERT, "container": "web"}),
        *((False, {**ALERT, "container": {**CONTAINER, "id": wrong}}) for wrong in ("0123", "ABCDEFABCDEF", 7, [])),
        *((False, {**ALERT, "container": {**CONTAINER, "pid": wrong}}) for wrong in (True, -1, 4_194_305, "812")),
        *(
            (False, {**ALERT, "container": {**CONTAINER, "addresses": wrong}})
            for wrong in ("172.18.0.4", ["x"], ["172.18.0.4"] * 3, [7])
        ),
        (False, {**ALERT, "container": {"subject": "pod"}}),
    ],
)
def test_the_schema_says_what_is_read(good: bool, value: object) -> None:
    schema = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker(["ipv4", "ipv6"]))
    assert schema.is_valid(value) is reads(value) is good


def test_the_schema_knows_all_keys() -> None:
    record = Alert.from_dict({**ALERT, "container": CONTAINER}).to_dict()
    assert SCHEMA["properties"].keys() == record.keys()
    assert SCHEMA["properties"]["container"]["properties"].keys() == record["container"].keys()


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
