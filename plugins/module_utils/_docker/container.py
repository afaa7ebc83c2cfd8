# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A container as policies and people see it."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import parse_timestamp


@dataclasses.dataclass(frozen=True)
class Container:
    """One container of a host.

    Attributes:
        id: 64 hexadecimal digits.
        name: without the leading slash.
        images: the references it is known by. When a tag moved, the list shows a digest while the configuration keeps
            the tag (measured), so there may be two.
        labels: key to value.
        created: when it was created, or None where the engine does not say.
        started: when it was started last, likewise.
        image_id: of the image that it is made of, C(sha256:) and 64 digits, whatever its tags name by now; or empty.
    """

    id: str
    name: str
    images: tuple[str, ...] = ()
    labels: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    created: datetime.datetime | None = None
    started: datetime.datetime | None = None
    image_id: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.id[:12]})"

    def to_dict(self) -> dict[str, t.Any]:
        """The container as modules return it."""
        return {"id": self.id, "name": self.name, "image": self.images[0] if self.images else ""}

    @classmethod
    def from_inspect(cls, found: dict[str, t.Any], listed_image: str = "") -> Container:
        """The container in an answer of C(GET /containers/{id}/json)."""
        config = found.get("Config") or {}
        return cls(
            id=found["Id"],
            name=found["Name"].lstrip("/"),
            images=tuple(dict.fromkeys(image for image in (config.get("Image"), listed_image) if image)),
            labels=config.get("Labels") or {},
            created=parse_timestamp(found.get("Created")),
            started=parse_timestamp((found.get("State") or {}).get("StartedAt")),
            image_id=found.get("Image") or "",
        )


def name_of(summary: dict[str, t.Any]) -> str:
    """The name in an entry of the container list. Legacy links appear among the names as C(/other/alias)."""
    names = [name[1:] for name in summary.get("Names") or () if name.startswith("/")]
    return next((name for name in names if "/" not in name), names[0] if names else "")
