# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The image of a test host, imported into the engine of this machine."""

from __future__ import annotations

import json
import subprocess
import typing as t

import docker

from ansible_collections.ironpost.container_guard.tests.testbed import debian
from ansible_collections.ironpost.container_guard.tests.testbed.errors import TestbedError
from ansible_collections.ironpost.container_guard.tests.testbed.recipe import COMMAND, EXCLUDED, REPOSITORY


def is_built(api: docker.APIClient, name: str) -> bool:
    """Whether the engine of this machine has the image."""
    try:
        api.inspect_image(name)
    except docker.errors.ImageNotFound:
        return False
    return True


def build(api: docker.APIClient, name: str, suite: str, packages: t.Sequence[str]) -> None:
    """Build the image of that name from a release of Debian. Raises TestbedError, DockerException."""
    debian.check_space(api.info()["DockerRootDir"])
    with debian.unpacked(suite, packages) as root:
        excluded = [f"--exclude={path}" for path in EXCLUDED]
        _import(api, name, [*debian.AS_ROOT, "tar", "-C", str(root), *excluded, "-c", "."])


def remove_all(api: docker.APIClient) -> list[str]:
    """Remove the images of all recipes, also of former ones, and return their names."""
    tags = [tag for image in api.images() for tag in image["RepoTags"] or () if tag.startswith(f"{REPOSITORY}-")]
    for tag in tags:
        api.remove_image(tag)
    return tags


def _import(api: docker.APIClient, name: str, tar: list[str]) -> None:
    with subprocess.Popen(tar, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        changes: t.Any = [f"CMD {json.dumps(COMMAND)}"]
        answer = api.import_image_from_stream(process.stdout, changes=changes)
        complaint = process.stderr.read().decode(errors="replace") if process.stderr else ""
    last = json.loads(answer.splitlines()[-1])
    # Tagged only now: a system of which tar could not read everything is none.
    if process.returncode or "error" in last:
        raise TestbedError(f"{name} cannot be imported: {last.get('error') or debian.end_of(complaint)}")
    repository, _colon, tag = name.partition(":")
    api.tag(last["status"], repository, tag)
