# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Builds the image of a test host with debootstrap, as there is no registry to pull it from."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import typing as t

import docker

from ansible_collections.ironpost.container_guard.tests.testbed.errors import TestbedError
from ansible_collections.ironpost.container_guard.tests.testbed.recipe import (
    COMMAND,
    EXCLUDED,
    MIRROR,
    PACKAGES,
    REPOSITORY,
    Recipe,
)

# The unpacked system, its packages beside it, and the image made of both.
NEEDED_BYTES = 2_000_000_000
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
LOG_LINES = 15


def is_built(api: docker.APIClient, recipe: Recipe) -> bool:
    """Whether the engine of this machine has the image."""
    try:
        api.inspect_image(recipe.image)
    except docker.errors.ImageNotFound:
        return False
    return True


def build(api: docker.APIClient, recipe: Recipe) -> None:
    """Build the image. Raises TestbedError, DockerException."""
    program = shutil.which("debootstrap", path=PATH)
    if program is None or not pathlib.Path(KEYRING).exists():
        raise TestbedError(
            "debootstrap or the keys of the Debian archive are missing; run: tools/setup.sh testbed"
            " (or: apt-get install debootstrap debian-archive-keyring)"
        )
    # Not /tmp, which may be in memory, or mounted so that no program runs there.
    parent = "/var/tmp"
    for path in (parent, api.info()["DockerRootDir"]):
        _check_space(path)
    # chroot, mknod and the owners of files need root.
    as_root = [] if os.geteuid() == 0 else ["sudo"]
    directory = pathlib.Path(tempfile.mkdtemp(prefix="container-guard-testbed-", dir=parent))
    try:
        root, log = directory / "root", directory / "log"
        command = [program, "--variant=minbase", f"--keyring={KEYRING}", f"--include={','.join(PACKAGES)}"]
        with log.open("wb") as file:
            done = subprocess.run(
                [*as_root, "env", f"PATH={PATH}", *command, recipe.suite, str(root), MIRROR],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        if done.returncode:
            said = log.read_text(errors="replace")
            # Of what went wrong in the new system, debootstrap itself says only where to read about it.
            if "debootstrap.log" in said:
                said += (root / "debootstrap/debootstrap.log").read_text(errors="replace")
            raise TestbedError(
                f"debootstrap could not build Debian {recipe.suite} from {MIRROR} (is it reachable?):\n" + _end_of(said)
            )
        _import(api, recipe, [*as_root, "tar", "-C", str(root), *(f"--exclude={path}" for path in EXCLUDED), "-c", "."])
    finally:
        subprocess.run([*as_root, "rm", "-rf", "--one-file-system", str(directory)], check=False)


def remove_all(api: docker.APIClient) -> list[str]:
    """Remove the images of all recipes, also of former ones, and return their names."""
    tags = [tag for image in api.images() for tag in image["RepoTags"] or () if tag.startswith(f"{REPOSITORY}-")]
    for tag in tags:
        api.remove_image(tag)
    return tags


def _check_space(path: str) -> None:
    try:
        free = shutil.disk_usage(path).free
    except OSError:  # the directory of the engine may be closed to this user; the import will say it then
        return
    if free < NEEDED_BYTES:
        raise TestbedError(
            f"{path} has {free // 10**6} MB left and a test host needs {NEEDED_BYTES // 10**6} MB to be built;"
            " make room, for example with: docker system prune"
        )


def _import(api: docker.APIClient, recipe: Recipe, tar: list[str]) -> None:
    with subprocess.Popen(tar, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        changes: t.Any = [f"CMD {json.dumps(COMMAND)}"]
        answer = api.import_image_from_stream(process.stdout, changes=changes)
        complaint = process.stderr.read().decode(errors="replace") if process.stderr else ""
    last = json.loads(answer.splitlines()[-1])
    # Tagged only now: a system of which tar could not read everything is none.
    if process.returncode or "error" in last:
        raise TestbedError(
            f"the image of Debian {recipe.suite} cannot be imported: {last.get('error') or _end_of(complaint)}"
        )
    api.tag(last["status"], *recipe.image.split(":"))


def _end_of(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines()[-LOG_LINES:])
