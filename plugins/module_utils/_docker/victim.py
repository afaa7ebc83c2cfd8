# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Victims: containers that do nothing, made to be isolated in a drill, and removed after it.

Only containers that were made here are ever removed here: by their label, and by what they are called.
"""

from __future__ import annotations

import contextlib
import datetime
import typing as t
import uuid

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.container import Container, name_of
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError, NotFound
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError

LABEL, VALUE = "container-guard.drill", "true"
PREFIX = "container-guard-drill-"
MAX_LIFETIME = 3600
"""Seconds that a victim may run at most. One that is older was forgotten by a drill that was cut short."""
MOST_TRIED = 10
"""How many images are tried where none is named."""
_NO_TAG = "<none>:<none>"


class VictimError(GuardError):
    """There is no victim.

    Kinds: C(no_victim); C(not_a_victim) of a container that was not made here, and is left alone.
    """

    default_kind = "no_victim"


class Victims:
    """Makes and removes them on one host. Every method raises EngineError.

    Args:
        engine: of the host.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def make(self, image: str, lifetime: int) -> Container:
        """A container that sleeps, and runs.

        It has no rights, a file system that it cannot write, publishes nothing and is on the default network.

        Args:
            image: that the host has, and in which there is C(sleep). Without it, those that the host has are tried, the
                smallest first.
            lifetime: seconds until it ends by itself.

        Raises:
            VictimError: no image could be run. Nothing is left of what was tried.
        """
        images = [image] if image else self.images()
        if not images:
            raise VictimError(
                "this host has no image with a tag, and nothing is pulled", remedy="Name one that it has, or pull one"
            )
        failures = []
        for candidate in images[:MOST_TRIED]:
            try:
                return self._run(candidate, lifetime)
            except NotFound as error:
                failures.append(f"{candidate}: {error.message}")
            except EngineError as error:
                if not error.status:  # the engine did not answer, so the next one would not do either
                    raise
                failures.append(f"{candidate}: {error.message}")
        raise VictimError(
            f"no victim can be run here: {'; '.join(failures)}",
            remedy="Name an image that the host has, and in which there is a program called sleep",
        )

    def images(self) -> list[str]:
        """A tag of each image of the host, of the smallest one first."""
        tagged = [
            (image.get("Size") or 0, sorted(tag for tag in image.get("RepoTags") or () if tag != _NO_TAG))
            for image in self._engine.list_images()
        ]
        return [tags[0] for _size, tags in sorted(tagged) if tags]

    def remove(self, container_id: str) -> bool:
        """Remove one by its full id; whether it was there. Raises VictimError where it was not made here."""
        try:
            found = self._engine.inspect_container(container_id)
        except NotFound:
            return False
        labels = (found.get("Config") or {}).get("Labels") or {}
        if found["Id"] != container_id or not _is_victim(found["Name"].lstrip("/"), labels):
            raise VictimError(
                f"container {container_id[:12]} was not made for a drill",
                kind="not_a_victim",
                remedy="It is left alone",
            )
        with contextlib.suppress(NotFound):
            self._engine.remove_container(container_id)
        return True

    def remove_forgotten(self, now: datetime.datetime) -> list[str]:
        """Remove those that are older than a victim can be; their names."""
        latest = now.timestamp() - MAX_LIFETIME
        forgotten = [
            entry
            for entry in self._engine.list_containers()
            if _is_victim(name_of(entry), entry.get("Labels") or {}) and entry.get("Created", latest) < latest
        ]
        return [name_of(entry) for entry in forgotten if self.remove(entry["Id"])]

    def _run(self, image: str, lifetime: int) -> Container:
        name = f"{PREFIX}{uuid.uuid4().hex[:12]}"
        container_id = self._engine.create_container(name, _definition(image, lifetime))
        try:
            self._engine.start(container_id)
            return Container.from_inspect(self._engine.inspect_container(container_id))
        except EngineError:
            with contextlib.suppress(EngineError):
                self._engine.remove_container(container_id)
            raise


def _is_victim(name: str, labels: t.Mapping[str, str]) -> bool:
    return name.startswith(PREFIX) and labels.get(LABEL) == VALUE


def _definition(image: str, lifetime: int) -> dict[str, t.Any]:
    return {
        "Image": image,
        "Entrypoint": ["sleep"],
        "Cmd": [str(lifetime)],
        "User": "65534:65534",
        "WorkingDir": "/",
        "Labels": {LABEL: VALUE},
        "Healthcheck": {"Test": ["NONE"]},
        "StopSignal": "SIGKILL",
        "HostConfig": {
            "NetworkMode": "default",
            "RestartPolicy": {"Name": "no"},
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "Memory": 32 << 20,
            "PidsLimit": 16,
            "LogConfig": {"Type": "none"},
        },
    }
