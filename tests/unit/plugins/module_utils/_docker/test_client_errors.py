# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The real client against sockets that are not, or do not behave like, a Docker engine. Real sockets, no mocks."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import pathlib
import socket
import sys
import tempfile
import threading
import types
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.client import DockerEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import (
    EngineError,
    EngineForbidden,
    EngineTimeout,
    EngineUnreachable,
    EngineUnsupported,
    NotFound,
    NotSupported,
    SdkMissing,
    SdkUnusable,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.retry import is_transient

# The SDK leaves its socket to the garbage collector when it cannot connect (see collected).
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

CONTAINER, NETWORK = "c" * 64, "a" * 64
NOBODY = 65534
VERSION = {"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12"}
HAPROXY_403 = "<html><body><h1>403 Forbidden</h1>\nRequest forbidden by administrative rules.\n</body></html>\n"
NGINX_405 = "<html>\r\n<head><title>405 Not Allowed</title></head>\r\n<body>nginx</body>\r\n</html>\r\n"

Respond = t.Callable[[bytes], bytes | None]
"""Answer to a request; None for none at all, while the connection stays open."""


def answer(status: str, body: object, content_type: str = "application/json", length: int | None = None) -> bytes:
    """An HTTP answer. A length greater than that of the body makes one that is cut off."""
    content = body if isinstance(body, str) else json.dumps(body)
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(content) if length is None else length}\r\nConnection: close\r\n\r\n{content}"
    ).encode()


def html(status: str, body: str) -> bytes:
    return answer(status, body, "text/html")


