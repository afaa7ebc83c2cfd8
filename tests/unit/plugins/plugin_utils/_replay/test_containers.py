# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import pathlib

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import ContainerRef
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.container import Container
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._replay.containers import Containers, Known
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._replay.errors import ReplayError

FULL = "6bc1b4be90d6" + "0" * 52
WEB = {"id": FULL, "name": "web-1", "image": "nginx:1.27", "labels": {"env": "prod"}}
CONTAINER = Container(FULL, "web-1", ("nginx:1.27",), {"env": "prod"})
INSPECTED = {
    "Id": FULL,
    "Name": "/web-1",
    "Created": "2026-04-05T12:43:02.928967267Z",
    "Config": {"Image": "nginx:1.27", "Labels": {"env": "prod"}},
}


def read(tmp_path: pathlib.Path, content: str) -> Containers:
    path = tmp_path / "containers.json"
    path.write_text(content, encoding="utf-8")
    return Containers.from_file(path)


@pytest.mark.parametrize(
    "content",
    [
        json.dumps([WEB]),
        json.dumps(WEB) + "\n",
        json.dumps({**WEB, "id": "1" * 64, "name": "other", "labels": {"x": "\u2028"}}, ensure_ascii=False)
        + "\n\n"
        + json.dumps(WEB),
        json.dumps([INSPECTED], indent=4),
    ],
    ids=["list", "one", "lines", "docker inspect"],
)
def test_the_shapes_of_the_file(tmp_path: pathlib.Path, content: str) -> None:
    assert read(tmp_path, content).find(ContainerRef(id=FULL[:31])) == Known(CONTAINER)


@pytest.mark.parametrize(
    "reference", [ContainerRef(id=FULL), ContainerRef(id=FULL[:12], name="lies"), ContainerRef(name="web-1")]
)
def test_it_is_found_by_id_or_else_by_name(reference: ContainerRef) -> None:
    assert Containers([CONTAINER]).find(reference) == Known(CONTAINER)


@pytest.mark.parametrize(
    ("reference", "unknown"),
    [
        (ContainerRef(id="a" * 12, name="db", image="pg:17"), {"labels"}),
        (ContainerRef(id="a" * 12, name="db", image="hub:5000/pg"), {"labels", "image_tag"}),
        (ContainerRef(id="a" * 12, name="db", image="pg:<NA>"), {"labels", "image_tag"}),
        (ContainerRef(id="a" * 12, name="db", image="pg@sha256:1"), {"labels"}),
        (ContainerRef(name="db", image="<NA>:<NA>"), {"image_patterns", "labels"}),
        (ContainerRef(id="a" * 12, image="pg:17"), {"container_names", "labels"}),
        (ContainerRef(id=FULL[:12] + "1"), {"container_names", "image_patterns", "labels"}),
    ],
)
def test_of_another_one_only_what_the_alert_says_is_known(reference: ContainerRef, unknown: set[str]) -> None:
    known = Containers([CONTAINER]).find(reference)
    assert known.unknown == unknown
    assert (known.container.id, known.container.name) == (reference.id, reference.name)


def test_a_name_on_two_hosts_names_no_container() -> None:
    containers = Containers([CONTAINER, Container("1" * 64, "web-1")])
    assert "labels" in containers.find(ContainerRef(name="web-1")).unknown


@pytest.mark.parametrize(
    "content",
    ["no JSON", "[1]", "[" * 5000, '{"id": "x"}', json.dumps([{**WEB, "labels": {"a": 1}}]), '[{"Config": 1}]',
     '[{"Config": [], "Id": [], "Name": ""}]', json.dumps([WEB, {**INSPECTED, "Config": {"Image": [1]}}]),
     json.dumps([{**WEB, "labels": ["a"]}]), '{"id": 1' + "0" * 5000 + "}"],
)  # fmt: skip
def test_anything_else_is_refused(tmp_path: pathlib.Path, content: str) -> None:
    with pytest.raises(ReplayError) as caught:
        read(tmp_path, content)
    assert caught.value.kind == "containers_invalid"


def test_a_missing_file(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ReplayError, match="docker inspect") as caught:
        Containers.from_file(tmp_path / "nowhere")
    assert caught.value.kind == "containers_missing"
