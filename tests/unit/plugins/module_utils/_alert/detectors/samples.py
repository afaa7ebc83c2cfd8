# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One message of each form in which detectors send: the shapes are real, the values are made up."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.detector import Overrides
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import (
    NO_OVERRIDES,
    Reading,
    read_message,
)

ID = "3f2a91c07be4d6c18a0b5e7f9a1c2d3e4f5061728394a5b6c7d8e9f0a1b2c3d4"
TIME = "2026-04-05T12:43:02.928967267Z"

Message = dict[str, t.Any]

FALCO: Message = {
    "hostname": "054aab939018",
    "priority": "Critical",
    "rule": "Drop and execute new binary in container",
    "source": "syscall",
    "tags": ["container", "process"],
    "time": TIME,
    "output": "12:43:02.928967267: Critical Executing binary not part of base image (proc_exe=/tmp/x)",
    "output_fields": {
        "container.id": ID[:12],
        "container.name": "shop",
        "container.image.repository": "registry.example.com:5000/shop",
        "container.image.tag": "4.2",
        "evt.time.iso8601": 1775392982928967267,
        "proc.pid": 73860,
    },
}
FALCOSIDEKICK: Message = {
    **FALCO,
    "uuid": "5b0c1a52-9f0e-4f5e-9c3b-3b1e0c6d2f10",
    "source": "syscalls",
    "tags": ["container", "custom"],
    "output_fields": {"container_id": ID[:12], "container_name": "shop", "proc_pid": 73860, "stage": "production"},
}

TETRAGON_PROCESS: Message = {
    "exec_id": "d2ViLTE6MTcyMDI=",
    "pid": 73860,
    "tid": 73860,
    "uid": 0,
    "cwd": "/",
    "binary": "/bin/dmesg",
    "arguments": "-T",
    "flags": "execve rootcwd clone",
    "start_time": "2026-04-05T12:43:02.834390020Z",
    "auid": 4294967295,
    "docker": ID[:31],
    "refcnt": 1,
    "in_init_tree": False,
}
TETRAGON_PARENT: Message = {**TETRAGON_PROCESS, "pid": 1, "docker": "0" * 31}
TETRAGON_POD: Message = {
    "namespace": "default",
    "name": "shop-5d7",
    "container": {
        "id": f"docker://{ID}",
        "name": "shop",
        "image": {
            "id": "docker-pullable://registry.example.com/shop@sha256:1f2e",
            "name": "registry.example.com/shop:4.2",
        },
        "start_time": "2026-04-05T12:40:00Z",
        "pid": 9,
    },
}


def tetragon(kind: str = "process_kprobe", process: Message = TETRAGON_PROCESS, **more: object) -> Message:
    """An event of Tetragon."""
    return {
        kind: {"process": process, "parent": TETRAGON_PARENT, **more},
        "node_name": "web-1",
        "time": "2026-04-05T12:43:02.834882128Z",
    }


TETRAGON_KPROBE = tetragon(
    function_name="cap_capable",
    args=[{"int_arg": 3}],
    action="KPROBE_ACTION_POST",
    policy_name="privileged-calls",
    message="a capability was asked for",
    tags=["observability.privilege_escalation"],
)

WAZUH_SHELL: Message = {
    "timestamp": "2026-04-05T12:43:02.411+0000",
    "rule": {
        "level": 5,
        "description": "Docker: Started shell session in container shop",
        "id": "87908",
        "firedtimes": 2,
        "mail": False,
        "groups": ["docker", "pci_dss_10.2.7"],
        "mitre": {"id": ["T1609"], "tactic": ["Execution"]},
    },
    "agent": {"id": "001", "name": "web-1", "ip": "192.0.2.7"},
    "manager": {"name": "siem"},
    "id": "1644409321.587369",
    "decoder": {"name": "json"},
    "data": {
        "integration": "docker",
        "docker": {
            "Type": "container",
            "Action": "exec_start: bash ",
            "Actor": {"ID": ID, "Attributes": {"image": "shop:4.2", "name": "shop"}},
            "scope": "local",
            "time": "1644409321",
            "timeNano": "1644409321410779904.000000",
        },
    },
    "location": "Wazuh-Docker",
}


