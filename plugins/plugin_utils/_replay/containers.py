# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is known of the containers that alerts name."""

from __future__ import annotations

import json
import pathlib
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import ContainerRef
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.container import Container
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import lacks_tag
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._replay.errors import ReplayError

MAX_FILE_SIZE = 256 * 1024 * 1024
"""Largest containers file, in bytes."""
ALL_FIELDS = frozenset(("container_names", "image_patterns", "labels"))
"""What policies can ask of a container, by the keys of their target filter."""
TAG = "image_tag"
"""What is not known where an alert tells the repository of an image only."""
_ID_LENGTH = 12


class Known(t.NamedTuple):
    """A container, as far as it is known.

    Attributes:
        container: what is known is right, what is not is empty.
        unknown: what is not known, of ALL_FIELDS and TAG.
    """

    container: Container
    unknown: frozenset[str] = frozenset()


class Containers:
    """Finds the containers that alerts name among those of a file, which may be none."""

    def __init__(self, containers: t.Iterable[Container] = ()) -> None:
        self._by_id: dict[str, list[Container]] = {}
        self._by_name: dict[str, list[Container]] = {}
        for container in containers:
            self._by_id.setdefault(container.id[:_ID_LENGTH], []).append(container)
            self._by_name.setdefault(container.name, []).append(container)

    @classmethod
    def from_file(cls, path: pathlib.Path) -> Containers:
        """The containers of a JSON list or of JSON lines.

        Each is an object as C(docker inspect) prints it, or one with C(id), C(name), C(image) and C(labels).

        Raises:
            ReplayError: C(containers_missing) where the file cannot be read, C(containers_invalid) where it does not
                hold containers.
        """
        try:
            with path.open("rb") as file:
                data = file.read(MAX_FILE_SIZE + 1)
        except OSError as error:
            raise ReplayError(
                f"the containers file {path} cannot be read: {error.strerror}",
                kind="containers_missing",
                remedy="Make one with: docker inspect $(docker ps --all --quiet) > containers.json",
            ) from error
        if len(data) > MAX_FILE_SIZE:
            raise _invalid(path, f"is larger than {MAX_FILE_SIZE // 1024 // 1024} MB")
        try:
            entries = _entries(data)
        except (ValueError, RecursionError) as error:
            raise _invalid(path, f"is neither a JSON list nor JSON lines ({error})") from error
        containers = []
        for number, entry in enumerate(entries, start=1):
            container = _container(entry)
            if container is None:
                raise _invalid(path, f"holds something else than a container at number {number}")
            containers.append(container)
        return cls(containers)

    def find(self, reference: ContainerRef) -> Known:
        """The container that an alert names, from the file, or else as the alert describes it.

        Where an alert and the file do not agree on exactly one container, only the alert is believed.
        """
        given_id = reference.id
        if given_id:
            candidates = [
                container
                for container in self._by_id.get(given_id[:_ID_LENGTH], ())
                if container.id.startswith(given_id) or given_id.startswith(container.id)
            ]
        else:
            candidates = self._by_name.get(reference.name, []) if reference.name else []
        if len(candidates) == 1:
            return Known(candidates[0])
        # Falco writes <NA> for what it could not find out.
        image = "" if reference.image.startswith("<NA>") else reference.image.removesuffix(":<NA>")
        unknown = _UNKNOWN[bool(reference.name), bool(image)]
        if image and lacks_tag(image):
            unknown = _WITHOUT_TAG[unknown]
        return Known(Container(given_id, reference.name, (image,) if image else ()), unknown)


_UNKNOWN = {
    (True, True): frozenset(("labels",)),
    (True, False): frozenset(("image_patterns", "labels")),
    (False, True): frozenset(("container_names", "labels")),
    (False, False): ALL_FIELDS,
}
_WITHOUT_TAG = {unknown: unknown | {TAG} for unknown in _UNKNOWN.values()}


def _entries(data: bytes) -> list[t.Any]:
    content = data.decode("utf-8-sig")
    try:
        whole = json.loads(content)
    except json.JSONDecodeError:
        return [json.loads(line) for line in content.split("\n") if line.strip()]
    return whole if isinstance(whole, list) else [whole]


def _container(entry: t.Any) -> Container | None:
    """The container in an entry of the file, or None where it is none."""
    if isinstance(entry, dict) and "Config" in entry:
        try:
            found = Container.from_inspect(entry)
        except (KeyError, TypeError, AttributeError):
            return None
        entry = {"id": found.id, "name": found.name, "image": next(iter(found.images), ""), "labels": found.labels}
    if not isinstance(entry, dict):
        return None
    given_id, name = text.container_id(entry.get("id")), text.container_name(entry.get("name"))
    image, labels = entry.get("image") or "", entry.get("labels") or {}
    if not (given_id and name and isinstance(image, str) and isinstance(labels, dict)):
        return None
    if not all(isinstance(part, str) for label in labels.items() for part in label):
        return None
    return Container(given_id, name, (image,) if image else (), labels)


def _invalid(path: pathlib.Path, what: str) -> ReplayError:
    return ReplayError(
        f"the containers file {path} {what}",
        kind="containers_invalid",
        remedy="It holds the output of docker inspect, or objects with id, name, image and labels",
    )
