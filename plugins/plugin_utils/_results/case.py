# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A case as it comes from a host that may be somebody else's by now."""

from __future__ import annotations

import pathlib
import re
import shutil
import tarfile

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.errors import AnswerError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")


def unpack(archive: pathlib.Path, directory: pathlib.Path) -> None:
    """Unpack an archive of plain files, as a case is, into a directory that exists. Raises AnswerError, OSError."""
    try:
        with tarfile.open(archive) as members:
            for member in members:
                name = member.name.removeprefix("./")
                if member.isdir() and name == ".":
                    continue
                content = members.extractfile(member) if member.isreg() and _NAME.fullmatch(name) else None
                if content is None:
                    raise AnswerError("an archive with more in it than plain files")
                with content, open(directory / name, "xb") as file:
                    shutil.copyfileobj(content, file)
    except (tarfile.TarError, EOFError, FileExistsError) as error:
        raise AnswerError("an archive that is none") from error
