# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""make demo: an attack, the alert about it, the isolation and the release, on real containers.

The guard runs as it would in production: its rulebook in ansible-rulebook, its playbooks in ansible-playbook. What came
of it is asked of the Docker Engine, through the Docker SDK, so that the guard is not its own witness.
"""

from __future__ import annotations

import ast
import contextlib
import ctypes
import datetime
import http.client
import ipaddress
import json
import os
import pathlib
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import types
import typing as t
from collections.abc import Callable, Iterator, Mapping

import docker
import docker.errors
import docker.types
import requests

IMAGE = "container-guard/busybox:latest"
POLICIES = pathlib.Path(__file__).absolute().parent / "demo_policies"
COLLECTION = "ironpost.container_guard"

# By these an interrupted demo is found: its containers and networks, its processes, its directories.
LABEL = "container-guard.demo"
MARK = "CONTAINER_GUARD_DEMO_DIRECTORY"
PREFIX = "container-guard-demo-"

TARGET, BYSTANDER = "guard-demo-target", "guard-demo-bystander"
FRONT, BACK, ALIAS = "guard-demo-front", "guard-demo-back", "shop-database"
# Falco in a container says the id of that as its host; the rulebook is told which host of the inventory it watches.
FALCO_HOST = "054aab939018"
COUNT = "n=0; while true; do n=$((n+1)); echo $n; sleep 0.1; done"
# In order of preference. Container managers like these ranges too, so what is in use is left out.
POOLS = ("10.88.0.0/16", "10.213.0.0/16", "172.30.0.0/16", "192.168.192.0/20")

WIDTH = 79
TICK, CROSS = ("✓", "✗") if "utf" in (sys.stdout.encoding or "").lower() else ("+", "x")
COLOUR = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

Json = dict[str, t.Any]


# --- the story --------------------------------------------------------------------------------------------------------


def tell(lab: Lab) -> None:
    """Run the demo in an empty lab. Raises UnmetError where something is not as promised."""
    step("Two containers run on two networks. One of them will be attacked.")
    rulebook = Rulebook(lab)  # takes some seconds to start, so it does while the rest is made
    target, bystander = lab.make_containers()
    address = lab.inspect(target)["NetworkSettings"]["Networks"][BACK]["IPAddress"]
    front_address = lab.inspect(target)["NetworkSettings"]["Networks"][FRONT]["IPAddress"]
    done(f"{BYSTANDER}  {bystander[:12]}  {FRONT}, {BACK}")
    done(f"{TARGET}     {target[:12]}  the same, static address {address}, alias {ALIAS}")
    for name in (ALIAS, front_address):
        wait_for(lambda name=name: lab.pings(name), f"an answer to a ping from the bystander to {name}", 10)
    done("The bystander reaches the target with a ping, on both networks.")

    step("The policies are checked and deployed.")
    why(f"ansible-playbook {COLLECTION}.deploy_policies")
    lab.playbook("deploy_policies", policies_src=str(POLICIES))
    deployed = json.loads(lab.policy_set.read_text())
    done("{} policies are in place; both containers match the first.".format(len(deployed["policies"])))

    step("The guard listens for alerts.")
    why(f"ansible-rulebook --rulebook {COLLECTION}.respond")
    rulebook.wait_until_it_listens()
    done(f"It takes them at http://127.0.0.1:{rulebook.port}/alerts from who has the token.")

    step("Strangers and nonsense are refused.")
    attack = f"{{{{ lookup('pipe', 'touch {lab.proof_of_attack}') }}}}"
    alert = falco_alert(target, "miner sh -c sleep 600; exit # " + attack)
    status, answer = rulebook.post(alert, token=secrets.token_urlsafe(24))
    expect(status == 401, "A wrong token is answered with 401", f"it was {status}: {answer}")
    detail(answer["error"]["message"])
    status, answer = rulebook.post({**alert, "priority": "Critcal"})
    expect(status == 400, "An alert with a misspelt priority is answered with 400", f"it was {status}: {answer}")
    detail(answer["error"]["message"])

    step("An attacker runs a binary in the target, and Falco notices.")
    lab.run(target, "cp", "/bin/busybox", "/root/miner")
    lab.start(target, "/root/miner", "sh", "-c", f"sleep 600; exit # {attack}")
    done("The binary runs. Its command line is a trap for whoever handles the alert:")
    detail(alert["output_fields"]["proc.cmdline"])
    before, bystander_before = lab.inspect(target), lab.inspect(bystander)
    why('curl -H "Authorization: Bearer $TOKEN" --data @alert.json URL')
    posted = time.time_ns()
    status, answer = rulebook.post(alert)
    answered = time.time_ns()
    expect(status == 202, "The alert is accepted with 202", f"the answer was {status}: {answer}")
    trace_id = answer["alerts"][0]["trace_id"]

    step("The guard isolates the container. Milliseconds since the alert was posted:")
    event = rulebook.wait_for(lambda: next(iter(lab.action_events()), None), "record in the action log", 60)
    outcome = event["outcome"]
    expect(outcome == "isolated", "The guard says isolated", f"it says {outcome}: {event['error'] or event['reasons']}")
    show_timeline(lab, target, posted, answered, event)
    expect(event["trace_id"] == trace_id, f"The record has the trace_id of the answer, {trace_id}", event["trace_id"])
    expect(event["policy_id"] == "demo-quarantine", "Policy demo-quarantine asked for it", event["policy_id"])

    step("What the Docker Engine says about it:")
    lab.expect_isolated(target, (address, front_address))
    lab.expect_untouched(bystander, bystander_before)
    arrived = rulebook.received_message()
    expect("{ { lookup(" in arrived and "{{" not in arrived, "The trap reached Ansible as dead text", repr(arrived))
    detail(arrived[arrived.index("command=") :])
    expect(not lab.proof_of_attack.exists(), "It was not executed", f"{lab.proof_of_attack} exists")

    step("After the investigation, somebody releases the container.")
    why(f"ansible-playbook {COLLECTION}.release -e guard_target=localhost")
    why(f"    -e guard_container={TARGET}")
    lab.playbook("release", guard_target="localhost", guard_container=TARGET)
    outcomes = [event["outcome"] for event in lab.action_events()]
    expect(outcomes == ["isolated", "released"], "The action log says isolated, released", f"it says {outcomes}")
    lab.expect_as_before(target, before)
    for name in (ALIAS, address, front_address):
        wait_for(lambda name=name: lab.pings(name), f"an answer to a ping from the bystander to {name}", 10)
    done(f"The bystander reaches it again, as {ALIAS} and at both addresses.")
    lab.expect_untouched(bystander, bystander_before)


def falco_alert(container: str, command: str) -> Json:
    """The message that Falco's http_output sends for its rule about binaries that are not of the image."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    moment = f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09}Z"
    repository, _, tag = IMAGE.partition(":")
    return {
        "hostname": FALCO_HOST,
        "priority": "Critical",
        "rule": "Drop and execute new binary in container",
        "source": "syscall",
        "tags": ["container", "mitre_persistence", "process"],
        "time": moment,
        "output": f"{moment}: Critical Executing binary not part of base image (user=root process=miner "
        f"proc_exepath=/root/miner container_id={container[:12]} container_name={TARGET} command={command})",
        "output_fields": {
            "container.id": container[:12],
            "container.image.repository": repository,
            "container.image.tag": tag,
            "container.name": TARGET,
            "evt.time.iso8601": seconds * 1_000_000_000 + nanoseconds,
            "evt.type": "execve",
            "proc.cmdline": command,
            "proc.exepath": "/root/miner",
            "proc.name": "miner",
            "proc.pname": "containerd-shim",
            "user.name": "root",
            "user.uid": 0,
        },
    }