def wazuh(rule: str, docker: Message, **more: object) -> Message:
    """An alert of Wazuh about an event of Docker."""
    return {
        **WAZUH_SHELL,
        "rule": {"level": 7, "description": f"Docker: {rule}", "id": rule, "groups": ["docker"]},
        "data": {"integration": "docker", "docker": docker},
        **more,
    }


WAZUH_OLD_ENGINE = wazuh(
    "87908",
    {
        "status": "exec_start: sh ",
        "id": ID,
        "from": "shop:4.2",
        "Type": "container",
        "Actor": {"ID": ID, "Attributes": {"image": "shop:4.2", "name": "shop"}},
    },
)
WAZUH_2018: Message = {
    **{key: value for key, value in WAZUH_SHELL.items() if key != "data"},
    "full_log": json.dumps(WAZUH_SHELL["data"]),
}
WAZUH_SHUFFLE: Message = {
    "severity": 1,
    "pretext": "WAZUH Alert",
    "title": "Docker: Started shell session in container shop",
    "text": None,
    "rule_id": "87908",
    "timestamp": "2026-04-05T12:43:02.411+0000",
    "id": "1644409321.587369",
    "all_fields": WAZUH_SHELL,
}
WAZUH_INDEX: Message = {"_index": "wazuh-alerts-4.x-2026.04.05", "_id": "x1", "_score": 1, "_source": WAZUH_SHELL}
WAZUH_LISTENER: Message = {
    **WAZUH_SHELL,
    "rule": {"level": 3, "description": "Docker: listener", "id": "87900", "groups": ["docker"]},
    "data": {"integration": "docker", "docker": {"Wodle event": "Started"}},
}
WAZUH_SSHD: Message = {
    "timestamp": "2026-04-05T12:43:02.411+0000",
    "rule": {"level": 10, "description": "sshd: brute force", "id": "5763", "groups": ["syslog", "sshd"]},
    "agent": {"id": "000", "name": "siem"},
    "full_log": "Apr  5 12:43:02 siem sshd[812]: Failed password for root from 203.0.113.9",
    "data": {"srcip": "203.0.113.9"},
}
WAZUH_FALCO_NESTED: Message = {
    **WAZUH_SHELL,
    "rule": {"level": 12, "description": "Falco: Critical", "id": "100200", "groups": ["falco"]},
    "data": {
        "hostname": "054aab939018",
        "priority": "Critical",
        "rule": "Drop and execute new binary in container",
        "source": "syscall",
        "time": TIME,
        "output": FALCO["output"],
        "tags": ["container", "process"],
        "output_fields": {
            "container": {
                "id": ID[:12],
                "name": "shop",
                "image": {"repository": "registry.example.com:5000/shop", "tag": "4.2"},
            },
            "evt": {"time": {"iso8601": "1775392982928967168.000000"}},
            "k8s": {"ns": {"name": "null"}},
            "proc": {"pid": "73860"},
        },
    },
}
WAZUH_FALCO_DOTTED: Message = {
    **WAZUH_FALCO_NESTED,
    "data": {
        **WAZUH_FALCO_NESTED["data"],
        "output_fields": {**FALCO["output_fields"], "k8s.ns.name": "null", "proc.pid": "73860"},
    },
}

