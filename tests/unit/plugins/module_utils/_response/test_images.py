# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which containers are of an image."""

from __future__ import annotations

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.container import Container
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.images import Images
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine, image_id_of

REPOSITORY = "registry.example.com/shop"
TAG = f"{REPOSITORY}:4.2"
DIGEST = "sha256:" + "5d" * 32
OLD = "sha256:" + "0d" * 32
NEW = image_id_of(TAG)


@pytest.fixture
def engine() -> FakeEngine:
    """A host where the tag shop:4.2 has moved from one image to another."""
    engine = FakeEngine()
    engine.add_container("new", image=TAG)
    engine.add_container("old", image=TAG, image_id=OLD, listed_image=OLD)
    engine.add_container("retagged", image="shop:live", image_id=NEW)
    engine.add_container("plain", image="nginx", image_id=image_id_of("nginx:latest"))
    engine.add_image(NEW, [TAG, "shop:live"], [f"{REPOSITORY}@{DIGEST}"])
    engine.add_image(OLD, ["<none>:<none>"])
    engine.add_image(image_id_of("nginx:latest"), ["nginx:latest"])
    return engine


def containers(engine: FakeEngine) -> dict[str, Container]:
    found = [Container.from_inspect(engine.inspect_container(one["Id"])) for one in engine.list_containers()]
    return {container.name: container for container in found}


@pytest.mark.parametrize(
    ("wanted", "matched"),
    [
        (TAG, {"new": "image tag", "old": "image name", "retagged": "image tag"}),
        (f" {TAG}\n", {"new": "image tag", "old": "image name", "retagged": "image tag"}),
        (NEW, {"new": "image id", "retagged": "image id"}),
        (NEW[7:19], {"new": "image id", "retagged": "image id"}),
        (OLD, {"old": "image id"}),
        (DIGEST, {"new": "image digest", "retagged": "image digest"}),
        (f"{REPOSITORY}@{DIGEST}", {"new": "image digest", "retagged": "image digest"}),
        (f"other.example.com/shop@{DIGEST}", {}),
        ("nginx", {"plain": "image tag"}),
        ("docker.io/library/nginx:latest", {"plain": "image tag"}),
        (REPOSITORY, {}),
        (NEW[7:18], {}),
        ("sha256:", {}),
        ("", {}),
    ],
)
def test_what_matches_and_by_what(engine: FakeEngine, wanted: str, matched: dict[str, str]) -> None:
    images = Images(engine, [wanted])
    found = {name: images.matched(container) for name, container in containers(engine).items()}
    assert {name: how for name, how in found.items() if how} == matched


def test_the_surest_of_several_is_told(engine: FakeEngine) -> None:
    assert Images(engine, [TAG, OLD]).matched(containers(engine)["old"]) == "image id"


def test_some_may_be_excluded(engine: FakeEngine) -> None:
    images = Images(engine, [TAG], [OLD])
    assert images.excluded(containers(engine)["old"])
    assert not images.excluded(containers(engine)["new"])


def test_by_id_no_images_are_listed_and_else_once(engine: FakeEngine) -> None:
    calls = 0
    ask = engine.list_images

    def counting() -> list[dict[str, object]]:
        nonlocal calls
        calls += 1
        return ask()

    engine.list_images = counting  # type: ignore[method-assign]
    known = containers(engine)
    assert Images(engine, [NEW]).matched(known["new"])
    assert calls == 0
    images = Images(engine, [DIGEST])
    for container in known.values():
        images.matched(container)
    assert calls == 1