class Server:
    """Answers every request on a Unix socket by a function, in threads of its own, until it is closed."""

    def __init__(self, path: pathlib.Path, respond: Respond) -> None:
        self.respond = respond
        self.stalls = False  # whether it keeps the connection open after an answer
        self.url = f"unix://{path}"
        self._closing = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        self._closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._listener.close()
        for thread in self._threads:
            thread.join(timeout=5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            request = connection.recv(65536)
            reply = self.respond(request) if request else b""
            if reply is None:
                self._closing.wait(timeout=30)
            else:
                with contextlib.suppress(OSError):
                    connection.sendall(reply)
                if self.stalls:
                    self._closing.wait(timeout=30)


@pytest.fixture(autouse=True)
def collected() -> t.Iterator[None]:
    """Collect what the SDK left while its warnings are ignored, not in the middle of another test."""
    yield
    gc.collect()


@pytest.fixture
def directory() -> t.Iterator[pathlib.Path]:
    """A short path, as that of a socket has at most 107 characters, that other users may enter."""
    with tempfile.TemporaryDirectory(prefix="cg-") as path:
        os.chmod(path, 0o755)  # noqa: S103 - empty but for the socket
        yield pathlib.Path(path)


@pytest.fixture
def serve(directory: pathlib.Path) -> t.Iterator[t.Callable[[Respond], Server]]:
    with contextlib.ExitStack() as stack:

        def start(respond: Respond) -> Server:
            server = Server(directory / "docker.sock", respond)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture
def engine_that(serve: t.Callable[[Respond], Server]) -> t.Iterator[t.Callable[[Respond], DockerEngine]]:
    """A client that is connected already, and the server's answer to all that follows."""
    with contextlib.ExitStack() as stack:

        def connect(respond: Respond) -> DockerEngine:
            server = serve(lambda _: answer("200 OK", VERSION))
            engine = DockerEngine(server.url, timeout=1)
            stack.callback(engine.close)
            server.respond = respond
            return engine

        yield connect


@contextlib.contextmanager
def as_nobody() -> t.Iterator[None]:
    """Drop to a user that the mode of a file applies to, as root may connect to any socket."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.fact("C.faults.1")
def test_missing_socket(directory: pathlib.Path) -> None:
    with pytest.raises(EngineUnreachable) as caught:
        DockerEngine(f"unix://{directory}/docker.sock")
    assert f"the Docker engine at unix://{directory}/docker.sock does not run" in caught.value.message
    assert "No such file or directory" in caught.value.message
    assert "Start dockerd" in caught.value.remedy
    assert caught.value.kind == "engine_unreachable"


@pytest.mark.fact("C.faults.1")
def test_refused_socket(directory: pathlib.Path) -> None:
    path = directory / "docker.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    with pytest.raises(EngineUnreachable, match=r"does not run \(\[Errno 111\] Connection refused\)"):
        DockerEngine(f"unix://{path}")


@pytest.mark.fact("C.faults.1")
def test_socket_of_another_user(serve: t.Callable[[Respond], Server], directory: pathlib.Path) -> None:
    server = serve(lambda _: answer("200 OK", VERSION))
    DockerEngine(server.url).close()  # it works, and all is imported before the privileges are gone
    (directory / "docker.sock").chmod(0)
    with as_nobody(), pytest.raises(EngineForbidden) as caught:
        DockerEngine(server.url)
    assert "this user may not use the Docker engine at" in caught.value.message
    assert "become" in caught.value.remedy
    assert caught.value.kind == "engine_forbidden"


@pytest.mark.fact("C.faults.1")
def test_silence_while_connecting(serve: t.Callable[[Respond], Server]) -> None:
    with pytest.raises(EngineTimeout, match="did not answer within 1 s"):
        DockerEngine(serve(lambda _: None).url, timeout=1)


@pytest.mark.fact("A9", "C.faults.2")
def test_silence_in_a_call(engine_that: t.Callable[[Respond], DockerEngine]) -> None:
    """A9: the call may be carried out later, and the remedy says so."""
    engine = engine_that(lambda _: None)
    with pytest.raises(EngineTimeout) as caught:
        engine.pause(CONTAINER)
    assert "cannot pause container cccccccccccc: " in caught.value.message
    assert "read back" in caught.value.remedy
    assert caught.value.status is None


@pytest.mark.fact("C.faults.3")
@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        pytest.param(b"", "Remote end closed connection without response", id="no answer"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Le", "does not speak as a Docker engine", id="cut in the headers"),
        pytest.param(answer("200 OK", '{"Id', length=500), "IncompleteRead", id="cut in the body"),
    ],
)
def test_broken_off_in_a_call(engine_that: t.Callable[[Respond], DockerEngine], reply: bytes, reason: str) -> None:
    engine = engine_that(lambda _: reply)
    with pytest.raises(EngineUnreachable) as caught:
        engine.inspect_container(CONTAINER)
    assert reason in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize("reply", [html("403 Forbidden", HAPROXY_403), html("405 Not Allowed", NGINX_405)])
def test_proxy_refuses_a_call(engine_that: t.Callable[[Respond], DockerEngine], reply: bytes) -> None:
    engine = engine_that(lambda _: reply)
    with pytest.raises(EngineForbidden) as caught:
        engine.pause(CONTAINER)
    assert "cannot pause container cccccccccccc: the proxy in front of unix://" in caught.value.message
    assert "<" not in caught.value.message
    assert "documentation lists" in caught.value.remedy


def test_proxy_refuses_to_connect(serve: t.Callable[[Respond], Server]) -> None:
    with pytest.raises(EngineForbidden, match="the proxy in front of") as caught:
        DockerEngine(serve(lambda _: html("403 Forbidden", HAPROXY_403)).url, timeout=1)
    assert caught.value.status == 403


def test_proxy_without_an_engine_behind_it(serve: t.Callable[[Respond], Server]) -> None:
    with pytest.raises(EngineUnreachable, match="503") as caught:
        DockerEngine(serve(lambda _: html("503 Service Unavailable", "<h1>No server</h1>")).url, timeout=1)
    assert "the engine behind it runs" in caught.value.remedy


def test_a_403_of_the_engine_is_no_proxy(engine_that: t.Callable[[Respond], DockerEngine]) -> None:
    engine = engine_that(lambda _: answer("403 Forbidden", {"message": "Address already in use"}))
    with pytest.raises(EngineError) as caught:
        engine.connect(NETWORK, CONTAINER, EndpointSettings(ipv4_address="198.18.0.2"))
    assert type(caught.value) is EngineError
    assert caught.value.status == 403
    assert caught.value.message == (
        "cannot connect container cccccccccccc (network aaaaaaaaaaaa): Address already in use"
    )


def test_a_404_of_the_engine(engine_that: t.Callable[[Respond], DockerEngine]) -> None:
    engine = engine_that(lambda _: answer("404 Not Found", {"message": f"No such container: {CONTAINER}"}))
    with pytest.raises(NotFound, match="No such container"):
        engine.inspect_container(CONTAINER)


def test_a_404_of_something_else_does_not_mean_gone(engine_that: t.Callable[[Respond], DockerEngine]) -> None:
    """Else a wrong docker_host would look like a host where the container is gone."""
    engine = engine_that(lambda _: html("404 Not Found", "<h1>Not Found</h1>"))
    with pytest.raises(EngineUnreachable, match="something else does"):
        engine.inspect_container(CONTAINER)


def test_a_500_while_connecting(serve: t.Callable[[Respond], Server]) -> None:
    with pytest.raises(EngineError, match="cannot connect to the engine: out of order") as caught:
        DockerEngine(serve(lambda _: answer("500 Oops", {"message": "out of order"})).url, timeout=1)
    assert caught.value.status == 500


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.2\x1b[2J\r\n", id="another protocol"),
        pytest.param(b"\x00\xff\xfe\x00" * 100, id="binary"),
        pytest.param(html("200 OK", "<h1>It works!</h1>"), id="a web server"),
        pytest.param(answer("200 OK", {"hello": "world"}), id="another API"),
        pytest.param(answer("200 OK", []), id="another type"),
    ],
)
def test_something_else_answers(serve: t.Callable[[Respond], Server], reply: bytes) -> None:
    with pytest.raises(EngineUnreachable, match="does not speak as a Docker engine does") as caught:
        DockerEngine(serve(lambda _: reply).url, timeout=1)
    assert "docker_host" in caught.value.remedy
    assert caught.value.message.isprintable()


def test_an_unknown_kind_of_address() -> None:
    with pytest.raises(EngineError, match="Invalid bind address"):
        DockerEngine("carrier-pigeon://roof")


def test_an_engine_too_old_for_the_sdk(serve: t.Callable[[Respond], Server]) -> None:
    with pytest.raises(EngineError, match="API versions below"):
        DockerEngine(serve(lambda _: answer("200 OK", {**VERSION, "ApiVersion": "1.12"})).url, timeout=1)


def test_an_engine_whose_api_has_no_number(serve: t.Callable[[Respond], Server]) -> None:
    with pytest.raises(EngineUnreachable, match="does not speak as a Docker engine does"):
        DockerEngine(serve(lambda _: answer("200 OK", {**VERSION, "ApiVersion": "new"})).url, timeout=1)


def test_d5_the_newest_api_of_the_engine_is_spoken(serve: t.Callable[[Respond], Server]) -> None:
    """D5: Docker 29 answers to nothing below API 1.40. The version is asked once, and without one."""
    requests: list[bytes] = []

    def respond(request: bytes) -> bytes:
        requests.append(request.partition(b" HTTP")[0])
        return answer("200 OK", {"Version": "29.0.0", "ApiVersion": "1.55", "MinAPIVersion": "1.40"})

    with contextlib.closing(DockerEngine(serve(respond).url, timeout=1)) as engine:
        engine.inspect_container(CONTAINER)
        engine.connect(NETWORK, CONTAINER, EndpointSettings())
    assert requests == [
        b"GET /version",
        b"GET /v1.55/containers/" + CONTAINER.encode() + b"/json",
        b"POST /v1.55/networks/" + NETWORK.encode() + b"/connect",
    ]


# --- what cannot be used at all ---------------------------------------------------------------------------------------


def version_of(components: object, platform: str = "") -> dict[str, object]:
    return {**VERSION, "Platform": {"Name": platform}, "Components": components}


# As podman 4.3 answers, whose API has the number of Docker 20.10.
PODMAN = {
    **version_of(
        [
            {"Name": "Podman Engine", "Version": "4.3.1", "Details": {"APIVersion": "4.3.1", "MinAPIVersion": "4.0.0"}},
            {"Name": "Conmon", "Version": "conmon version 2.1.6, commit: unknown"},
            {"Name": "OCI Runtime (crun)", "Version": "crun version 1.8.1"},
        ],
        "linux/amd64/debian-12",
    ),
    "Version": "4.3.1",
    "MinAPIVersion": "1.24",
}


def test_c6_podman_is_refused_before_anything_is_read_or_touched(serve: t.Callable[[Respond], Server]) -> None:
    """C6: its inspect lists networks without endpoints, so that everything would seem isolated."""
    requests: list[bytes] = []

    def respond(request: bytes) -> bytes:
        requests.append(request.partition(b" HTTP")[0])
        return answer("200 OK", PODMAN)

    server = serve(respond)
    with pytest.raises(EngineUnsupported) as caught:
        DockerEngine(server.url, timeout=1)
    assert f"what answers at {server.url} is Podman Engine 4.3.1 and no Docker Engine" in caught.value.message
    assert "docker_host" in caught.value.remedy
    assert caught.value.kind == "engine_unsupported"
    assert not is_transient(caught.value)
    assert requests == [b"GET /version"]


@pytest.mark.parametrize(
    "version",
    [
        VERSION,
        version_of([{"Name": "Engine", "Version": "20.10.24"}, {"Name": "containerd", "Version": "1.6.20"}]),
        version_of([{"Name": "Engine", "Version": "28.5.1"}], "Docker Engine - Community"),
        version_of([{"Name": "Engine", "Version": "28.5.1"}], "Docker Desktop 4.48.0 (207573)"),
        version_of([{"Name": "Engine", "Version": "20.10.43"}], "balenaEngine"),
        version_of([{"Name": "Something Engine", "Version": "1"}], "of which nobody knows"),
        # Nothing that the answer must have.
        *(version_of(odd) for odd in (None, "Podman", 7, {}, [None], ["Podman Engine"], [{}], [{"Name": None}])),
    ],
)
def test_c6_other_engines_are_let_through(serve: t.Callable[[Respond], Server], version: dict[str, object]) -> None:
    DockerEngine(serve(lambda _: answer("200 OK", version)).url, timeout=1).close()


def test_missing_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "docker", None)
    with pytest.raises(SdkMissing, match=f"the docker SDK for Python is not installed for {sys.executable}") as caught:
        DockerEngine()
    assert "python3-docker" in caught.value.remedy
    assert not is_transient(caught.value)


def test_an_sdk_without_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "requests", None)
    with pytest.raises(SdkUnusable, match=f"that {sys.executable} loads does not work: .*requests") as caught:
        DockerEngine()
    assert not is_transient(caught.value)


def test_a_directory_that_is_called_docker_is_no_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python imports any directory beside the program, or below PYTHONPATH."""
    monkeypatch.setitem(sys.modules, "docker", types.ModuleType("docker"))
    with pytest.raises(SdkUnusable, match="module 'docker' has no attribute 'APIClient'"):
        DockerEngine()


def test_without_an_interpreter_that_has_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    monkeypatch.setitem(sys.modules, "docker", None)
    with pytest.raises(SdkMissing, match="not installed for this Python") as caught:
        DockerEngine()
    assert "python3 -m pip install 'docker>=7.1'" in caught.value.remedy


# --- what an engine cannot do -----------------------------------------------------------------------------------------

IN_DOCKERD = "Cannot pause container cccccccccccc: OCI runtime pause failed: {}: unknown"


@pytest.mark.parametrize(
    "reason",
    [
        "cannot freeze",
        "no such directory for freezer.state",
        "freezer not supported: openat2 /sys/fs/cgroup/docker/c/cgroup.freeze: no such file or directory",
        "cgroups: freezer cgroup not supported on this system",
        "cgroups: freezer cgroup (v2) not supported on this kernel",
        "mountpoint for freezer not found",
        "unable to freeze: open /sys/fs/cgroup/freezer/c/freezer.state: permission denied",
        "failed to freeze: open /sys/fs/cgroup/c/cgroup.freeze: read-only file system",
        "cgroup: subsystem does not exist",
        "cannot toggle freezer: cgroups not configured for container",
        "cgroup manager is not configured for container",
        "cannot pause the container without a cgroup",
        "pause is not implemented",
        "runsc: pausing is not supported with this platform",
        "operation not supported",
        "rpc error: code = Unimplemented desc = PauseContainer",
    ],
)
def test_b5_what_an_engine_can_never_freeze(engine_that: t.Callable[[Respond], DockerEngine], reason: str) -> None:
    """B5: a rootless engine and runtimes like gVisor; trying again is no use."""
    engine = engine_that(lambda _: answer("500 Internal Server Error", {"message": IN_DOCKERD.format(reason)}))
    with pytest.raises(NotSupported, match="cannot pause container cccccccccccc") as caught:
        engine.pause(CONTAINER)
    assert (caught.value.kind, caught.value.status) == ("not_supported", 500)
    assert not is_transient(caught.value)


@pytest.mark.parametrize(
    "reason",
    [
        "unable to freeze",  # runc on cgroup v1, after it tried for a while
        "failed to freeze: write cgroup.freeze: device or resource busy",
        "cannot freeze: timeout while waiting for the freezer",
        "freezer not supported: resource temporarily unavailable",
        "containerd: context deadline exceeded",
        "out of order",
    ],
)
def test_b5_what_failed_to_freeze_this_time(engine_that: t.Callable[[Respond], DockerEngine], reason: str) -> None:
    engine = engine_that(lambda _: answer("500 Internal Server Error", {"message": IN_DOCKERD.format(reason)}))
    with pytest.raises(EngineError) as caught:
        engine.pause(CONTAINER)
    assert type(caught.value) is EngineError
    assert is_transient(caught.value)


@pytest.mark.parametrize("status", [409, 503])
def test_b5_other_answers_say_nothing_of_the_freezer(
    engine_that: t.Callable[[Respond], DockerEngine], status: int
) -> None:
    """B5: a container that is about to end, and an engine that is about to."""
    engine = engine_that(lambda _: answer(f"{status} Oops", {"message": IN_DOCKERD.format("cannot freeze")}))
    with pytest.raises(EngineError) as caught:
        engine.pause(CONTAINER)
    assert not isinstance(caught.value, NotSupported)


def test_b5_names_of_others_do_not_say_what_an_engine_can_do(
    engine_that: t.Callable[[Respond], DockerEngine],
) -> None:
    """B5: who names a network so must not keep the guard from trying again."""
    message = "failed to set up network 'freezer not supported'"
    engine = engine_that(lambda _: answer("500 Internal Server Error", {"message": message}))
    with pytest.raises(EngineError) as caught:
        engine.connect(NETWORK, CONTAINER, EndpointSettings())
    assert is_transient(caught.value)


def test_not_implemented_is_for_good(engine_that: t.Callable[[Respond], DockerEngine]) -> None:
    engine = engine_that(lambda _: answer("501 Not Implemented", {"message": "no such thing here"}))
    with pytest.raises(NotSupported) as caught:
        engine.start(CONTAINER)
    assert (caught.value.status, is_transient(caught.value)) == (501, False)


@pytest.mark.parametrize(("network", "container"), [("", CONTAINER), (NETWORK, "")])
def test_an_empty_name_is_not_a_missing_network(
    engine_that: t.Callable[[Respond], DockerEngine], network: str, container: str
) -> None:
    """A container that never started has no network ids (C); the engine would answer 404 to an empty one."""
    engine = engine_that(lambda _: answer("404 Not Found", {"message": "network disconnect not found"}))
    calls: tuple[t.Callable[[], None], ...] = (
        lambda: engine.disconnect(network, container),
        lambda: engine.connect(network, container, EndpointSettings()),
    )
    for call in calls:
        with pytest.raises(EngineError) as caught:
            call()
        assert not isinstance(caught.value, NotFound)


def test_the_error_being_handled_is_not_the_cause(
    engine_that: t.Callable[[Respond], DockerEngine], directory: pathlib.Path
) -> None:
    """Reading back after a timeout: a refused connection is no second timeout."""
    engine = engine_that(lambda _: None)

    def read_back() -> None:
        try:
            engine.pause(CONTAINER)
        except EngineTimeout:
            (directory / "docker.sock").unlink()
            engine.inspect_container(CONTAINER)

    with pytest.raises(EngineUnreachable, match="does not run"):
        read_back()


def test_every_call_raises_typed_errors_alone(engine_that: t.Callable[[Respond], DockerEngine]) -> None:
    engine = engine_that(lambda _: answer("500 Oops", {"message": "out of order"}))
    calls: tuple[t.Callable[[], object], ...] = (
        engine.list_containers,
        lambda: engine.inspect_container(CONTAINER),
        lambda: engine.inspect_network(NETWORK),
        lambda: engine.create_network({"Name": "front"}),
        lambda: engine.pause(CONTAINER),
        lambda: engine.unpause(CONTAINER),
        lambda: engine.stop(CONTAINER, 0),
        lambda: engine.start(CONTAINER),
        lambda: engine.set_restart_policy(CONTAINER, "no", 0),
        lambda: engine.disconnect(NETWORK, CONTAINER),
        lambda: engine.connect(NETWORK, CONTAINER, EndpointSettings()),
        lambda: next(engine.top(CONTAINER)),
        lambda: next(engine.stats(CONTAINER)),
        lambda: next(engine.changed_files(CONTAINER)),
        lambda: next(engine.logs(CONTAINER, 10)),
        lambda: next(engine.archive(CONTAINER, "/etc")),
        lambda: next(engine.export(CONTAINER)),
    )
    for call in calls:
        with pytest.raises(EngineError, match=r"cannot .*: out of order") as caught:
            call()
        assert caught.value.status == 500


# --- answers that are read in pieces ----------------------------------------------------------------------------------

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunks(*contents: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(content), content) for content in contents) + end