def show_timeline(lab: Lab, target: str, posted: int, answered: int, event: Json) -> None:
    """Print when what happened. Raises UnmetError where the order is impossible."""
    timeline = {name: nanoseconds(moment) for name, moment in event["timeline"].items()}
    stages = {
        "accepted": "the event source has checked and normalised it",
        "decided": "the policy was found, on the host of the container",
        "acted": "isolated: the last call to the engine has returned",
        "verified": "read back from the engine, the networks and the kernel",
    }
    expect_quietly(set(stages) <= set(timeline), f"The record has the times of {', '.join(stages)}", str(timeline))
    ordered = [posted, *(timeline[stage] for stage in stages)]
    expect_quietly(ordered == sorted(ordered), "The times of the record are in order", str(event["timeline"]))
    lines = [(timeline[stage], stage, what) for stage, what in stages.items()]
    lines += [(posted, "posted", ""), (answered, "answered", "202 has arrived at the sender")]
    lines += [(moment, "", f"engine event: {what}") for moment, what in lab.engine_events(target, posted)]
    for moment, stage, what in sorted(lines):
        print(f"    {(moment - posted) / 1e6:8.0f} ms  {bold(stage.ljust(8))}  {what}".rstrip(), flush=True)


# --- the containers ---------------------------------------------------------------------------------------------------


