# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The docker SDK for Python: loaded, or what is wrong with it said as such and not taken for a fault of the engine.

The SDK and the two libraries below it are packaged apart, and the versions that distributions ship together need not
work together. What then fails looks like an engine that does not answer: requests from 2.32 on knows no URLs of the SDK
before 7.1, and urllib3 from 2 on calls the SDK 5 with an argument that it does not take (both measured).
"""

from __future__ import annotations

import platform
import sys
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import SdkMissing, SdkUnusable

_REASON_LIMIT = 300
_REQUIREMENT = "docker>=7.1"
_FAULTS_OF_CODE = (AttributeError, ImportError, NameError, TypeError)


def load() -> tuple[t.Any, t.Any]:
    """The modules C(docker) and C(requests).

    Raises:
        SdkMissing: there is no SDK for this Python.
        SdkUnusable: there is one, and it cannot be imported.
    """
    try:
        import docker
    except ModuleNotFoundError as error:
        if error.name == "docker":
            raise SdkMissing(
                f"the docker SDK for Python is not installed for {_interpreter()} ({error})",
                remedy=f"Install the package python3-docker where that is the Python of the distribution, or {_pip()}",
            ) from error
        raise unusable(error) from error
    except Exception as error:  # what an import of other people's code ends in
        raise unusable(error) from error
    try:
        import requests

        # A directory of that name is a package, too.
        if not isinstance(docker.APIClient, type):
            raise TypeError("docker.APIClient is no class")
    except Exception as error:
        raise unusable(error) from error
    return docker, requests


def connect(docker: t.Any, docker_host: str, timeout: int) -> tuple[t.Any, t.Mapping[str, t.Any]]:
    """A client that speaks the newest API of the engine, and what the engine answered to C(GET /version) for that.

    Args:
        docker: the module.
        docker_host: URL of the socket.
        timeout: seconds that one call may take.

    Raises SdkUnusable, and what the SDK raises.
    """
    answers: list[t.Mapping[str, t.Any]] = []

    class Client(docker.APIClient):  # type: ignore[misc] # the SDK may be missing where this is checked and imported
        """Keeps what the SDK asks for by itself and forgets."""

        def version(self, api_version: bool = True) -> t.Any:
            answer = super().version(api_version)
            answers.append(answer)
            return answer

    try:
        client = Client(base_url=docker_host, timeout=timeout, version="auto")
    except _FAULTS_OF_CODE as error:
        raise unusable(error) from error
    return client, answers[0]


def is_at_fault(causes: t.Iterable[BaseException]) -> bool:
    """Whether an error and what led to it say that the SDK does not work: nothing that a server answers ends so."""
    return any(
        (isinstance(cause, _FAULTS_OF_CODE) and not isinstance(cause, TypeError))
        or (isinstance(cause, TypeError) and "unexpected keyword argument" in str(cause))
        or "URL scheme http+docker" in str(cause)
        for cause in causes
    )


def unusable(error: BaseException) -> SdkUnusable:
    """The error for an SDK that is there and does not work, by what it ended in."""
    reason = text.display(" ".join(str(error).split()), _REASON_LIMIT) or type(error).__name__
    return SdkUnusable(
        f"the docker SDK for Python that {_interpreter()} loads does not work: {reason} ({_versions()})",
        remedy="Before 7.1 the SDK needs requests before 2.32, before 6.1 urllib3 before 2, and before 6 Python before "
        f"3.12. Install a newer one: {_pip()}",
    )


def _interpreter() -> str:
    return sys.executable or "this Python"


def _pip() -> str:
    return (
        f"{sys.executable or 'python3'} -m pip install '{_REQUIREMENT}'; where pip must not change that Python, make a "
        "virtual environment, install it there, and let ansible_python_interpreter name its Python"
    )


def _versions() -> str:
    """The versions of all that takes part, as C(docker 5.0.3, requests 2.31.0, ...)."""
    return ", ".join([*map(_version, ("docker", "requests", "urllib3")), f"Python {platform.python_version()}"])


def _version(distribution: str) -> str:
    from importlib import metadata  # only trouble needs it, and it takes long to load

    try:
        return f"{distribution} {metadata.version(distribution)}"
    except metadata.PackageNotFoundError:
        return f"no {distribution}"
