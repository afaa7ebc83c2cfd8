# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""make demo: an attack, the alert about it, the isolation and the release, on real containers."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import secrets
import shutil
import sys
import time
import typing as t

import docker.errors
import requests
from demo_lib.guard import COLLECTION, Guard
from demo_lib.lab import ALIAS, BACK, BYSTANDER, FRONT, IMAGE, TARGET, Lab, root_cause
from demo_lib.processes import Interrupted, handle_signals
from demo_lib.screen import UnmetError, bold, detail, done, expect, expect_quietly, failed, paragraph, step, typed

POLICIES = pathlib.Path(__file__).absolute().parent / "demo_policies"
# Falco in a container gives the id of that as its host. The rulebook is told which host of the inventory it watches.
FALCO_HOST = "054aab939018"
# BusyBox does what its arguments say only under a name that begins with its own.
DROPPED = "/root/busybox-miner"

Json = dict[str, t.Any]


def tell(lab: Lab) -> None:
    """Run the demo in an empty lab. Raises UnmetError where something is not as promised."""
    step("Two containers share two networks")
    guard = Guard(lab.directory, host_map={FALCO_HOST: "localhost"})
    guard.start()  # takes some seconds, in which the rest is made
    target, bystander = lab.make_containers()
    addresses = {name: lab.inspect(target)["NetworkSettings"]["Networks"][name]["IPAddress"] for name in (FRONT, BACK)}
    done(f"{BYSTANDER}  {bystander[:12]}")
    done(f"{TARGET}     {target[:12]}  will be attacked")
    detail(f"On {BACK} it has a static address, {addresses[BACK]}, and an alias, {ALIAS}.")
    lab.expect_answers((ALIAS, *addresses.values()))

    step("The policies are checked and deployed")
    typed(f"ansible-playbook {COLLECTION}.deploy_policies \\", f"    -e policies_src=tools/{POLICIES.name}")
    guard.playbook("deploy_policies", policies_src=str(POLICIES))
    policies = json.loads(guard.policy_set.read_text())["policies"]
    done(f"{len(policies)} policies are in place. Both containers match both of them.")

    step("The guard starts to listen for alerts")
    typed(f"ansible-rulebook --rulebook {COLLECTION}.respond ...")
    guard.wait_until_it_listens()
    done(f"It takes alerts at {guard.url} from who has the token.")

    step("Strangers and nonsense are refused")
    proof = lab.directory / "pwned"
    command = [DROPPED, "sh", "-c", f"sleep 600; exit # {{{{ lookup('pipe', 'touch {proof}') }}}}"]
    status, answer = guard.post(falco_alert(target, command), token=secrets.token_urlsafe(24))
    expect(status == 401, "A wrong token is answered with 401", f"it was {status}: {answer}")
    detail(answer["error"]["message"])
    status, answer = guard.post({**falco_alert(target, command), "priority": "Critcal"})
    expect(status == 400, "A misspelt priority is answered with 400", f"it was {status}: {answer}")
    detail(answer["error"]["message"])

    step("An attacker runs a binary in the target. Falco notices and sends an alert")
    lab.attack(target, command)
    done("The binary runs. Its command line is a trap for Ansible, a template:")
    detail(" ".join(command))
    target_before, bystander_before = lab.inspect(target), lab.inspect(bystander)
    typed('curl -H "Authorization: Bearer $TOKEN" -d @alert.json \\', f"    {guard.url}")
    posted = time.time_ns()
    status, answer = guard.post(falco_alert(target, command))
    answered = time.time_ns()
    expect(status == 202, "The alert is accepted with 202", f"the answer was {status}: {answer}")
    trace_id = answer["alerts"][0]["trace_id"]

    step("The guard isolates the container it is about")
    event = guard.wait_for_action()
    found = f"{event['outcome']}, {event['error'] or '; '.join(event['reasons'])}"
    expect_quietly(event["outcome"] == "isolated", "The outcome is isolated", found)
    show_timeline(lab, target, posted, answered, event)
    expect_quietly(event["container"]["id"] == target, "The record is about the target", str(event["container"]))
    expect_quietly(event["policy_id"] == "demo-quarantine", "Policy demo-quarantine asked for it", event["policy_id"])
    expect(event["trace_id"] == trace_id, "The action log has it, with the trace_id of the answer to the alert", "")
    detail(f"{trace_id}, policy {event['policy_id']}")

    step("The Docker Engine and the network agree. The guard is not its own witness")
    stood_at = lab.expect_isolated(target, tuple(addresses.values()))
    lab.expect_untouched(bystander, bystander_before)
    detail("It matches the policies too, and is first by name and by id.")
    arrived = guard.received_message()
    expect("{ { lookup(" in arrived and "{{" not in arrived, "The trap reached Ansible as plain text", repr(arrived))
    detail(arrived[arrived.index(DROPPED + " sh") :].removesuffix(")"))
    expect(not proof.exists(), "It was not executed", f"{proof} exists")

    step("After the investigation somebody releases the container")
    typed(f"ansible-playbook {COLLECTION}.release \\", f"    -e guard_target=localhost -e guard_container={TARGET}")
    guard.playbook("release", guard_target="localhost", guard_container=TARGET)
    outcomes = ", ".join(event["outcome"] for event in guard.actions())
    expect(outcomes == "isolated, released", "The action log now says isolated, released", f"it says {outcomes}")
    lab.expect_as_before(target, target_before, stood_at)
    lab.expect_answers((ALIAS, *addresses.values()))
    lab.expect_untouched(bystander, bystander_before)