SURICATA: Message = {
    "timestamp": "2026-04-05T12:43:02.828967+0000",
    "flow_id": 1805461738637437,
    "in_iface": "br-7d1f",
    "event_type": "alert",
    "src_ip": "172.18.0.4",
    "src_port": 41195,
    "dest_ip": "203.0.113.9",
    "dest_port": 53,
    "proto": "UDP",
    "ip_v": 4,
    "pkt_src": "wire/pcap",
    "direction": "to_server",
    "alert": {
        "action": "allowed",
        "gid": 1,
        "signature_id": 2025644,
        "rev": 1,
        "signature": "ET MALWARE Beacon",
        "category": "A Network Trojan was detected",
        "severity": 1,
        "metadata": {
            "signature_severity": ["Critical"],
            "attack_target": ["Client_and_Server"],
            "mitre_technique_id": ["T1071"],
        },
    },
    "flow": {"src_ip": "172.18.0.4", "dest_ip": "203.0.113.9", "pkts_toserver": 1},
}
SURICATA_LOCAL: Message = {
    "ts": "2017-11-24T10:35:17.123456",
    "event_type": "alert",
    "src_ip": "fe80:0000:0000:0000:0042:acff:fe12:0004",
    "dest_ip": "ff02:0000:0000:0000:0000:0000:0000:0016",
    "proto": "IPv6-ICMP",
    "alert": {
        "action": "allowed",
        "gid": 1,
        "signature_id": 1000001,
        "signature": "local",
        "category": "",
        "severity": 3,
    },
}

CROWDSEC: Message = {
    "capacity": 5,
    "created_at": "2026-04-05T12:43:09Z",
    "decisions": None,
    "events": [
        {
            "meta": [
                {"key": "datasource_path", "value": "shop"},
                {"key": "datasource_type", "value": "docker"},
                {"key": "source_ip", "value": "203.0.113.9"},
            ],
            "timestamp": "2026-04-05T12:43:02Z",
        }
    ],
    "events_count": 6,
    "id": 7,
    "kind": "crowdsec",
    "labels": None,
    "leakspeed": "10s",
    "machine_id": "web-1",
    "message": "Ip 203.0.113.9 performed 'crowdsecurity/http-probing' (6 events over 6.2s) at 2026-04-05 m=+6.2",
    "remediation": True,
    "scenario": "crowdsecurity/http-probing",
    "scenario_version": "0.4",
    "simulated": False,
    "source": {
        "as_number": "64500",
        "cn": "US",
        "ip": "203.0.113.9",
        "range": "203.0.113.0/24",
        "scope": "Ip",
        "value": "203.0.113.9",
    },
    "start_at": "2026-04-05T12:42:56.1Z",
    "stop_at": "2026-04-05T12:43:02.3Z",
    "uuid": "5b0c1a52-9f0e-4f5e-9c3b-3b1e0c6d2f11",
}
CROWDSEC_FILE: Message = {"time": "2026-04-05T12:43:09Z", "program": "crowdsec", "alert": CROWDSEC}

FIRING: Message = {
    "status": "firing",
    "labels": {
        "alertname": "ContainerMiner",
        "severity": "critical",
        "instance": "web-1:8080",
        "job": "cadvisor",
        "id": f"/system.slice/docker-{ID}.scope",
        "name": "shop",
        "image": "registry.example.com:5000/shop:4.2",
        "container_label_com_docker_compose_service": "shop",
    },
    "annotations": {"summary": "shop uses all of the processor", "description": "for 10 minutes"},
    "startsAt": "2026-04-05T12:43:02.928Z",
    "endsAt": "0001-01-01T00:00:00Z",
    "generatorURL": "http://prometheus:9090/graph",
    "fingerprint": "c1d2e3f405162738",
}
RESOLVED: Message = {
    **FIRING,
    "status": "resolved",
    "endsAt": "2026-04-05T12:50:00Z",
    "fingerprint": "0000000000000001",
}
ALERTMANAGER: Message = {
    "version": "4",
    "groupKey": '{}:{alertname="ContainerMiner"}',
    "truncatedAlerts": 0,
    "status": "firing",
    "receiver": "guard",
    "groupLabels": {"alertname": "ContainerMiner"},
    "commonLabels": {"alertname": "ContainerMiner"},
    "commonAnnotations": {},
    "externalURL": "http://alertmanager:9093",
    "alerts": [FIRING, RESOLVED],
}
GRAFANA: Message = {
    **ALERTMANAGER,
    "version": "1",
    "orgId": 1,
    "title": "[FIRING:1] ContainerMiner",
    "state": "alerting",
    "message": "**Firing**",
    "alerts": [
        {
            **FIRING,
            "values": {"B": 22},
            "valueString": "[ var='B' ]",
            "silenceURL": "https://grafana/x",
            "dashboardURL": "",
        }
    ],
}
RANCHER: Message = {
    "receiver": "guard",
    "status": "firing",
    "alerts": [{key: value for key, value in FIRING.items() if key not in ("status", "fingerprint")}],
    "commonLabels": {},
}
ALERTMANAGER_FALCO: Message = {
    **ALERTMANAGER,
    "alerts": [
        {
            **FIRING,
            "labels": {
                "source": "falco",
                "rule": "Terminal shell in container",
                "eventsource": "syscall",
                "priority": "Notice",
                "severity": "information",
                "hostname": "web-1",
                "tags": "container,shell",
                "container_id": ID[:12],
                "container_name": "shop",
                "container_image_repository": "registry.example.com:5000/shop",
                "container_image_tag": "4.2",
                "proc_cmdline": "sh -c id",
            },
            "annotations": {"info": "A shell", "description": "A shell", "summary": "Terminal shell in container"},
        }
    ],
}