def frame(stream: int, content: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(content).to_bytes(4, "big") + content


def test_an_answer_comes_in_pieces(engine_that: t.Callable[[Respond], DockerEngine]) -> None:
    engine = engine_that(lambda _: chunks(b"a" * 70_000, b"b"))
    pieces = list(engine.export(CONTAINER))
    assert len(pieces) > 1
    assert b"".join(pieces) == b"a" * 70_000 + b"b"


@pytest.mark.parametrize("end", [b"", b"10\r\nonly this", b"no length\r\n"])
def test_an_answer_that_breaks_off(engine_that: t.Callable[[Respond], DockerEngine], end: bytes) -> None:
    engine = engine_that(lambda _: chunks(b"a" * 70_000, end=end))
    pieces = engine.export(CONTAINER)
    assert next(pieces)
    with pytest.raises(EngineUnreachable, match="cannot export container cccccccccccc: ") as caught:
        list(pieces)
    assert caught.value.remedy


def test_an_answer_that_stalls(serve: t.Callable[[Respond], Server]) -> None:
    """The SDK reads logs without a timeout, and would wait for a frozen engine for ever."""
    server = serve(lambda _: answer("200 OK", VERSION))
    with contextlib.closing(DockerEngine(server.url, timeout=1)) as engine:
        server.respond, server.stalls = lambda _: chunks(b"begun", end=b""), True
        pieces = engine.export(CONTAINER)
        assert next(pieces) == b"begun"
        with pytest.raises(EngineTimeout, match="did not answer within 1 s"):
            next(pieces)


def test_whoever_stops_reading_closes_the_connection(engine_that: t.Callable[[Respond], DockerEngine]) -> None:
    engine = engine_that(lambda _: chunks(*[b"a" * 60_000] * 1000))
    pieces = engine.archive(CONTAINER, "/etc")
    assert next(pieces)
    pieces.close()
    assert list(pieces) == []


def test_paths_are_parameters(engine_that: t.Callable[[Respond], DockerEngine]) -> None:
    asked: list[bytes] = []

    def respond(request: bytes) -> bytes:
        asked.append(request.splitlines()[0])
        return chunks(b"")

    list(engine_that(respond).archive(CONTAINER, "/a b?c&d=/../#"))
    assert asked == [
        b"GET /v1.41/containers/%b/archive?path=%%2Fa+b%%3Fc%%26d%%3D%%2F..%%2F%%23 HTTP/1.1" % CONTAINER.encode()
    ]


def logs_of(body: bytes, terminal: bool = False) -> Respond:
    """An engine with a container and its logs, in chunks that cut frames and headers anywhere."""
    inspected = answer("200 OK", {"Config": {"Tty": terminal}})
    cut = [body[start : start + 7] for start in range(0, len(body), 7)]
    return lambda request: chunks(*cut) if b"/logs?" in request else inspected


def test_logs_come_without_frames(engine_that: t.Callable[[Respond], DockerEngine]) -> None:
    body = frame(1, b"2026 one\n") + frame(2, b"") + frame(2, b"2026 two\xff\n") + frame(1, b"x" * 300)
    assert b"".join(engine_that(logs_of(body)).logs(CONTAINER, 10)) == b"2026 one\n2026 two\xff\n" + b"x" * 300


def test_logs_of_a_terminal_have_no_frames(engine_that: t.Callable[[Respond], DockerEngine]) -> None:
    body = b"\x01\x00\x00\x00 what a process wrote\r\n"
    assert b"".join(engine_that(logs_of(body, terminal=True)).logs(CONTAINER, 10)) == body


@pytest.mark.parametrize("cut", [1, 3, 9])
def test_logs_that_break_off(engine_that: t.Callable[[Respond], DockerEngine], cut: int) -> None:
    body = frame(1, b"one\n") + frame(1, b"two\n")
    with pytest.raises(EngineUnreachable, match="in the middle of the logs"):
        list(engine_that(logs_of(body[:-cut])).logs(CONTAINER, 10))
