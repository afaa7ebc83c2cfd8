# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which containers are of an image.

A container keeps the name under which its image was asked for, and that may be the name of another image by now: tags
move. What it is made of is the id of its image, and what registries know it by are its digests.
"""

from __future__ import annotations

import functools
import re
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.container import Container
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import image_forms

BY_ID, BY_DIGEST, BY_TAG, BY_NAME = "image id", "image digest", "image tag", "image name"
_ID = re.compile(r"(?:sha256:)?([0-9a-f]{12,64})")


class Images:
    """Images that are meant, by id, digest or reference. They are listed once, and only where that is needed.

    Args:
        engine: knows the images.
        wanted: each an id (12 digits or more), a digest (with or without its repository) or a reference such as
            C(shop:4.2); empty for any image.
        excluded: likewise, of images that are not meant.
    """

    def __init__(self, engine: Engine, wanted: t.Sequence[str] = (), excluded: t.Sequence[str] = ()) -> None:
        self._engine = engine
        self._excluded = excluded
        self.wanted = wanted

    def matched(self, container: Container) -> str:
        """By what its image is one that is wanted, or empty. Raises EngineError.

        C(image id), C(image digest); C(image tag): the image has that tag now; C(image name): the container was made by
        that name, which is another image by now.
        """
        return self._of(container, self.wanted)

    def excluded(self, container: Container) -> bool:
        """Whether its image is one that is not meant. Raises EngineError."""
        return bool(self._of(container, self._excluded))

    def _of(self, container: Container, references: t.Sequence[str]) -> str:
        found = [self._how(container, reference.strip()) for reference in references]
        return next((how for how in (BY_ID, BY_DIGEST, BY_TAG, BY_NAME) if how in found), "")

    def _how(self, container: Container, wanted: str) -> str:
        digits = _ID.fullmatch(wanted)
        if digits and container.image_id.startswith(f"sha256:{digits[1]}"):
            return BY_ID
        tags, digests = self._listed.get(container.image_id, ((), ()))
        if any(wanted in (digest, digest.rpartition("@")[2]) for digest in digests):
            return BY_DIGEST
        forms = set(image_forms([wanted]))
        if not forms.isdisjoint(image_forms(tags)):
            return BY_TAG
        return BY_NAME if not forms.isdisjoint(image_forms(container.images)) else ""

    @functools.cached_property
    def _listed(self) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
        """Tags and digests of each image, by its id."""
        return {
            image["Id"]: (tuple(image.get("RepoTags") or ()), tuple(image.get("RepoDigests") or ()))
            for image in self._engine.list_images()
        }