IRONPOST: Message = {
    "id": "0d9c5a40-9f0e-4f5e-9c3b-3b1e0c6d2f12",
    "metadata": {
        "timestamp": {"secs_since_epoch": 1775392982, "nanos_since_epoch": 928967123},
        "source_module": "ebpf-engine",
        "trace_id": "5a1f7c52-0c5e-4a54-9a3e-6a8d1b9f4c77",
    },
    "alert": {
        "id": "0d9c5a40-9f0e-4f5e-9c3b-3b1e0c6d2f13",
        "title": "Port scan",
        "description": "40 ports in 2 seconds",
        "severity": "Medium",
        "rule_name": "port_scan",
        "source_ip": "172.18.0.4",
        "target_ip": "203.0.113.9",
        "created_at": {"secs_since_epoch": 1775392982, "nanos_since_epoch": 0},
    },
    "severity": "High",
}
GENERIC: Message = {
    "source": "honeypot",
    "rule": "Login with a canary password",
    "severity": "high",
    "time": TIME,
    "host": "web-1",
    "container": {"id": ID[:12], "name": "shop", "pid": 73860, "addresses": ["172.18.0.4"]},
    "tags": ["credentials"],
    "message": "user admin",
}


SAMPLES: dict[str, list[Message]] = {
    "falco": [FALCO],
    "falcosidekick": [FALCOSIDEKICK],
    "tetragon": [
        TETRAGON_KPROBE,
        tetragon(process={**TETRAGON_PROCESS, "pod": TETRAGON_POD}, function_name="sys_openat"),
        tetragon("process_tracepoint", subsys="syscalls", event="sys_enter_read"),
        tetragon("process_exec"),
    ],
    "wazuh": [
        WAZUH_SHELL,
        WAZUH_OLD_ENGINE,
        WAZUH_2018,
        WAZUH_SHUFFLE,
        WAZUH_INDEX,
        WAZUH_LISTENER,
        WAZUH_SSHD,
        WAZUH_FALCO_NESTED,
        WAZUH_FALCO_DOTTED,
    ],
    "suricata": [SURICATA, SURICATA_LOCAL, {**SURICATA, "event_type": "flow"}],
    "crowdsec": [CROWDSEC, CROWDSEC_FILE],
    "alertmanager": [ALERTMANAGER, RANCHER, ALERTMANAGER_FALCO],
    "grafana": [GRAFANA],
    "ironpost": [IRONPOST],
    "generic": [GENERIC],
}
"""By the name of the detector."""


def read(message: object, detector: str = "", severities: Overrides = NO_OVERRIDES) -> Reading:
    """The reading of a message that is sent alone."""
    return read_message(json.dumps(message).encode(), detector, severities)


def read_one(message: object, detector: str = "", severities: Overrides = NO_OVERRIDES) -> Alert:
    """The only element of a message, which is an alert."""
    found = read(message, detector, severities)
    assert (found.rejected, found.passed_over) == ((), {})
    (alert,) = found.alerts
    return alert
