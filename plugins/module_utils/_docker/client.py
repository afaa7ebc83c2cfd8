# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Docker Engine over the low-level client of the docker SDK.

The high-level client inspects containers one by one when it lists them and raises when one vanishes meanwhile (a list
of 300 took 239 ms instead of 14, measured), so it is not used.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import sys
import time
import typing as t
import urllib.parse

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker import sdk
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import (
    EVENTS,
    EndpointSettings,
    EngineVersion,
    EventStream,
    Pieces,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import (
    EngineError,
    EngineForbidden,
    EngineTimeout,
    EngineUnreachable,
    EngineUnsupported,
    NotFound,
    NotSupported,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.event_stream import DecodedEvents

DEFAULT_DOCKER_HOST = "unix:///var/run/docker.sock"
_EVENT_FILTERS = json.dumps(
    {"type": list(EVENTS), "event": sorted({action for actions in EVENTS.values() for action in actions})}
)
_ANSWER_LIMIT = 300
_PIECE = 64 * 1024
_FRAME_HEADER = 8
_PODMAN = "podman"
_NETWORK_SETTINGS = (
    *("Name", "Driver", "IPAM", "Internal", "Attachable"),
    *("EnableIPv4", "EnableIPv6", "Options", "Labels"),
)

# What runtimes say where freezing a container cannot work, whenever one tries. "unable to freeze" alone is none of it:
# runc says that after it tried in vain for a while, on a container that is busy.
_NO_FREEZER = re.compile(
    r"^(?!.*(busy|time[d ]?out|deadline|again|temporarily)).*("
    r"freezer( cgroup)?( \(v2\))? (is )?not supported"  # runc without cgroup.freeze; containerd without a freezer
    r"|no such directory for freezer|mountpoint for freezer not found"  # runc on cgroup v1, rootless among others
    r"|cannot toggle freezer|subsystem does not exist|cgroup manager is not configured"  # runc where it made no cgroup
    r"|without a cgroup"  # crun
    r"|cannot freeze"
    r"|(unable to|failed to|cannot) (freeze|pause).*"
    r"(permission denied|operation not permitted|read-only file system|no such file or directory)"
    r"|(not|n't) (supported|implemented)|unsupported|unimplemented"  # runsc, kata and others
    r")",
    re.IGNORECASE,
)


class DockerEngine:
    """An engine reached through the SDK. Safe to share between threads."""

    def __init__(self, docker_host: str = DEFAULT_DOCKER_HOST, timeout: int = 30) -> None:
        """Connect, and agree on an API version.

        Args:
            docker_host: URL of the socket: C(unix://...) or C(tcp://host:port).
            timeout: seconds that one call may take, 1 to 300.

        Raises:
            SdkMissing, SdkUnusable, EngineUnsupported, EngineUnreachable, EngineForbidden, EngineTimeout, EngineError.
        """
        self._docker, self._requests = sdk.load()
        self._docker_host = docker_host
        self._timeout = timeout
        with self._translated("connect to the engine"):
            self._client, version = sdk.connect(self._docker, docker_host, timeout)
        self._version = text.display(version.get("Version"), _ANSWER_LIMIT)
        podman = _podman_in(version)
        if podman:
            self.close()
            raise EngineUnsupported(
                f"what answers at {docker_host} is {podman} and no Docker Engine: it does not say which networks a "
                "container is really on, so that nothing that is done could be verified",
                remedy="Let docker_host name the socket of dockerd. Isolate containers of Podman with podman",
            )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def version(self) -> EngineVersion:
        return EngineVersion(engine=self._version, api=self._client.api_version)

    def live_restore(self) -> bool:
        with self._translated("ask for the settings of the engine"):
            return bool(self._client.info()["LiveRestoreEnabled"])

    def list_containers(self, container_id: str = "") -> list[dict[str, t.Any]]:
        filters: t.Any = {"id": container_id} if container_id else None
        with self._translated("list containers"):
            return t.cast("list[dict[str, t.Any]]", self._client.containers(all=True, filters=filters))

    def list_images(self) -> list[dict[str, t.Any]]:
        with self._translated("list images"):
            return t.cast("list[dict[str, t.Any]]", self._client.images())

    def events(self, since: int | None = None, silence: float = 60) -> EventStream:
        params = {"filters": _EVENT_FILTERS}
        if since is not None:
            params["since"] = "{}.{:09}".format(*divmod(since, 10**9))
        # The SDK's own call waits without end, for the answer and for each event, and tells no break from an end.
        with self._translated("follow events"):
            answer = self._client.get(
                f"{self._client.base_url}/v{self._client.api_version}/events",
                params=params,
                stream=True,
                timeout=self._timeout,
            )
            self._check(answer)
            connection = answer.raw.connection
            # A server that says it will close the connection has it handed over to the answer, with the timeout it has.
            if connection is not None and connection.sock is not None:
                connection.sock.settimeout(silence)
            return DecodedEvents(answer, self._pieces_of_events(answer), self._docker_host)

    def past_events(self) -> list[dict[str, t.Any]]:
        # The engine answers with what it remembers and no more where the end lies in the past (measured), which it does
        # once the engine reads it. A beginning of 0 is none.
        with self._translated("ask for past events"):
            answer = self._client.get(
                f"{self._client.base_url}/v{self._client.api_version}/events",
                params={"since": "1", "until": f"{time.time():.9f}", "filters": _EVENT_FILTERS},
                timeout=self._timeout,
            )
            self._check(answer)
        try:
            events = [json.loads(line) for line in answer.content.splitlines() if line.strip()]
            # The engine ignores filters that it does not know (measured).
            return [event for event in events if event["Action"] in EVENTS.get(event["Type"], ())]
        except (ValueError, TypeError, LookupError) as error:
            raise EngineError(
                f"what answers at {self._docker_host} does not tell events as a Docker engine does", status=200
            ) from error

    def _pieces_of_events(self, answer: t.Any) -> Pieces:
        with self._translated("follow events"):
            yield from answer.iter_content(_PIECE)

    def inspect_container(self, container_id: str) -> dict[str, t.Any]:
        with self._translated("inspect container", container_id):
            return t.cast("dict[str, t.Any]", self._client.inspect_container(container_id))

    def inspect_network(self, network_id: str) -> dict[str, t.Any]:
        with self._translated("inspect network", network_id):
            return t.cast("dict[str, t.Any]", self._client.inspect_network(network_id))

    def create_network(self, definition: t.Mapping[str, t.Any]) -> str:
        wanted = {name: definition[name] for name in _NETWORK_SETTINGS if definition.get(name) is not None}
        with self._translated("create network", network=str(definition["Name"])):
            url = f"{self._client.base_url}/v{self._client.api_version}/networks/create"
            answer = self._client.post(url, json=wanted, timeout=self._timeout)
            self._check(answer)
            return str(answer.json()["Id"])

    def create_container(self, name: str, definition: t.Mapping[str, t.Any]) -> str:
        with self._translated(f"create container {name}"):
            url = f"{self._client.base_url}/v{self._client.api_version}/containers/create"
            answer = self._client.post(url, params={"name": name}, json=definition, timeout=self._timeout)
            self._check(answer)
            return str(answer.json()["Id"])

    def remove_container(self, container_id: str) -> None:
        with self._translated("remove container", container_id):
            self._client.remove_container(container_id, v=True, force=True)

    def pause(self, container_id: str) -> None:
        with self._translated("pause container", container_id, impossible=_NO_FREEZER):
            self._client.pause(container_id)

    def unpause(self, container_id: str) -> None:
        with self._translated("unpause container", container_id):
            self._client.unpause(container_id)

    def stop(self, container_id: str, grace: int) -> None:
        with self._translated("stop container", container_id):
            self._client.stop(container_id, timeout=grace)

    def kill(self, container_id: str) -> None:
        with self._translated("kill container", container_id):
            self._client.kill(container_id)

    def start(self, container_id: str) -> None:
        with self._translated("start container", container_id):
            self._client.start(container_id)

    def set_restart_policy(self, container_id: str, name: str, maximum_retry_count: int) -> None:
        with self._translated("set the restart policy of container", container_id):
            policy: t.Any = {"Name": name, "MaximumRetryCount": maximum_retry_count}
            self._client.update_container(container_id, restart_policy=policy)

    def disconnect(self, network_id: str, container_id: str) -> None:
        with self._translated("disconnect container", container_id, network_id):
            _check_named(container_id, network_id)
            self._client.disconnect_container_from_network(container_id, network_id)

    def connect(self, network_id: str, container_id: str, settings: EndpointSettings) -> None:
        with self._translated("connect container", container_id, network_id):
            _check_named(container_id, network_id)
            # The SDK's own call knows no GwPriority, and its older versions no MacAddress.
            answer = self._client.post(
                "{}/v{}/networks/{}/connect".format(
                    self._client.base_url, self._client.api_version, urllib.parse.quote(network_id, safe="")
                ),
                json={"Container": container_id, "EndpointConfig": _endpoint_config(settings)},
                timeout=self._timeout,
            )
            self._check(answer)

    def top(self, container_id: str) -> Pieces:
        return self._read("list the processes of container", container_id, "top")

    def stats(self, container_id: str) -> Pieces:
        return self._read("read the statistics of container", container_id, "stats", stream="0")

    def changed_files(self, container_id: str) -> Pieces:
        return self._read("list the changed files of container", container_id, "changes")

    def logs(self, container_id: str, tail: int) -> Pieces:
        has_terminal = self.inspect_container(container_id)["Config"]["Tty"]
        wanted = {"stdout": "1", "stderr": "1", "timestamps": "1", "tail": str(tail)}
        with contextlib.closing(self._read("read the logs of container", container_id, "logs", **wanted)) as pieces:
            # With a terminal there is one stream, without one there are frames of two, of which only newer engines say
            # so in a header.
            yield from pieces if has_terminal else self._without_frames(pieces)

    def archive(self, container_id: str, path: str) -> Pieces:
        return self._read("archive a path of container", container_id, "archive", path=path)

    def export(self, container_id: str) -> Pieces:
        return self._read("export container", container_id, "export")

    def _read(self, doing: str, container_id: str, what: str, **params: str) -> Pieces:
        """What the engine has of a container, in pieces. The SDK reads logs without any timeout, and JSON whole."""
        with self._translated(doing, container_id):
            url = "{}/v{}/containers/{}/{}".format(
                self._client.base_url, self._client.api_version, urllib.parse.quote(container_id, safe=""), what
            )
            # Compressed, an archive would cost the host more time than the socket saves.
            headers = {"Accept-Encoding": "identity"}
            with self._client.get(url, params=params, headers=headers, stream=True, timeout=self._timeout) as answer:
                self._check(answer)
                yield from answer.iter_content(_PIECE)

    def _without_frames(self, pieces: Pieces) -> Pieces:
        """The content of the frames in which the engine sends stdout and stderr: 4 bytes, the length, and so much."""
        header, left = b"", 0
        for piece in pieces:
            rest, content = memoryview(piece), []
            while rest:
                if left:
                    content.append(rest[:left])
                    rest, left = rest[left:], max(left - len(rest), 0)
                else:
                    missing = _FRAME_HEADER - len(header)
                    header, rest = header + bytes(rest[:missing]), rest[missing:]
                    if len(header) == _FRAME_HEADER:
                        header, left = b"", int.from_bytes(header[4:], "big")
            yield b"".join(content)
        if header or left:
            raise EngineUnreachable(f"the Docker engine at {self._docker_host} broke off in the middle of the logs")

    def _check(self, answer: t.Any) -> None:
        """Raise what the SDK raises where the answer is an error."""
        try:
            answer.raise_for_status()
        except self._requests.exceptions.HTTPError as error:
            self._docker.errors.create_api_error_from_http_exception(error)

    @contextlib.contextmanager
    def _translated(
        self, doing: str, subject: str = "", network: str = "", impossible: re.Pattern[str] | None = None
    ) -> t.Iterator[None]:
        """Raise errors of ours for those of the SDK.

        Args:
            doing: what is done, to be said after "cannot".
            subject: the container it is done to, or nothing.
            network: the network, likewise.
            impossible: texts of faults (500) that tell that this engine can never do it.
        """
        what = " ".join(part for part in (doing, subject[:12], f"(network {network[:12]})" if network else "") if part)
        # What the caller handles right now becomes part of the context of a new error, and is not its cause.
        handled = sys.exc_info()[1]
        try:
            yield
        except (
            # ValueError: of an answer that is no JSON, before requests 2.27, and of an API whose version is none.
            *(self._docker.errors.DockerException, self._requests.exceptions.RequestException),
            *(OSError, ValueError),
        ) as error:
            causes = list(_causes(error, handled))
            # While it connects, the SDK wraps the engine's answer like any other cause.
            answer = next((cause for cause in causes if isinstance(cause, self._docker.errors.APIError)), None)
            raise (self._broken(what, causes) if answer is None else self._refused(what, answer, impossible)) from error

    def _refused(self, what: str, error: t.Any, impossible: re.Pattern[str] | None) -> EngineError:
        """The error that an answer stands for. The engine answers in JSON, a proxy in front of it in HTML or text."""
        status = int(error.status_code)
        answer = text.display(" ".join(str(error.explanation or error).split()), _ANSWER_LIMIT)
        if not _is_engines_own(error.response):
            if status in (401, 403, 405):
                return EngineForbidden(
                    f"cannot {what}: the proxy in front of {self._docker_host} refuses the call ({status})",
                    status=status,
                    remedy="Let the calls through that the documentation lists",
                )
            return EngineUnreachable(
                f"cannot {what}: no Docker engine answers at {self._docker_host}, but something else does"
                f" ({status}: {answer})",
                status=status,
                remedy="Check that docker_host names the engine or its proxy, and that the engine behind it runs",
            )
        if status == 404:
            return NotFound(f"cannot {what}: {answer}", status=status)
        # What proxies of HTTP mean by 501, the engine means, too: not now, and not later.
        if status == 501 or (status == 500 and impossible is not None and impossible.search(answer)):
            return NotSupported(f"cannot {what}: {answer}", status=status)
        return EngineError(f"cannot {what}: {answer}", status=status)

    def _broken(self, what: str, causes: list[BaseException]) -> EngineError:
        """The error that says why no answer came. The SDK hides the cause behind texts and wrappers."""
        if sdk.is_at_fault(causes):
            return sdk.unusable(causes[-1])
        where = f"the Docker engine at {self._docker_host}"
        if any(isinstance(cause, PermissionError) for cause in causes):
            return EngineForbidden(
                f"cannot {what}: this user may not use {where}",
                remedy="Run as root (become), or as a member of the group that owns the socket",
            )
        # Before Python 3.10 a timeout of a socket has a class of its own.
        timeouts = (self._requests.exceptions.Timeout, TimeoutError, socket.timeout)
        if any(isinstance(cause, timeouts) for cause in causes):
            return EngineTimeout(
                f"cannot {what}: {where} did not answer within {self._timeout} s",
                remedy="It may still do what it was asked: read back before you trust either. "
                "If this goes on, dockerd is frozen or overloaded",
            )
        reason = text.display(" ".join(str(causes[-1]).split()), _ANSWER_LIMIT) or type(causes[-1]).__name__
        if any(isinstance(cause, (FileNotFoundError, ConnectionRefusedError)) for cause in causes):
            return EngineUnreachable(
                f"cannot {what}: {where} does not run ({reason})",
                remedy="Start dockerd, or let docker_host name its socket. Its containers run on meanwhile",
            )
        garbled = (ValueError, LookupError, TypeError, http.client.BadStatusLine)
        # RemoteDisconnected is a BadStatusLine too, of a peer that said nothing at all; and what requests says of
        # addresses is a ValueError.
        others = (http.client.RemoteDisconnected, self._requests.exceptions.InvalidURL)
        if any(isinstance(cause, garbled) and not isinstance(cause, others) for cause in causes):
            return EngineUnreachable(
                f"cannot {what}: what answers at {self._docker_host} does not speak as a Docker engine does ({reason})",
                remedy="Check that docker_host names the socket of dockerd",
            )
        if any(isinstance(cause, (self._requests.exceptions.RequestException, OSError)) for cause in causes):
            return EngineUnreachable(
                f"cannot {what}: {where} broke the connection off, or cannot be reached ({reason})",
                remedy="It may have done what it was asked: read back before you trust either. "
                "Check that dockerd runs; its containers run on meanwhile",
            )
        return EngineError(f"cannot {what} at {self._docker_host}: {reason}")


def _endpoint_config(settings: EndpointSettings) -> dict[str, t.Any]:
    """The settings as the API takes them; what is not asked for is left out."""
    ipam = {
        "IPv4Address": settings.ipv4_address,
        "IPv6Address": settings.ipv6_address,
        "LinkLocalIPs": list(settings.link_local_ips),
    }
    config = {
        "IPAMConfig": {name: value for name, value in ipam.items() if value},
        "Aliases": list(settings.aliases),
        "Links": list(settings.links),
        "DriverOpts": dict(settings.driver_opts),
        "MacAddress": settings.mac_address,
        "GwPriority": settings.gw_priority,
    }
    return {name: value for name, value in config.items() if value}


def _check_named(container: str, network: str) -> None:
    # With an empty name the URL is another one, and the engine's answer to that is 404, as if the network were gone.
    if not (container and network):
        raise EngineError(f"container {container!r} or network {network!r} is not named")


def _is_engines_own(response: t.Any) -> bool:
    try:
        return "message" in response.json()
    except (ValueError, TypeError, AttributeError):
        return False


def _causes(error: BaseException, handled: BaseException | None) -> t.Iterator[BaseException]:
    """The exception and all that led to it, outermost first: by cause, by context, and wrapped as an argument.

    Args:
        error: the exception.
        handled: what was being handled when the call began, which led to nothing.
    """
    seen = {id(handled)}
    pending: list[BaseException] = [error]
    while pending:
        current = pending.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        if not isinstance(current, StopIteration):  # the JSON decoder ends with one, which explains nothing
            yield current
        pending += [cause for cause in (current.__cause__, current.__context__) if cause is not None]
        pending += [argument for argument in current.args if isinstance(argument, BaseException)]


def _podman_in(version: t.Mapping[str, t.Any]) -> str:
    """What Podman calls itself in its answer to C(GET /version), or empty where another engine answered."""
    components = version.get("Components")
    for component in components if isinstance(components, list) else ():
        name = component.get("Name") if isinstance(component, dict) else None
        if isinstance(name, str) and name.lower().startswith(_PODMAN):
            return text.display(f"{name} {version.get('Version')}", _ANSWER_LIMIT)
    return ""