def falco_alert(container: str, command: list[str]) -> Json:
    """The message that Falco's http_output sends for its rule about binaries that are not of the image."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    moment = f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09}Z"
    repository, _, tag = IMAGE.partition(":")
    command_line = " ".join(command)
    return {
        "hostname": FALCO_HOST,
        "priority": "Critical",
        "rule": "Drop and execute new binary in container",
        "source": "syscall",
        "tags": ["container", "mitre_persistence", "process"],
        "time": moment,
        "output": f"{moment}: Critical Executing binary not part of base image (user=root process=busybox-miner "
        f"proc_exepath={DROPPED} container_id={container[:12]} container_name={TARGET} command={command_line})",
        "output_fields": {
            "container.id": container[:12],
            "container.image.repository": repository,
            "container.image.tag": tag,
            "container.name": TARGET,
            "evt.time.iso8601": seconds * 1_000_000_000 + nanoseconds,
            "evt.type": "execve",
            "proc.cmdline": command_line,
            "proc.exepath": DROPPED,
            "proc.name": pathlib.PurePath(DROPPED).name,
            "proc.pname": "containerd-shim",
            "user.name": "root",
            "user.uid": 0,
        },
    }


def show_timeline(lab: Lab, target: str, posted: int, answered: int, event: Json) -> None:
    """Print when what happened. Raises UnmetError where the order is impossible."""
    timeline = {name: nanoseconds(moment) for name, moment in event["timeline"].items()}
    stages = {
        "accepted": "the event source has checked the alert",
        "decided": "the playbook has found container and policy",
        "acted": "the engine has done all it was told",
        "verified": "the state was read back",
    }
    expect_quietly(set(stages) <= set(timeline), f"The record has the times of {', '.join(stages)}", str(timeline))
    ordered = [posted, *(timeline[stage] for stage in stages)]
    expect_quietly(ordered == sorted(ordered), "The times of the record are in order", str(event["timeline"]))
    names = {"acted": "isolated"}
    lines = [(timeline[stage], names.get(stage, stage), what) for stage, what in stages.items()]
    lines += [(posted, "posted", ""), (answered, "answered", "the sender has read 202")]
    lines += [(moment, "", f"event of the engine: {what}") for moment, what in lab.engine_events(target, posted)]
    for moment, stage, what in sorted(lines):
        print(f"    {(moment - posted) / 1e6:8.0f} ms  {bold(stage.ljust(8))}  {what}".rstrip(), flush=True)


def nanoseconds(moment: str) -> int:
    """RFC 3339 to nanoseconds since the epoch."""
    return round(datetime.datetime.fromisoformat(moment).timestamp() * 1e6) * 1000


def run() -> None:
    """Run the demo and remove what it made. Raises UnmetError and what the Docker SDK raises."""
    if not shutil.which("ansible-rulebook") or "ANSIBLE_COLLECTIONS_PATH" not in os.environ:
        raise UnmetError("The environment of the demo is missing. Run it with: make demo")
    with Lab() as lab:
        try:
            tell(lab)
        except UnmetError as error:
            # The log is about to be removed.
            log = lab.directory / "rulebook.log"
            if not error.output and log.exists():
                error.output = "\n".join(log.read_text(errors="replace").rstrip().splitlines()[-80:])
            failed(error)
            raise
        except Interrupted as error:
            print(f"\nInterrupted by {error}: removing what the demo made ...", file=sys.stderr, flush=True)
            raise


def main() -> int:
    """Run the demo; the exit status."""
    handle_signals()
    started = time.monotonic()
    try:
        run()
        seconds = time.monotonic() - started
        print(flush=True)
        paragraph("", f"All of this is so. The demo took {seconds:.1f} s and has removed what it made.", bold)
    except Interrupted as error:
        return 128 + error.signum
    except UnmetError as error:
        print(f"\nerror: the demo failed. {error}", file=sys.stderr, flush=True)
        return 1
    except (docker.errors.DockerException, requests.RequestException) as error:
        print(f"\nerror: the demo failed. The Docker Engine: {root_cause(error)}", file=sys.stderr)
        print("What is left of the demo on it, the next demo removes.", file=sys.stderr, flush=True)
        return 1
    except BrokenPipeError:  # of make demo | head
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
