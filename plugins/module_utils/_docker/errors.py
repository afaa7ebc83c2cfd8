# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of the Docker Engine, by what one can do about them."""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError


class EngineError(GuardError):
    """The engine answered with an error.

    Attributes:
        status: the HTTP status that the engine answered with, or None where it did not answer.
    """

    default_kind = "engine_error"

    def __init__(self, message: str, *, status: int | None = None, **options: t.Any) -> None:
        super().__init__(message, **options)
        self.status = status


class EngineUnreachable(EngineError):
    """No engine answers: the socket is missing, refuses, or broke off. Containers run on meanwhile."""

    default_kind = "engine_unreachable"


class EngineForbidden(EngineError):
    """The socket is there and this user must not use it, or a socket proxy refuses the call."""

    default_kind = "engine_forbidden"


class EngineTimeout(EngineError):
    """The engine did not answer in time. It may still do what it was asked (measured), so read back."""

    default_kind = "engine_timeout"


class NotFound(EngineError):
    """No such container or network."""

    default_kind = "not_found"


class NotSupported(EngineError):
    """This engine cannot do that, today or later, such as freeze a container where there is no freezer.

    Another way has to be taken, and the state read back before: what is said of a freezer that is not there may mean a
    container that ended meanwhile.
    """

    default_kind = "not_supported"


class EngineUnsupported(EngineError):
    """What answers as a Docker Engine is known to be none, and to answer what is not so. Nothing was asked of it."""

    default_kind = "engine_unsupported"


class SdkMissing(EngineError):
    """There is no docker SDK for the Python that runs this."""

    default_kind = "sdk_missing"


class SdkUnusable(EngineError):
    """There is a docker SDK for the Python that runs this, and it does not work with what else is installed."""

    default_kind = "sdk_unusable"
