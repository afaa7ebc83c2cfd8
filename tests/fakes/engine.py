# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Docker Engine in memory that answers as Engine 20.10 does, or a newer one, for tests without Docker.

As in the real one the truth about a network lies in three places that may disagree: the keys that inspect shows (of the
container), the members that the network knows, and the interfaces in the sandbox, which alone say whether packets flow.
EngineContract runs the same tests against this fake and against a real engine.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime
import enum
import functools
import hashlib
import inspect
import io
import ipaddress
import itertools
import json
import tarfile
import threading
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import (
    EVENTS,
    EndpointSettings,
    EngineVersion,
    Pieces,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import (
    EngineError,
    NotFound,
    NotSupported,
)

IMAGE = "container-guard/busybox:latest"
SHORT_ID_LENGTH = 12
HOST_INTERFACES = frozenset({"lo", "eth0", "docker0"})
CHANGING_CALLS = frozenset(
    {"create_network", "pause", "unpause", "stop", "kill", "start", "set_restart_policy", "disconnect", "connect"}
)
PREDEFINED = ("bridge", "host", "none")
REPLAYED_EVENTS = 256
PIECE = 16 * 1024
_ZERO_TIME = "0001-01-01T00:00:00Z"

Json = dict[str, t.Any]
_Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def image_id_of(reference: str) -> str:
    """The id of the image that a reference names."""
    return "sha256:" + hashlib.sha256(reference.encode()).hexdigest()


class Lie(enum.Enum):
    """States in which the answers of the engine contradict each other."""

    FAILED_CONNECT = "finding 1: a live interface that the network does not know of"
    KILLED_MID_DISCONNECT = "finding 2: inspect lists a network whose interface is gone"


# --- where engines differ ---------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Traits:
    """What one engine does otherwise than others.

    Attributes:
        version: of the oldest engine of its kind.
        default_mode: what the network mode of the default bridge is called.
        own_names_are_aliases: short id and host name are shown among the aliases, and not all names as C(DNSNames).
        same_network_names: two networks may have one name.
        internal_gateway: internal networks show a gateway.
        ambiguous_id: the status of the answer to the beginning of several ids.
        checks_subnet: a static address outside the subnet is refused before anything is done.
        mac_at_creation: a MAC address may be asked for each network at creation, and not only for the container.
        mac_of_container: the one that was asked for the container counts, on its first network.
        mac_comes_back: that one comes back with each connect to that network.
        mac_in_connect: the one that connect asks for counts.
        shows_mac_of_container: inspect shows it in C(Config).
        random_macs: MAC addresses are not made from the IPv4 address.
        gateway_priority: it is taken, and shown.
        interface_names_return: a container that is connected again has the interfaces that it had.
        disconnects_told: how often the disconnect of a running container is told.
        stopped_disconnect_told: that of a stopped one is told.
        static_on_automatic: static addresses are taken where the engine chose the subnet.
        failed_connect_leaves_interface: finding 1.
        host_refusal, owner_refusal: what it says to a disconnect in host mode, and to the start of a sidecar whose
            owner does not run.
    """

    version: EngineVersion
    default_mode: str = "default"
    own_names_are_aliases: bool = True
    same_network_names: bool = True
    internal_gateway: bool = True
    ambiguous_id: int = 500
    checks_subnet: bool = False
    mac_at_creation: bool = False
    mac_of_container: bool = True
    mac_comes_back: bool = True
    mac_in_connect: bool = False
    shows_mac_of_container: bool = True
    random_macs: bool = False
    gateway_priority: bool = False
    interface_names_return: bool = False
    disconnects_told: int = 2
    stopped_disconnect_told: bool = True
    static_on_automatic: bool = False
    failed_connect_leaves_interface: bool = True
    host_refusal: str = "container cannot be disconnected from host network or connected to host network"
    owner_refusal: str = "cannot join network of a non running container: {id}"


# Each as the one before it, but for what is said. All but the last one are measured by EngineContract.
_ENGINE_20_10 = Traits(EngineVersion(engine="20.10.24", api="1.41"))
_ENGINE_26 = dataclasses.replace(
    _ENGINE_20_10,
    version=EngineVersion(engine="26.1.5", api="1.45"),
    default_mode="bridge",
    own_names_are_aliases=False,
    same_network_names=False,
    internal_gateway=False,
    ambiguous_id=400,
    checks_subnet=True,
    mac_at_creation=True,
    mac_comes_back=False,
    owner_refusal="cannot join network namespace of a non running container: container {id} is exited",
)
_ENGINE_28 = dataclasses.replace(
    _ENGINE_26,
    version=EngineVersion(engine="28.5.2", api="1.51"),
    random_macs=True,
    gateway_priority=True,
    interface_names_return=True,
    disconnects_told=1,
    stopped_disconnect_told=False,
    host_refusal="cannot disconnect container from host network - container was created in host network mode",
)
# No package of it is at hand: measured elsewhere, with API 1.55. C(Config) lost its MAC address with API 1.52.
_ENGINE_29 = dataclasses.replace(
    _ENGINE_28,
    version=EngineVersion(engine="29.0.0", api="1.52"),
    mac_of_container=False,
    mac_in_connect=True,
    shows_mac_of_container=False,
    static_on_automatic=True,
    failed_connect_leaves_interface=False,
)
TRAITS = (_ENGINE_20_10, _ENGINE_26, _ENGINE_28, _ENGINE_29)


def traits_of(version: EngineVersion) -> Traits:
    """Those of the newest engine that is not newer by its API; of the oldest where all are."""
    api = _api(version)
    return max((traits for traits in TRAITS if _api(traits.version) <= api), key=_api_of, default=TRAITS[0])


def _api(version: EngineVersion) -> tuple[int, ...]:
    return tuple(int(part) for part in version.api.split("."))


def _api_of(traits: Traits) -> tuple[int, ...]:
    return _api(traits.version)


# --- the life of a container ------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Refusal:
    """The answer to a call that the state does not allow."""

    status: int
    text: str


_NOT_RUNNING = _Refusal(409, "Container {id} is not running")
_NOT_PAUSED = _Refusal(500, "Container {id} is not paused")

# What each call makes of each state. "crash" and "come_back" are no calls: the process exits, the engine restarts it.
_LIFECYCLE: dict[str, dict[str, str | _Refusal]] = {
    "pause": {
        "created": _NOT_RUNNING,
        "running": "paused",
        "paused": _Refusal(409, "Container {id} is already paused"),
        "restarting": _Refusal(409, "Container {id} is restarting, wait until the container is running"),
        "exited": _NOT_RUNNING,
    },
    "unpause": {
        "created": _NOT_PAUSED,
        "running": _NOT_PAUSED,
        "paused": "running",
        "restarting": _NOT_PAUSED,
        "exited": _NOT_PAUSED,
    },
    "stop": {
        "created": "created",
        "running": "exited",
        "paused": "exited",
        # Stopping is all that cancels a pending restart: restart policy "no" lets it come back once more (measured).
        "restarting": "exited",
        "exited": "exited",
    },
    "kill": {
        "created": _NOT_RUNNING,
        "running": "exited",
        "paused": "exited",
        "restarting": "exited",
        "exited": _NOT_RUNNING,
    },
    "start": {
        "created": "running",
        "running": "running",
        "paused": _Refusal(409, "cannot start a paused container, try unpause instead"),
        "restarting": "restarting",
        "exited": "running",
    },
    "crash": {"running": "restarting"},
    "come_back": {"restarting": "running"},
}
# The events of each transition, beside those of networks. Those of a transition that changes nothing are none.
_EVENTS_OF: dict[str, tuple[str, ...]] = {
    "pause": ("pause",),
    "unpause": ("unpause",),
    "stop": ("kill", "die", "stop"),
    "kill": ("kill", "die"),
    "start": ("start",),
    "crash": ("die",),
    "come_back": ("start",),
}
_WITH_PROCESS = frozenset({"running", "paused"})
# A restarting container counts as running in every check of the engine, although it has neither pid nor interface.
_COUNTED_AS_RUNNING = _WITH_PROCESS | {"restarting"}


# --- networks ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class _Endpoint:
    """A live attachment."""

    id: str
    ipv4: str = ""
    ipv6: str = ""
    mac: str = ""
    gateway: str = ""
    interface: str = ""
    leads_out: bool = False


@dataclasses.dataclass
class _Network:
    id: str
    name: str
    driver: str
    subnets: tuple[_Subnet, ...]
    user_configured: bool
    internal: bool
    options: dict[str, str]
    labels: dict[str, str]
    endpoints: dict[str, _Endpoint] = dataclasses.field(default_factory=dict)
    """By container id. What the network answers when it is asked for its members."""

    @property
    def user_defined(self) -> bool:
        return self.name not in PREDEFINED

    def subnet(self, version: int) -> _Subnet | None:
        return next((subnet for subnet in self.subnets if subnet.version == version), None)

    def contains(self, address: str) -> bool:
        """Whether a static address is one of its own."""
        return any(ipaddress.ip_address(address) in subnet for subnet in self.subnets)

    def address(self, version: int, wanted: str) -> str:
        """Allocate the address wanted, else the lowest free one, so that a container that returns gets its old one."""
        subnet = self.subnet(version)
        if subnet is None:
            return ""
        taken = {subnet.network_address + 1}  # the gateway
        taken |= {
            ipaddress.ip_address(used) for e in self.endpoints.values() if (used := e.ipv4 if version == 4 else e.ipv6)
        }
        if wanted:
            address = ipaddress.ip_address(wanted)
            if address not in subnet:
                raise _error(500, f"Invalid address {wanted}: It does not belong to any of this network's subnets")
            if address in taken:
                raise _error(403, "Address already in use")
            return wanted
        for address in _hosts(subnet):
            if address not in taken:
                return str(address)
        raise _error(
            500, f"no available IPv{version} addresses on this network's address pools: {self.name} ({self.id})"
        )


def _hosts(subnet: _Subnet) -> t.Iterator[_Address]:
    return iter(subnet.hosts())


@dataclasses.dataclass
class _Sandbox:
    """A network namespace. Sidecars share that of their owner, and keep it when the owner gets a new one."""

    endpoints: dict[str, _Endpoint] = dataclasses.field(default_factory=dict)
    """By network id."""
    next_interface: int = 0
    """Before 28 never reused in the life of a sandbox: a container cut off and connected again has eth1 (measured)."""
    of_host: bool = False

    def add(self, network: _Network, endpoint: _Endpoint, reuse_names: bool) -> None:
        if network.subnets:
            names = (f"eth{number}" for number in itertools.count(0 if reuse_names else self.next_interface))
            endpoint.interface = next(name for name in names if name not in self.interfaces)
            self.next_interface += 1
        self.endpoints[network.id] = endpoint

    @property
    def interfaces(self) -> set[str]:
        if self.of_host:
            return set(HOST_INTERFACES)
        return {"lo"} | {endpoint.interface for endpoint in self.endpoints.values() if endpoint.interface}


@dataclasses.dataclass
class _Key:
    """An entry of NetworkSettings.Networks: what was asked for, and what inspect makes of it."""

    settings: EndpointSettings
    network_id: str = ""
    """Empty until it was live once (measured): a container that never started can be disconnected by name only."""
    endpoint: _Endpoint | None = None


@dataclasses.dataclass(frozen=True)
class _Content:
    """What is in a container, for those who read it."""

    files: t.Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    """Contents by absolute path; all of them differ from the image."""
    log: bytes = b""
    log_driver: str = "json-file"
    tmpfs: tuple[str, ...] = ()
    mounts: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Type such as C(volume) by absolute path."""


@dataclasses.dataclass
class _Container:
    id: str
    name: str
    image: str
    image_id: str
    listed_image: str
    link_names: tuple[str, ...]
    labels: dict[str, str]
    created: datetime.datetime
    network_mode: str
    hostname: str
    restart_policy: tuple[str, int]
    auto_remove: bool
    published: dict[str, int | None]
    """Container port such as C(80/tcp) to host port, or None for an ephemeral one."""
    status: str = "created"
    pid: int = 0
    started_at: datetime.datetime | None = None
    finished_at: datetime.datetime | None = None
    exit_code: int = 0
    error: str = ""
    restart_count: int = 0
    keys: dict[str, _Key] = dataclasses.field(default_factory=dict)
    sandbox: _Sandbox = dataclasses.field(default_factory=_Sandbox)
    host_ports: dict[str, int] = dataclasses.field(default_factory=dict)
    lies: set[tuple[Lie, str]] = dataclasses.field(default_factory=set)
    content: _Content = _Content()
    freezes: bool = True
    mac_address: str = ""
    """As it was asked for the container, or for the network that it is made for (measured)."""

    @property
    def counts_as_running(self) -> bool:
        return self.status in _COUNTED_AS_RUNNING

    def is_made_for(self, network: _Network) -> bool:
        """Whether the network is that of its network mode."""
        return network.name == ("bridge" if self.network_mode == "default" else self.network_mode)

    @property
    def owner(self) -> str:
        """The container whose network this one shares, or empty."""
        mode, _, owner = self.network_mode.partition(":")
        return owner if mode == "container" else ""


# --- calls, faults and races ------------------------------------------------------------------------------------------

P = t.ParamSpec("P")
R = t.TypeVar("R")


def _engine_call(
    carry_out: t.Callable[t.Concatenate[FakeEngine, P], R],
) -> t.Callable[t.Concatenate[FakeEngine, P], R]:
    """Make a method a call of the API: recorded, interruptible, and able to fail before or after it was carried out."""
    method = carry_out.__name__
    signature = inspect.signature(carry_out)

    @functools.wraps(carry_out)
    def call(self: FakeEngine, *args: P.args, **kwargs: P.kwargs) -> R:
        if self._world_acts():
            with self._lock:
                return carry_out(self, *args, **kwargs)
        with self._lock:
            self.calls.append((method, signature.bind(self, *args, **kwargs).args[1:]))
            callback = self._callbacks[method].popleft() if self._callbacks[method] else None
        if callback is not None:  # without the lock, so that it may wait for other threads
            with self._as_the_world():
                callback()
        with self._lock:
            error, after = self._failures[method].popleft() if self._failures[method] else (None, False)
            if error is not None and not after:
                raise error
            result = carry_out(self, *args, **kwargs)
            if error is not None:
                raise error
            return result

    return t.cast("t.Callable[t.Concatenate[FakeEngine, P], R]", call)


def _error(status: int, text: str) -> EngineError:
    return (NotFound if status == 404 else EngineError)(f"the engine answers: {text}", status=status)


class FakeEngine:
    """Containers and networks of a host that does not exist.

    Attributes:
        calls: every call of the API in order, as (method, positional arguments). What a callback of before() does is
            the world's doing and not listed.
    """

    def __init__(
        self,
        engine_version: EngineVersion | None = None,
        clock: t.Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
    ) -> None:
        """An engine without containers.

        Args:
            engine_version: which one it is, 20.10 by default. By its API it has the traits of one of TRAITS.
            clock: what time it is.
        """
        self.calls: list[tuple[str, tuple[t.Any, ...]]] = []
        self.has_live_restore = False
        self._engine_version = engine_version or _ENGINE_20_10.version
        self._traits = traits_of(self._engine_version)
        self._clock = clock
        self._lock = threading.RLock()
        self._world = threading.local()
        self._failures: dict[str, collections.deque[tuple[BaseException | None, bool]]] = collections.defaultdict(
            collections.deque
        )
        self._callbacks: dict[str, collections.deque[t.Callable[[], object]]] = collections.defaultdict(
            collections.deque
        )
        self._containers: dict[str, _Container] = {}
        self._images: dict[str, tuple[t.Sequence[str], t.Sequence[str]]] = {}
        self._networks: dict[str, _Network] = {}
        self._serial = itertools.count(1)
        self._pids = itertools.count(4001)
        self._ephemeral_ports = itertools.count(32768)
        self._auto_subnets = itertools.count(17)
        self._breaks: dict[str, tuple[int, BaseException]] = {}
        self._changed = threading.Condition(self._lock)
        self._past_events: collections.deque[Json] = collections.deque(maxlen=REPLAYED_EVENTS)
        self._streams: list[FakeEventStream] = []
        self.add_network("bridge")
        self.add_network("host", driver="host")
        self.add_network("none", driver="null")

    # --- building the world -------------------------------------------------------------------------------------------

    def add_network(
        self,
        name: str,
        subnet: str | t.Sequence[str] | None = None,
        *,
        network_id: str | None = None,
        driver: str = "bridge",
        internal: bool = False,
        driver_opts: t.Mapping[str, str] | None = None,
        labels: t.Mapping[str, str] | None = None,
    ) -> str:
        """Create a network and return its id. Names need not be unique on 20.10, as in the engine.

        Args:
            name: its name.
            subnet: one subnet, or an IPv4 and an IPv6 one. None: the engine chooses, and refuses static addresses.
            network_id: 64 hexadecimal digits, or None to make one up.
            driver: network driver; C(host) and C(null) have neither addresses nor interfaces.
            internal: without a way out.
            driver_opts: options of the network.
            labels: labels of the network.
        """
        with self._lock:
            if not self._traits.same_network_names and any(one.name == name for one in self._networks.values()):
                raise _error(409, f"network with name {name} already exists")
            wanted = [subnet] if isinstance(subnet, str) else list(subnet or ())
            chosen = [f"172.{next(self._auto_subnets)}.0.0/16"] if driver == "bridge" and not wanted else wanted
            network = _Network(
                id=network_id or self._new_id(),
                name=name,
                driver=driver,
                subnets=tuple(ipaddress.ip_network(one) for one in chosen),
                user_configured=bool(wanted),
                internal=internal,
                options=dict(driver_opts or {}),
                labels=dict(labels or {}),
            )
            self._networks[network.id] = network
            return network.id

    def add_container(
        self,
        name: str,
        *,
        container_id: str | None = None,
        image: str = IMAGE,
        image_id: str = "",
        listed_image: str = "",
        link_names: t.Sequence[str] = (),
        labels: t.Mapping[str, str] | None = None,
        networks: t.Mapping[str, EndpointSettings] | None = None,
        state: str = "running",
        restart_policy: tuple[str, int] = ("no", 0),
        network_mode: str | None = None,
        hostname: str = "",
        auto_remove: bool = False,
        published: t.Mapping[str, int | None] | None = None,
        created: datetime.datetime | None = None,
        mac_address: str = "",
        freezes: bool = True,
    ) -> str:
        """Create a container, bring it into a state and return its id.

        Args:
            name: without the leading slash.
            container_id: 64 hexadecimal digits, or None to make one up.
            image: the reference it was created from.
            image_id: of what it is made of; that of the image that has the reference now by default.
            listed_image: what the list shows instead when the tag moved since: a digest.
            link_names: names that legacy links give it in the list, such as C(/other/alias).
            labels: its labels.
            networks: names or ids of networks, and what is asked of each. None: what the network mode implies.
            state: C(created), C(running), C(paused), C(restarting) or C(exited).
            restart_policy: name and maximum retry count.
            network_mode: C(default), C(host), C(none), C(container:<id>) or a network. None: the first of C(networks).
            hostname: its host name; the short id by default. Started in another's network it takes the other's.
            auto_remove: remove it when it stops.
            published: container port such as C(80/tcp) to host port; None for an ephemeral one.
            created: when; now by default.
            mac_address: as it was asked for the container, and not for one of its networks.
            freezes: its runtime can pause it.
        """
        with self._lock:
            mode = network_mode or (self._network(next(iter(networks))).name if networks else "default")
            default = mode == "default"
            container = _Container(
                id=container_id or self._new_id(),
                name=name,
                image=image,
                image_id=image_id or image_id_of(image),
                listed_image=listed_image or image,
                link_names=tuple(link_names),
                labels=dict(labels or {}),
                created=created or self._clock(),
                network_mode=self._traits.default_mode if default else mode,
                hostname=hostname,
                restart_policy=restart_policy,
                auto_remove=auto_remove,
                published=dict(published or {}),
                mac_address=mac_address,
                freezes=freezes,
            )
            if networks is None and not container.owner:
                networks = {"bridge" if default else mode: EndpointSettings()}
            for reference, settings in (networks or {}).items():
                network = self._network(reference)
                mac = settings.mac_address if self._traits.mac_at_creation else ""
                if container.is_made_for(network):
                    mac = mac or (mac_address if self._traits.mac_of_container else "")
                    container.mac_address = container.mac_address or mac
                container.keys[network.name] = _Key(dataclasses.replace(settings, mac_address=mac))
            container.hostname = hostname or container.id[:SHORT_ID_LENGTH]
            self._containers[container.id] = container
            self._emit(container, "create")
            for transition in _WAY_TO[state]:
                self._move(container, transition)
            return container.id

    def fill(
        self,
        container_id: str,
        *,
        files: t.Mapping[str, bytes] | None = None,
        log: bytes = b"",
        log_driver: str = "json-file",
        tmpfs: t.Sequence[str] = (),
        mounts: t.Mapping[str, str] | None = None,
    ) -> None:
        """Put something into a container, in place of what is there.

        Args:
            container_id: its id.
            files: contents by absolute path.
            log: what it wrote, as the engine gives it.
            log_driver: C(none) keeps no log.
            tmpfs: paths at which it has memory mounted. What C(files) has there, the engine does not give.
            mounts: type such as C(volume) by path.
        """
        with self._lock:
            content = _Content(dict(files or {}), log, log_driver, tuple(tmpfs), dict(mounts or {}))
            self._container(container_id).content = content

    def remove_container(self, container_id: str) -> None:
        """Remove by force."""
        with self._lock:
            container = self._container(container_id)
            if container.counts_as_running:
                self._emit(container, "kill", "die")
            self._leave_networks(container)
            del self._containers[container.id]
            self._emit(container, "destroy")

    def rename_container(self, container_id: str, name: str) -> None:
        """Give it another name."""
        with self._lock:
            container = self._container(container_id)
            container.name = name
            self._emit(container, "rename")

    def run_command(self, container_id: str, command: str) -> None:
        """Run a command in a container, of which only events are seen."""
        with self._lock:
            self._emit(self._container(container_id), f"exec_create: {command}", f"exec_start: {command}", "exec_die")

    def add_image(self, image_id: str, tags: t.Sequence[str] = (), digests: t.Sequence[str] = ()) -> None:
        """Have an image with that id, tags and digests, in place of what there is of it."""
        with self._lock:
            self._images[image_id] = (tags, digests)

    def tag_image(self, reference: str) -> None:
        """Tag an image, of which only the event is seen."""
        with self._lock:
            self._publish_event("image", "tag", hashlib.sha256(reference.encode()).hexdigest(), {"name": reference})

    def state_of(self, container_id: str) -> str:
        """Its state, without asking as a client would."""
        with self._lock:
            return self._container(container_id).status

    def remove_network(self, network_id: str) -> None:
        """Remove a network. 403 while a container runs on it; a stopped one keeps its key."""
        with self._lock:
            network = self._network(network_id)
            if network.endpoints:
                raise _error(
                    403,
                    f"error while removing network: network {network.name} id {network.id} has active endpoints",
                )
            del self._networks[network.id]

    def crash(self, container_id: str) -> None:
        """The process exits by itself; the engine restarts it after a delay when the policy says so."""
        with self._lock:
            container = self._container(container_id)
            if container.restart_policy[0] in ("", "no"):
                self._move(container, "stop")
            else:
                self._move(container, "crash")

    def come_back(self, container_id: str) -> None:
        """The delay of a restart is over. It began when the process exited, whatever the policy is now (measured)."""
        with self._lock:
            self._move(self._container(container_id), "come_back")

    # --- faults, races, ground truth ----------------------------------------------------------------------------------

    def fail_next(self, method: str, error: BaseException | None, *, after: bool = False) -> None:
        """Make the next call of that method raise; calls before it in the queue of that method come first.

        Args:
            method: name of a method of the Engine protocol.
            error: what to raise, or None to let one call pass.
            after: raise after the call was carried out: a request that timed out and was executed later (finding 9).
        """
        self._check_method(method)
        with self._lock:
            self._failures[method].append((error, after))

    def break_off(self, method: str, error: BaseException, after: int) -> None:
        """Make the next answers of that method break off after so many bytes."""
        self._check_method(method)
        with self._lock:
            self._breaks[method] = (after, error)

    def before(self, method: str, callback: t.Callable[[], object]) -> None:
        """Run the callback once, after the next call of that method arrived and before it is carried out.

        What it does to this engine is neither recorded nor subject to fail_next() and before().
        """
        self._check_method(method)
        with self._lock:
            self._callbacks[method].append(callback)

    def break_streams(self, error: EngineError | None) -> None:
        """Break off all streams of events that are open, or end them as after a silence where there is no error."""
        with self._lock:
            for stream in self._streams:
                stream.broken, stream.ended = error, True
            self._streams.clear()
            self._changed.notify_all()

    def wait_followed(self, timeout: float = 30) -> None:
        """Wait until somebody follows the events and has come to the end of what there is."""
        with self._lock:
            done = self._changed.wait_for(lambda: any(stream.exhausted for stream in self._streams), timeout)
        if not done:
            raise TimeoutError(f"nobody followed all events within {timeout} seconds")

    def lie(self, kind: Lie, container_id: str, network_id: str) -> None:
        """Make the answers contradict each other about a container in a network.

        FAILED_CONNECT: the next connect fails with 500 "port is already allocated" and leaves a live interface.
        KILLED_MID_DISCONNECT: now, as after an engine that was killed in the middle of a disconnect.
        """
        with self._lock:
            container, network = self._container(container_id), self._network(network_id)
            if kind is Lie.FAILED_CONNECT:
                container.lies.add((kind, network.id))
            else:
                del network.endpoints[container.id]
                del container.sandbox.endpoints[network.id]

    def interfaces(self, container_id: str) -> set[str]:
        """Ground truth: the interfaces in the network namespace of a container; none when it has no process."""
        with self._lock:
            container = self._container(container_id)
            return container.sandbox.interfaces if container.pid else set()

    def interfaces_of(self, pid: int, container_id: str) -> set[str] | None:
        """The same, as a guard on the host reads it; None when that process is not one of that container."""
        with self._lock:
            container = self._containers.get(container_id)
            return container.sandbox.interfaces if container and pid and container.pid == pid else None

    @property
    def changes(self) -> list[tuple[str, tuple[t.Any, ...]]]:
        """The calls that were meant to change something."""
        return [call for call in self.calls if call[0] in CHANGING_CALLS]

    # --- the Engine protocol ------------------------------------------------------------------------------------------

    @_engine_call
    def version(self) -> EngineVersion:
        return self._engine_version

    @_engine_call
    def live_restore(self) -> bool:
        return self.has_live_restore

    @_engine_call
    def list_containers(self, container_id: str = "") -> list[Json]:
        newest_first = sorted(self._containers.values(), key=lambda container: container.created, reverse=True)
        return [self._summary(container) for container in newest_first if container.id.startswith(container_id)]

    @_engine_call
    def events(self, since: int | None = None, silence: float = 60) -> FakeEventStream:
        past = [event for event in self._past_events if since is not None and event["timeNano"] >= since]
        stream = FakeEventStream(self._changed, past, silence)
        self._streams = [*(open_one for open_one in self._streams if not open_one.ended), stream]
        return stream

    @_engine_call
    def past_events(self) -> list[Json]:
        return [event for event in self._past_events if event["Action"] in EVENTS.get(event["Type"], ())]

    @_engine_call
    def create_container(self, name: str, definition: t.Mapping[str, t.Any]) -> str:
        image = definition["Image"]
        known = {tag: one["Id"] for one in self.list_images() for tag in one["RepoTags"] or ()}
        if image not in known:
            raise NotFound(f"cannot create container {name}: No such image: {image}", status=404)
        labels = definition.get("Labels")
        return self.add_container(name, image=image, image_id=known[image], labels=labels, state="created")

    @_engine_call
    def list_images(self) -> list[Json]:
        named: dict[str, tuple[t.Sequence[str], t.Sequence[str]]] = {
            image_id_of(one.image): ([one.image], []) for one in self._containers.values()
        }
        return [
            {"Id": image_id, "RepoTags": list(tags) or None, "RepoDigests": list(digests) or None}
            for image_id, (tags, digests) in {**named, **self._images}.items()
        ]

    @_engine_call
    def inspect_container(self, container_id: str) -> Json:
        return self._details(self._container(container_id))

    @_engine_call
    def inspect_network(self, network_id: str) -> Json:
        network = self._network(network_id)
        return {
            "Name": network.name,
            "Id": network.id,
            "Scope": "local",
            "Driver": network.driver,
            "EnableIPv6": network.subnet(6) is not None,
            "IPAM": {
                "Driver": "default",
                "Options": None,
                "Config": [{"Subnet": str(subnet)} for subnet in network.subnets],
            },
            "Internal": network.internal,
            "Containers": {
                container_id: {
                    "Name": self._containers[container_id].name,
                    "EndpointID": endpoint.id,
                    "MacAddress": endpoint.mac,
                    "IPv4Address": _with_prefix(endpoint.ipv4, network.subnet(4)),
                    "IPv6Address": _with_prefix(endpoint.ipv6, network.subnet(6)),
                }
                for container_id, endpoint in network.endpoints.items()
            },
            "Options": dict(network.options),
            "Labels": dict(network.labels),
        }

    @_engine_call
    def create_network(self, definition: t.Mapping[str, t.Any]) -> str:
        if any(network.name == definition["Name"] for network in self._networks.values()):
            raise _error(409, "network with name {} already exists".format(definition["Name"]))
        return self.add_network(
            definition["Name"],
            [pool["Subnet"] for pool in definition["IPAM"]["Config"]],
            driver=definition["Driver"],
            internal=definition["Internal"],
            driver_opts=definition["Options"],
            labels=definition["Labels"],
        )

    @_engine_call
    def pause(self, container_id: str) -> None:
        container = self._container(container_id)
        if container.status == "running" and not container.freezes:
            raise NotSupported(f"the engine answers: Cannot pause container {container.id}: cannot freeze", status=500)
        self._move(container, "pause")

    @_engine_call
    def unpause(self, container_id: str) -> None:
        self._move(self._container(container_id), "unpause")

    @_engine_call
    def stop(self, container_id: str, grace: int) -> None:
        self._move(self._container(container_id), "stop")

    @_engine_call
    def kill(self, container_id: str) -> None:
        self._move(self._container(container_id), "kill")

    @_engine_call
    def start(self, container_id: str) -> None:
        self._move(self._container(container_id), "start")

    @_engine_call
    def set_restart_policy(self, container_id: str, name: str, maximum_retry_count: int) -> None:
        container = self._container(container_id)
        if name not in ("", "no", "always", "unless-stopped", "on-failure"):
            raise _error(400, f"invalid restart policy '{name}'")
        if maximum_retry_count and name != "on-failure":
            raise _error(400, f"maximum retry count cannot be used with restart policy '{name}'")
        if container.auto_remove and name not in ("", "no"):
            raise _error(
                409,
                f"Cannot update container {container.id}: Restart policy cannot be updated because AutoRemove is "
                "enabled for the container",
            )
        if name:
            container.restart_policy = (name, maximum_retry_count)
        self._emit(container, "update")

    @_engine_call
    def disconnect(self, network_id: str, container_id: str) -> None:
        container = self._container(container_id)
        if container.counts_as_running:
            self._disconnect_running(container, self._network(network_id))
            return
        # A stopped container only loses a key. Keys go by name, and the id of a deleted network is no name.
        with contextlib.suppress(NotFound):
            network_id = self._network(network_id).name
        if network_id not in container.keys:
            raise _error(500, f"container {container.id} is not connected to the network {network_id}")
        del container.keys[network_id]
        if self._traits.stopped_disconnect_told:
            self._emit(container, "disconnect", network_id=network_id)

    @_engine_call
    def connect(self, network_id: str, container_id: str, settings: EndpointSettings) -> None:
        container, network = self._container(container_id), self._network(network_id)
        # A stopped sidecar takes any network and shows it (measured); it has no effect.
        if container.counts_as_running and container.owner:
            raise _error(400, _SHARED)
        if not self._traits.mac_in_connect:
            comes_back = self._traits.mac_comes_back and container.is_made_for(network)
            settings = dataclasses.replace(settings, mac_address=container.mac_address if comes_back else "")
        settings = self._completed(settings, network, container)
        # The first settings stay in an existing key when the container is stopped, or when this connect fails.
        if network.name not in container.keys:
            _check_company(network, container)
            container.keys[network.name] = _Key(settings)
        if container.counts_as_running:
            self._attach(container, network, settings)

    @_engine_call
    def top(self, container_id: str) -> Pieces:
        container = self._container(container_id)
        if container.status not in _WITH_PROCESS:
            refusal = t.cast(_Refusal, _LIFECYCLE["pause"][container.status])
            raise _error(refusal.status, refusal.text.format(id=container.id))
        return self._sent_as_json("top", {"Titles": ["PID", "CMD"], "Processes": [[str(container.pid), "sleep 3600"]]})

    @_engine_call
    def stats(self, container_id: str) -> Pieces:
        runs = self._container(container_id).status in _WITH_PROCESS
        read = _timestamp(self._clock() if runs else None)
        return self._sent_as_json("stats", {"read": read, "pids_stats": {"current": 1} if runs else {}})

    @_engine_call
    def changed_files(self, container_id: str) -> Pieces:
        files = self._container(container_id).content.files
        return self._sent_as_json("changed_files", [{"Path": path, "Kind": 1} for path in files] or None)

    @_engine_call
    def logs(self, container_id: str, tail: int) -> Pieces:
        content = self._container(container_id).content
        if content.log_driver == "none":
            raise _error(501, "configured logging driver does not support reading")
        return self._sent("logs", b"".join(content.log.splitlines(keepends=True)[-tail:]))

    @_engine_call
    def archive(self, container_id: str, path: str) -> Pieces:
        container = self._container(container_id)
        content = container.content
        below = path.rstrip("/") + "/"
        found = {name: data for name, data in content.files.items() if f"{name}/".startswith(below)}
        mounted = any(f"{mount}/".startswith(below) for mount in (*content.tmpfs, *content.mounts))
        if not (found or mounted or path == "/"):
            raise _error(404, f"Could not find the file {path} in container {container.id}")
        return self._sent_as_tar("archive", found, content.tmpfs)

    @_engine_call
    def export(self, container_id: str) -> Pieces:
        container = self._container(container_id)
        left_out = (*container.content.tmpfs, *container.content.mounts)
        return self._sent_as_tar("export", container.content.files, left_out)

    # --- how it works inside ------------------------------------------------------------------------------------------

    def _sent_as_json(self, method: str, answer: object) -> Pieces:
        return self._sent(method, json.dumps(answer).encode() + b"\n")

    def _sent_as_tar(self, method: str, files: t.Mapping[str, bytes], left_out: t.Collection[str]) -> Pieces:
        written = io.BytesIO()
        with tarfile.open(fileobj=written, mode="w") as archive:
            for path, data in files.items():
                if not any(path.startswith(f"{mount}/") for mount in left_out):
                    entry = tarfile.TarInfo(path.lstrip("/"))
                    entry.size = len(data)
                    archive.addfile(entry, io.BytesIO(data))
        return self._sent(method, written.getvalue())

    def _sent(self, method: str, answer: bytes) -> Pieces:
        """The answer in pieces, up to where break_off has it end."""
        after, error = self._breaks.pop(method, (len(answer), None))
        return _in_pieces(answer[:after], error)

    def _new_id(self) -> str:
        return hashlib.sha256(str(next(self._serial)).encode()).hexdigest()

    def _check_method(self, method: str) -> None:
        if not hasattr(getattr(type(self), method, None), "__wrapped__"):
            raise ValueError(f"{method} is not a call of the engine")

    def _world_acts(self) -> bool:
        return bool(getattr(self._world, "acts", False))

    @contextlib.contextmanager
    def _as_the_world(self) -> t.Iterator[None]:
        self._world.acts = True
        try:
            yield
        finally:
            self._world.acts = False

    def _container(self, reference: str) -> _Container:
        """As the engine looks up: full id, name, prefix. So a name that looks like a short id wins (finding 11)."""
        if reference in self._containers:
            return self._containers[reference]
        for container in self._containers.values():
            if container.name == reference.removeprefix("/"):
                return container
        matches = [container for container in self._containers.values() if container.id.startswith(reference)]
        if not matches:
            raise _error(404, f"No such container: {reference}")
        if len(matches) > 1:
            raise _error(self._traits.ambiguous_id, f"Multiple IDs found with provided prefix: {reference}")
        return matches[0]

    def _network(self, reference: str) -> _Network:
        if reference in self._networks:
            return self._networks[reference]
        matches = [network for network in self._networks.values() if network.name == reference]
        if len(matches) > 1:
            raise _error(400, f"network {reference} is ambiguous ({len(matches)} matches found on name)")
        matches = matches or [n for n in self._networks.values() if reference and n.id.startswith(reference)]
        if len(matches) != 1:
            raise _error(404, f"network {reference} not found")
        return matches[0]

    def _emit(self, container: _Container, *actions: str, network_id: str = "") -> None:
        """Tell those who follow the events, and remember them for a replay."""
        for action in actions:
            if network_id:
                self._publish_event("network", action, network_id, {"container": container.id})
            else:
                attributes = {**container.labels, "image": container.image, "name": container.name}
                self._publish_event("container", action, container.id, attributes)

    def _publish_event(self, kind: str, action: str, subject: str, attributes: dict[str, str]) -> None:
        last = self._past_events[-1]["timeNano"] if self._past_events else 0
        moment = max(int(self._clock().timestamp() * 10**9), last + 1)
        event: Json = {
            "Type": kind,
            "Action": action,
            "Actor": {"ID": subject, "Attributes": attributes},
            "scope": "local",
            "time": moment // 10**9,
            "timeNano": moment,
        }
        self._past_events.append(event)
        for stream in self._streams:
            stream.add(event)
        self._changed.notify_all()

    def _move(self, container: _Container, transition: str) -> None:
        """The state machine: every change of a state passes here."""
        target = _LIFECYCLE[transition][container.status]
        if isinstance(target, _Refusal):
            raise _error(target.status, target.text.format(id=container.id))
        had_process, has_process = container.status in _WITH_PROCESS, target in _WITH_PROCESS
        events = _EVENTS_OF[transition] if container.status != target else ()
        if container.status == "restarting" and target == "exited":
            # No process ends, and of a kill nothing is told at all (measured).
            events = tuple(event for event in events if event == "stop")
        if has_process and not had_process:
            self._enter_networks(container)
            container.pid = next(self._pids)
            container.started_at = self._clock()
            container.exit_code, container.error = 0, ""
            container.restart_count = container.restart_count + 1 if container.status == "restarting" else 0
        elif container.status != target and not has_process:
            self._leave_networks(container)
            container.pid = 0
            container.finished_at = self._clock()
            container.exit_code = 1 if target == "restarting" else 137
        container.status = target
        self._emit(container, *events)
        if target == "exited" and container.auto_remove:
            del self._containers[container.id]
            self._emit(container, "destroy")

    def _enter_networks(self, container: _Container) -> None:
        self._leave_networks(container)  # it may have been connected while it was restarting
        if container.owner:
            owner = self._container(container.owner)
            if owner.status not in _WITH_PROCESS:
                raise _error(409, self._traits.owner_refusal.format(id=owner.id))
            container.sandbox, container.hostname = owner.sandbox, owner.hostname
            return
        # In host mode that holds even without any key: disconnected while stopped, it is back on the host (measured).
        container.sandbox = _Sandbox(of_host=container.network_mode == "host")
        try:
            for name, key in list(container.keys.items()):
                network = self._network(key.network_id or name)
                self._attach(container, network, self._completed(key.settings, network, container))
        except EngineError as error:
            self._leave_networks(container)
            container.error = str(error)
            raise

    def _completed(self, settings: EndpointSettings, network: _Network, container: _Container) -> EndpointSettings:
        """The settings as the engine keeps them: checked, and on 20.10 with short id and host name as aliases."""
        static = [address for address in (settings.ipv4_address, settings.ipv6_address) if address]
        if not network.user_defined:
            if static:
                raise _error(400, "user specified IP address is supported on user defined networks only")
            if settings.aliases:
                raise _error(400, "network-scoped alias is supported only for containers in user defined networks")
            return settings
        if static and not (network.user_configured or self._traits.static_on_automatic):
            raise _error(
                400,
                "user specified IP address is supported only when connecting to networks with user configured subnets",
            )
        for address in static:
            if self._traits.checks_subnet and not network.contains(address):
                raise _error(400, f"no configured subnet or ip-range contain the IP address {address}")
        if not self._traits.own_names_are_aliases:
            return settings
        own_names = dict.fromkeys((container.id[:SHORT_ID_LENGTH], container.hostname))
        added = tuple(name for name in own_names if name not in settings.aliases)
        return dataclasses.replace(settings, aliases=settings.aliases + added)

    def _leave_networks(self, container: _Container) -> None:
        for network in self._networks.values():
            network.endpoints.pop(container.id, None)
        for key in container.keys.values():
            key.endpoint = None
        if not container.owner:
            container.sandbox.endpoints.clear()
        container.host_ports.clear()

    def _attach(self, container: _Container, network: _Network, settings: EndpointSettings) -> None:
        if container.id in network.endpoints:
            raise _error(403, f"endpoint with name {container.name} already exists in network {network.name}")
        endpoint = _Endpoint(id=self._new_id(), leads_out=bool(network.subnets) and not network.internal)
        endpoint.ipv4 = network.address(4, settings.ipv4_address)
        endpoint.ipv6 = network.address(6, settings.ipv6_address)
        if endpoint.ipv4:
            # Random as its id is.
            made = bytes.fromhex(endpoint.id[:8]) if self._traits.random_macs else _packed(endpoint.ipv4)
            endpoint.mac = settings.mac_address or "02:42:" + made.hex(":")
        key = container.keys[network.name] = _Key(settings, network.id, endpoint)
        if network.id in container.sandbox.endpoints:  # left by a connect that failed
            key.endpoint = dataclasses.replace(endpoint, interface=container.sandbox.endpoints[network.id].interface)
            raise _error(
                500,
                f'failed to add interface veth0 to sandbox: error setting interface "veth0" IP to {endpoint.ipv4}: '
                "cannot program address in sandbox interface because it conflicts with existing route",
            )
        container.sandbox.add(network, endpoint, self._traits.interface_names_return)
        # Where this fails the engine forgets the endpoint and its address, and the interface stays (finding 1).
        try:
            self._publish(container, network, endpoint)
        except EngineError:
            if not self._traits.failed_connect_leaves_interface:
                del container.sandbox.endpoints[network.id]
            raise
        # Also of an internal network, where nothing is routed (measured).
        has_gateway = bool(network.subnets) and (self._traits.internal_gateway or not network.internal)
        endpoint.gateway = str(network.subnets[0].network_address + 1) if has_gateway else ""
        network.endpoints[container.id] = endpoint
        self._emit(container, "connect", network_id=network.id)

    def _publish(self, container: _Container, network: _Network, endpoint: _Endpoint) -> None:
        lie = (Lie.FAILED_CONNECT, network.id)
        others = [other for other in self._containers.values() if other is not container]
        taken = {port for other in others for port in other.host_ports.values()}
        binding = container.published if endpoint.leads_out and not container.host_ports else {}
        conflict = next((port for port in binding.values() if port in taken), None)
        if lie in container.lies or conflict is not None:
            container.lies.discard(lie)
            raise _error(
                500,
                f"driver failed programming external connectivity on endpoint {container.name} ({endpoint.id}): "
                f"Bind for 0.0.0.0:{conflict or 80} failed: port is already allocated",
            )
        for port, host_port in binding.items():
            container.host_ports[port] = host_port or next(self._ephemeral_ports)

    def _disconnect_running(self, container: _Container, network: _Network) -> None:
        if network.driver == "host" and container.network_mode == "host":
            raise _error(400, self._traits.host_refusal)
        if network.endpoints.pop(container.id, None) is None:
            raise _error(500, f"container {container.id} is not connected to network {network.name}")
        container.sandbox.endpoints.pop(network.id, None)
        container.keys.pop(network.name, None)
        self._emit(container, *["disconnect"] * self._traits.disconnects_told, network_id=network.id)
        if not any(endpoint.leads_out for endpoint in container.sandbox.endpoints.values()):
            container.host_ports.clear()

    # --- what the engine answers --------------------------------------------------------------------------------------

    def _details(self, container: _Container) -> Json:
        name, count = container.restart_policy
        return {
            "Id": container.id,
            "Created": _timestamp(container.created),
            "State": {
                "Status": container.status,
                "Running": container.counts_as_running,
                "Paused": container.status == "paused",
                "Restarting": container.status == "restarting",
                "OOMKilled": False,
                "Dead": False,
                "Pid": container.pid,
                "ExitCode": container.exit_code,
                "Error": container.error,
                "StartedAt": _timestamp(container.started_at),
                "FinishedAt": _timestamp(container.finished_at),
            },
            "Name": f"/{container.name}",
            "Image": container.image_id,
            "RestartCount": container.restart_count,
            "HostConfig": {
                "NetworkMode": container.network_mode,
                "RestartPolicy": {"Name": name, "MaximumRetryCount": count},
                "AutoRemove": container.auto_remove,
                "Tmpfs": dict.fromkeys(container.content.tmpfs, ""),
                "LogConfig": {"Type": container.content.log_driver, "Config": {}},
                "PortBindings": {
                    port: [{"HostIp": "", "HostPort": str(host_port or "")}]
                    for port, host_port in container.published.items()
                },
            },
            "Mounts": [{"Type": kind, "Destination": path} for path, kind in container.content.mounts.items()],
            "Config": {
                "Image": container.image,
                "Labels": dict(container.labels),
                "Tty": False,
                **({"MacAddress": container.mac_address} if self._shows_mac(container) else {}),
            },
            "NetworkSettings": {
                "Ports": {
                    port: [{"HostIp": "0.0.0.0", "HostPort": str(host_port)}]  # noqa: S104 - an answer, nothing listens
                    for port, host_port in container.host_ports.items()
                },
                "Networks": {name: self._key_details(key, container) for name, key in sorted(container.keys.items())},
            },
        }

    def _shows_mac(self, container: _Container) -> bool:
        return self._traits.shows_mac_of_container and bool(container.mac_address)

    def _key_details(self, key: _Key, container: _Container) -> Json:
        settings, endpoint = key.settings, key.endpoint or _Endpoint(id="")
        if container.status == "created" and self._traits.mac_at_creation:
            endpoint.mac = (
                settings.mac_address
            )  # until it has run, what is asked for is shown; and never again (measured)
        network = self._networks.get(key.network_id)
        subnet, subnet6 = (network.subnet(4), network.subnet(6)) if network else (None, None)
        ipam: Json = {}
        if settings.ipv4_address:
            ipam["IPv4Address"] = settings.ipv4_address
        if settings.ipv6_address:
            ipam["IPv6Address"] = settings.ipv6_address
        if settings.link_local_ips:
            ipam["LinkLocalIPs"] = list(settings.link_local_ips)
        return {
            "IPAMConfig": ipam or None,
            "Links": list(settings.links) or None,
            "Aliases": list(settings.aliases) or None,
            "NetworkID": key.network_id,
            "EndpointID": endpoint.id,
            "Gateway": endpoint.gateway,
            "IPAddress": endpoint.ipv4,
            "IPPrefixLen": subnet.prefixlen if subnet and endpoint.ipv4 else 0,
            "IPv6Gateway": str(subnet6.network_address + 1) if subnet6 and endpoint.ipv6 else "",
            "GlobalIPv6Address": endpoint.ipv6,
            "GlobalIPv6PrefixLen": subnet6.prefixlen if subnet6 and endpoint.ipv6 else 0,
            "MacAddress": endpoint.mac,
            "DriverOpts": dict(settings.driver_opts) or None,
            **({"GwPriority": settings.gw_priority} if self._traits.gateway_priority else {}),
            **({} if self._traits.own_names_are_aliases else {"DNSNames": _names_in(network, container, settings)}),
        }

    def _summary(self, container: _Container) -> Json:
        details = self._details(container)
        networks = details["NetworkSettings"]["Networks"]
        return {
            "Id": container.id,
            "Names": [f"/{container.name}", *container.link_names],
            "Image": container.listed_image,
            "ImageID": container.image_id,
            "Created": int(container.created.timestamp()),
            "Labels": dict(container.labels),
            "State": container.status,
            "Status": {
                "created": "Created",
                "running": "Up 1 second",
                "paused": "Up 1 second (Paused)",
                "restarting": f"Restarting ({container.exit_code}) 1 second ago",
                "exited": f"Exited ({container.exit_code}) 1 second ago",
            }[container.status],
            "HostConfig": {"NetworkMode": container.network_mode},
            "Ports": [
                {
                    "IP": "0.0.0.0",  # noqa: S104 - an answer, nothing listens
                    "PrivatePort": int(port.partition("/")[0]),
                    "PublicPort": host_port,
                    "Type": port.partition("/")[2],
                }
                for port, host_port in container.host_ports.items()
            ],
            # The list never shows aliases (measured): a snapshot has to come from inspect.
            "NetworkSettings": {"Networks": {name: {**key, "Aliases": None} for name, key in networks.items()}},
        }


class FakeEventStream:
    """Events of the fake engine, as they come."""

    def __init__(self, changed: threading.Condition, past: t.Iterable[Json], silence: float) -> None:
        self.ended = False
        self.broken: EngineError | None = None
        self._changed = changed
        self._silence = silence
        self._events: collections.deque[Json] = collections.deque()
        self._waiting = False
        for event in past:
            self.add(event)

    def __iter__(self) -> t.Iterator[Json]:
        return self

    def __next__(self) -> Json:
        with self._changed:
            self._waiting = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._events or self.ended, self._silence)
            self._waiting = False
            if self.broken:
                raise self.broken
            if self.ended or not self._events:
                self.ended = True
                raise StopIteration
            return self._events.popleft()

    def add(self, event: Json) -> None:
        """Another event; the engine sends only those that were asked for."""
        if event["Action"] in EVENTS.get(event["Type"], ()):
            self._events.append(event)

    @property
    def exhausted(self) -> bool:
        """Whether its reader waits for an event that does not come."""
        return self._waiting and not self._events and not self.ended

    def close(self) -> None:
        """End the iteration."""
        with self._changed:
            self.ended = True
            self._changed.notify_all()


_WAY_TO: dict[str, tuple[str, ...]] = {
    "created": (),
    "running": ("start",),
    "paused": ("start", "pause"),
    "restarting": ("start", "crash"),
    "exited": ("start", "stop"),
}

_SHARED = "container sharing network namespace with another container or host cannot be connected to any other network"
_HOST = "container cannot be disconnected from host network or connected to host network"
_PRIVATE = "container cannot be connected to multiple networks with one of the networks in private (none) mode"


def _names_in(network: _Network | None, container: _Container, settings: EndpointSettings) -> list[str] | None:
    """All names by which others on a network find it. The default bridge has none."""
    if network is None or not network.user_defined:
        return None
    return list(dict.fromkeys((container.name, *settings.aliases, container.id[:SHORT_ID_LENGTH], container.hostname)))


def _check_company(network: _Network, container: _Container) -> None:
    """Host and none tolerate no other network beside them."""
    if network.driver == "host" and container.network_mode != "host":
        raise _error(400, _HOST)
    if "host" in container.keys:
        raise _error(400, _SHARED)
    if container.keys and ("none" in container.keys or network.name == "none"):
        raise _error(400, _PRIVATE)


def _in_pieces(answer: bytes, error: BaseException | None) -> Pieces:
    for start in range(0, len(answer), PIECE):
        yield answer[start : start + PIECE]
    if error is not None:
        raise error


def _packed(ipv4_address: str) -> bytes:
    return ipaddress.IPv4Address(ipv4_address).packed


def _with_prefix(address: str, subnet: _Subnet | None) -> str:
    return f"{address}/{subnet.prefixlen}" if address and subnet else ""


def _timestamp(moment: datetime.datetime | None) -> str:
    """RFC 3339 with nanoseconds, as the engine writes it."""
    if moment is None:
        return _ZERO_TIME
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