class Lab:
    """All that the demo makes. As a context, it begins without the leftovers of an earlier demo, and leaves none."""

    def __init__(self) -> None:
        self.api = connect()
        self.directory = pathlib.Path()
        self.bystander = ""

    def __enter__(self) -> t.Self:
        # A name in the abstract namespace is freed by the kernel, however the demo ends.
        self._lock = socket.socket(socket.AF_UNIX)
        try:
            self._lock.bind("\0container-guard-demo")
        except OSError:
            raise UnmetError("Another demo is running on this machine. Wait for it to end") from None
        leftovers = self.remove_everything()
        if leftovers:
            print(f"(removed what an interrupted demo left: {leftovers})", flush=True)
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=PREFIX))
        (self.directory / "tmp").mkdir()
        (self.directory / "ansible.cfg").touch()
        variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "guard_state_dir": str(self.directory / "state"),
            "guard_policy_set_path": str(self.policy_set),
            "policies_path": str(self.policy_set),
        }
        self.inventory.write_text(json.dumps({"all": {"hosts": {"localhost": variables}}}))
        return self

    def __exit__(self, *_: object) -> None:
        # A second Ctrl-C must not leave half of it behind.
        for signum in SIGNALS:
            signal.signal(signum, signal.SIG_IGN)
        self.remove_everything()
        self._lock.close()

    @property
    def inventory(self) -> pathlib.Path:
        """The inventory: this machine as the only Docker host."""
        return self.directory / "inventory.json"

    @property
    def policy_set(self) -> pathlib.Path:
        """Where the policies are deployed."""
        return self.directory / "policy_set.json"

    @property
    def proof_of_attack(self) -> pathlib.Path:
        """Exists when something has executed the command in the alert."""
        return self.directory / "pwned"

    @property
    def environment(self) -> dict[str, str]:
        """For Ansible: nothing of the user's configuration, no file outside of the directory of the demo."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "EDA_"))}
        return {
            **kept,
            MARK: str(self.directory),
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(self.directory / "tmp"),
            "ANSIBLE_COLLECTIONS_PATH": os.environ["ANSIBLE_COLLECTIONS_PATH"],
            "ANSIBLE_CONFIG": str(self.directory / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.directory / "ansible"),
            "ANSIBLE_REMOTE_TMP": str(self.directory / "tmp"),
            "ANSIBLE_NOCOLOR": "1",
        }

    def make_containers(self) -> tuple[str, str]:
        """Start the target and the bystander, and return their ids. That of the bystander sorts first, as its name."""
        self._make_network(FRONT)
        subnet = self._make_network(BACK)
        bystander, target = sorted(self._make_container() for _ in range(2))
        self.bystander = bystander
        self.api.rename(bystander, BYSTANDER)
        self.api.rename(target, TARGET)
        self.api.connect_container_to_network(bystander, BACK)
        # The default in dynamic allocation is to count upwards from the start of the subnet.
        self.api.connect_container_to_network(target, BACK, ipv4_address=str(subnet[77]), aliases=[ALIAS])
        for container in (bystander, target):
            self.api.start(container)
        return target, bystander

    def _make_container(self) -> str:
        host_config = self.api.create_host_config(
            network_mode=FRONT,
            restart_policy={"Name": "unless-stopped"},
            log_config=docker.types.LogConfig(type="json-file"),
        )
        created = self.api.create_container(
            IMAGE, ["sh", "-c", COUNT], labels={LABEL: "true"}, host_config=host_config, stop_signal="SIGKILL"
        )
        return str(created["Id"])

    def _make_network(self, name: str) -> ipaddress.IPv4Network:
        for subnet in self._free_subnets():
            pool = docker.types.IPAMPool(subnet=str(subnet))
            try:
                self.api.create_network(
                    name, ipam=docker.types.IPAMConfig(pool_configs=[pool]), internal=True, labels={LABEL: "true"}
                )
            except docker.errors.APIError as error:
                # Somebody took it meanwhile, or the engine is on another machine and knows of routes that we do not.
                if "overlap" not in str(error):
                    raise
            else:
                return subnet
        raise UnmetError(f"There is no free subnet for a network in any of {', '.join(POOLS)}")

    def _free_subnets(self) -> Iterator[ipaddress.IPv4Network]:
        taken = list(routes())
        for network in self.api.networks():
            for config in (network["IPAM"] or {}).get("Config") or ():
                with contextlib.suppress(ValueError, KeyError):  # IPv6
                    taken.append(ipaddress.IPv4Network(config["Subnet"]))
        for pool in POOLS:
            for subnet in ipaddress.IPv4Network(pool).subnets(new_prefix=24):
                if not any(subnet.overlaps(other) for other in taken):
                    yield subnet

    def inspect(self, container: str) -> Json:
        """What the engine says about a container, but for commands that we run in it ourselves."""
        return {**self.api.inspect_container(container), "ExecIDs": None}

    def start(self, container: str, *command: str) -> str:
        """Start a command in a container and return its exec id. Raises UnmetError unless it runs."""
        exec_id = self.api.exec_create(container, list(command))["Id"]
        self.api.exec_start(exec_id, detach=True)
        found = self.api.exec_inspect(exec_id)
        expect_quietly(found["Running"] or found["ExitCode"] == 0, f"{command[0]} runs in the target", str(found))
        return str(exec_id)

    def run(self, container: str, *command: str) -> bool:
        """Run a command in a container to its end. Whether it succeeded."""
        exec_id = self.api.exec_create(container, list(command))["Id"]
        self.api.exec_start(exec_id)
        return bool(self.api.exec_inspect(exec_id)["ExitCode"] == 0)

    def pings(self, name: str) -> bool:
        """Whether a ping from the bystander is answered within a second."""
        return self.run(self.bystander, "ping", "-c", "1", "-W", "1", name)

    def counted(self, container: str) -> list[int]:
        """What the process of a container has printed: the natural numbers, as long as it goes on."""
        return [int(line) for line in self.api.logs(container).split()]

    def engine_events(self, container: str, since: int) -> list[tuple[int, str]]:
        """What the engine did to a container: time in nanoseconds since the epoch, and what."""
        found = {}
        # The engine takes seconds; a window that ends in the past ends the stream.
        for event in self.api.events(since=since // 10**9, until=int(time.time()) + 1, decode=True):
            about = event["Actor"]["Attributes"].get("container", event["Actor"]["ID"])
            if about == container and event["timeNano"] >= since and event["Action"] in ("pause", "disconnect"):
                network = event["Actor"]["Attributes"].get("name", "")
                # It tells some events twice.
                found.setdefault("paused" if event["Action"] == "pause" else f"off {network}", event["timeNano"])
        return [(moment, what) for what, moment in found.items()]

    def expect_isolated(self, target: str, addresses: tuple[str, ...]) -> None:
        """Raise UnmetError unless the target is frozen and off every network."""
        count = self.counted(target)
        found = self.inspect(target)
        expect(found["State"]["Paused"], "The target is paused", found["State"]["Status"])
        attached = found["NetworkSettings"]["Networks"]
        expect(not attached, "It is on no network by its own account", ", ".join(attached))
        members = [name for name in (FRONT, BACK) if target in self.api.inspect_network(name)["Containers"]]
        expect(not members, "and by that of the networks", ", ".join(members))
        answered = [address for address in addresses if self.pings(address)]
        expect(not answered, "The bystander gets no answer to a ping any more", f"{', '.join(answered)} answered")
        expect(self.counted(target) == count, "Its process stands still", "it went on printing numbers")

    def expect_untouched(self, bystander: str, before: Json) -> None:
        """Raise UnmetError unless all that the engine says about the bystander is as it was."""
        differences = different(before, self.inspect(bystander))
        expect(not differences, "The bystander is untouched: all of inspect is as before", "; ".join(differences))

    def expect_as_before(self, target: str, before: Json) -> None:
        """Raise UnmetError unless the target is as it was, and goes on where it stood still."""
        found = self.inspect(target)
        networks, networks_before = (
            {
                name: {key: value for key, value in endpoint.items() if key != "EndpointID"}
                for name, endpoint in one["NetworkSettings"]["Networks"].items()
            }
            for one in (found, before)
        )
        differences = different(networks_before, networks)
        what = "Networks, static address and alias are back: inspect is as before"
        expect(not differences, what, "; ".join(differences))
        differences = different(before["HostConfig"], found["HostConfig"])
        expect(not differences, "So is its restart policy, {Name}".format(**found["HostConfig"]["RestartPolicy"]), "")
        differences = different(before["State"], found["State"])
        expect(not differences, f"It is the same process, {found['State']['Pid']}", "; ".join(differences))
        stood_at = len(self.counted(target))
        wait_for(lambda: len(self.counted(target)) > stood_at, "the process to go on", 10)
        count = self.counted(target)
        expect(count == list(range(1, len(count) + 1)), "It goes on counting where it was paused", str(count[-20:]))

    def action_events(self) -> list[Json]:
        """The action log of the guard."""
        try:
            lines = (self.directory / "state" / "actions.jsonl").read_text().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def playbook(self, name: str, **variables: str) -> None:
        """Run a playbook of the collection. Raises UnmetError with all of its output where it fails."""
        command = ["ansible-playbook", f"{COLLECTION}.{name}", "--inventory", str(self.inventory)]
        command += ["--extra-vars", json.dumps(variables)]
        try:
            subprocess.run(
                command,
                check=True,
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=60,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        except subprocess.CalledProcessError as error:
            raise UnmetError(f"The playbook {COLLECTION}.{name} failed", output=error.stdout) from None
        except subprocess.TimeoutExpired as error:
            output = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ""
            raise UnmetError(f"The playbook {COLLECTION}.{name} did not end within 60 s", output=output) from None

    def remove_everything(self) -> str:
        """Remove what demos made, this one and earlier ones, and say what that was."""
        removed = end_processes()
        for container in self.api.containers(all=True, filters={"label": f"{LABEL}=true"}):
            with contextlib.suppress(docker.errors.NotFound):
                self.api.remove_container(container["Id"], force=True, v=True)
            removed.append(container["Names"][0].lstrip("/"))
        for network in self.api.networks(filters={"label": f"{LABEL}=true"}):
            # An interrupted connect may leave an endpoint without a container.
            for endpoint in self.api.inspect_network(network["Id"])["Containers"].values():
                self.api.disconnect_container_from_network(endpoint["Name"], network["Id"], force=True)
            self.api.remove_network(network["Id"])
            removed.append(network["Name"])
        for directory in pathlib.Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            if directory.lstat().st_uid == os.getuid():
                shutil.rmtree(directory)
                removed.append(str(directory))
        return ", ".join(removed)


def connect() -> docker.APIClient:
    """A client of the engine. Raises UnmetError where it does not answer."""
    where = os.environ.get("DOCKER_HOST") or "/var/run/docker.sock"
    try:
        api = docker.from_env(timeout=30).api
        api.inspect_image(IMAGE)
    except docker.errors.ImageNotFound:
        raise UnmetError(f"The image {IMAGE} is missing. Make it with: tools/setup.sh victim") from None
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise UnmetError(f"The Docker Engine at {where} does not answer. Start it with: make engine", str(error)) from None
    return api


def routes() -> Iterator[ipaddress.IPv4Network]:
    """What this machine has routes to, but for the default route."""
    with contextlib.suppress(FileNotFoundError), open("/proc/net/route", encoding="ascii") as table:
        for line in table.readlines()[1:]:
            fields = line.split()
            address, mask = (socket.inet_ntoa(int(fields[n], 16).to_bytes(4, sys.byteorder)) for n in (1, 7))
            if mask != "0.0.0.0":  # noqa: S104 - a mask, not an address to listen on
                yield ipaddress.IPv4Network(f"{address}/{mask}")


# --- the guard --------------------------------------------------------------------------------------------------------


class Rulebook:
    """ansible-rulebook with the rulebook of the collection."""

    def __init__(self, lab: Lab) -> None:
        self._token = secrets.token_urlsafe(24)
        self.port = 0
        self._log = lab.directory / "rulebook.log"
        variables = lab.directory / "variables.json"
        variables.touch(mode=0o600)
        variables.write_text(
            json.dumps(
                {
                    "guard_port": 0,  # the system chooses a free one
                    "guard_token": self._token,
                    "guard_host_map": {FALCO_HOST: "localhost"},
                }
            )
        )
        command = ["ansible-rulebook", "--verbose", "--print-events", "--rulebook", f"{COLLECTION}.respond"]
        command += ["--inventory", str(lab.inventory), "--vars", str(variables)]
        with self._log.open("wb") as log:
            # A session of its own: Ctrl-C reaches the demo alone, which then ends it.
            self._process = subprocess.Popen(
                command,
                cwd=lab.directory,
                env=lab.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def wait_for(self, condition: Callable[[], t.Any], what: str, seconds: float) -> t.Any:
        """As the function of this name, but give up at once when the process has ended."""

        def alive_and_true() -> t.Any:
            status = self._process.poll()
            if status is not None:
                raise UnmetError(f"ansible-rulebook ended with {status}, before there was any {what}")
            return condition()

        return wait_for(alive_and_true, what, seconds)

    def wait_until_it_listens(self) -> None:
        """Wait for the event source, and learn its port. Raises UnmetError."""
        pattern = re.compile(r"Taking alerts at http://127\.0\.0\.1:(\d+)/")
        found = self.wait_for(lambda: pattern.search(self._log.read_text(errors="replace")), "listening source", 60)
        self.port = int(found[1])

    def post(self, alert: Mapping[str, t.Any], token: str = "") -> tuple[int, Json]:
        """Post an alert; status and body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Authorization": f"Bearer {token or self._token}", "Content-Type": "application/json"}
        with contextlib.closing(connection):
            connection.request("POST", "/alerts", json.dumps(alert), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def received_message(self) -> str:
        """The text of the alert in the only event that the rule engine has received."""
        events = re.findall(r"\[received event\].*?\nEvent:\n(.*?)\n\*\*", self._log.read_text(), re.DOTALL)
        expect_quietly(len(events) == 1, "The rule engine received one event", f"it received {len(events)}")
        return str(ast.literal_eval(events[0])["alerts"][0]["message"])


# --- processes and signals --------------------------------------------------------------------------------------------

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class Interrupted(BaseException):  # noqa: N818 - as KeyboardInterrupt, which is no error either
    """A signal asks the demo to end."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


def interrupt(signum: int, _frame: types.FrameType | None) -> t.NoReturn:
    """Handle a signal."""
    raise Interrupted(signum)


def die_with_parent() -> None:
    """In a new process: end when the demo does, even if that is killed with SIGKILL."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def end_processes() -> list[str]:
    """End the processes of demos, and return their names."""
    ended: dict[int, str] = {}
    deadline = time.monotonic() + 10
    # A process that is about to start another may do so before it ends: look again until there is none.
    while found := dict(marked_processes()):
        if time.monotonic() > deadline:
            raise UnmetError(f"Processes {found} do not end")
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        ended |= found
        time.sleep(0.01)
    return [f"{name} ({pid})" for pid, name in ended.items()]


def marked_processes() -> Iterator[tuple[int, str]]:
    """Id and name of each process that a demo has started, directly or not."""
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        # Those of other users cannot be read, and those that have ended are empty.
        with contextlib.suppress(OSError):
            if f"\0{MARK}=".encode() in b"\0" + (entry / "environ").read_bytes():
                yield int(entry.name), (entry / "comm").read_text().strip()


# --- expectations and output ------------------------------------------------------------------------------------------


class UnmetError(Exception):
    """Something is not as promised.

    Attributes:
        output: of the program that failed, if any.
    """

    def __init__(self, expectation: str, found: str = "", output: str = "") -> None:
        super().__init__(f"{expectation}: no, {found}" if found else expectation)
        self.output = output


def expect_quietly(holds: object, expectation: str, otherwise: str) -> None:
    """Raise UnmetError, with what is so instead, where the expectation does not hold."""
    if not holds:
        raise UnmetError(expectation, otherwise or "it is not so")


def expect(holds: object, expectation: str, otherwise: str) -> None:
    """As expect_quietly, and print the expectation where it holds."""
    expect_quietly(holds, expectation, otherwise)
    done(f"{expectation}.")


def wait_for(condition: Callable[[], t.Any], what: str, seconds: float) -> t.Any:
    """Ask again and again until the answer is true, and return it. Raises UnmetError after some seconds."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise UnmetError(f"There was no {what} within {seconds:g} s")
        time.sleep(0.02)
    return answer


def different(before: Mapping[str, t.Any], after: Mapping[str, t.Any], prefix: str = "") -> list[str]:
    """Each value that is not the same in both."""
    found = []
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += different(old, new, f"{prefix}{key}.")
        elif old != new:
            found.append(f"{prefix}{key} was {old!r} and is {new!r}")
    return found


def nanoseconds(moment: str) -> int:
    """RFC 3339 to nanoseconds since the epoch."""
    return round(datetime.datetime.fromisoformat(moment).timestamp() * 1e6) * 1000


def styled(code: str, text: str) -> str:
    """The text in a colour, where the terminal has any."""
    return f"\033[{code}m{text}\033[0m" if COLOUR else text


def bold(text: str) -> str:
    """The text in bold."""
    return styled("1", text)


def paragraph(mark: str, text: str, style: Callable[[str], str] = str) -> None:
    """Print a text with a hanging indent behind a mark, wrapped to the width of a small terminal."""
    indent = " " * len(mark)
    lines = textwrap.wrap(text, WIDTH - len(mark), break_on_hyphens=False) or [""]
    print("\n".join((mark if n == 0 else indent) + style(line) for n, line in enumerate(lines)), flush=True)


_steps = 0


def step(text: str) -> None:
    """Print the heading of the next step."""
    global _steps
    _steps += 1
    print(flush=True)
    paragraph(f"{_steps:2}. ", text, bold)


def why(text: str) -> None:
    """Print the command that a person would type."""
    paragraph("    $ ", text, lambda line: styled("36", line))


def done(text: str) -> None:
    """Print what is so."""
    print(f"    {styled('32', TICK)} " + f"\n{' ' * 6}".join(textwrap.wrap(text, WIDTH - 6)), flush=True)


def detail(text: str) -> None:
    """Print what belongs to the line above."""
    paragraph(" " * 8, text, lambda line: styled("2", line))
