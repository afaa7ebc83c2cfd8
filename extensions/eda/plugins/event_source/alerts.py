# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Event source: takes alerts of runtime detectors over HTTP, from files, and from topics of Kafka."""

from __future__ import annotations

DOCUMENTATION = r"""
---
short_description: Take alerts of runtime detectors over HTTP, from files, and from topics of Kafka
description:
  - Takes alerts about containers from runtime detectors, keeps them on disk, and hands them to the rule engine as
    events until every host that they concern has answered, or until it has told by name that they were not answered.
  - "C(POST /alerts[/DETECTOR][/TOKEN]) takes one alert, an array of them, or one on each line, as JSON; a body may be
    compressed with C(Content-Encoding). C(PUT) does the same. The answer is 202 with what became of each element, or an
    error as JSON that says what to do. C(GET /healthz) says whether alerts are answered, and C(GET /metrics) counts, in
    the text format of Prometheus; both answer everybody."
  - "An event is C({alerts: [...], meta: {hosts: [...]}, delivery: {...}}). RV(ignore:alerts) holds normalised alerts,
    whose C(inventory_host) is set where the host is known. RV(ignore:meta.hosts) holds the inventory hosts concerned,
    to which the engine limits a playbook run. RV(ignore:delivery) is what M(ironpost.container_guard.alert_response)
    needs to say that a host has answered. An event C({unanswered: [...], meta: {}}) holds alerts that no host
    answered."
  - "C(POST /events[/TOKEN]) takes what host services report, and who may send it is said as for alerts. A report, and
    what heartbeats say together, is an event of its own, such as C({action: {...}, host: ..., id: ..., meta: {}}), or
    C({missing: {...}, host: ..., id: ..., meta: {}}). See docs/service-reports.md."
  - No text in an event is a template to Ansible, whatever a detector sent, so a playbook may use every field. The
    message as received is in C(raw), as base64, where there is room for it.
options:
  host:
    description:
      - Address to listen on.
      - The default takes alerts of this machine only, as exposing a listener should be a decision. Use V(0.0.0.0), or
        better the address of one interface, for detectors on other hosts, together with O(certfile). Plain HTTP on an
        address that is not loopback is logged as a warning.
    type: str
    default: 127.0.0.1
  port:
    description: TCP port to listen on, 0 to 65535. With 0 the system chooses one, which the log tells.
    type: int
    default: 5000
  token:
    description:
      - "Senders must show this in a header, C(Authorization: Bearer TOKEN)."
      - At least 16 characters, visible ASCII only. A text that reads as a number is refused, since templating would
        turn it into one.
      - At least one of O(token), O(path_token), O(hmac_secret), O(cafile) and O(senders) must be set for alerts to be
        posted. With tokens and path tokens, any of them is enough. With O(files) or O(kafka) none need be set, and
        every request to post is refused then.
    type: str
  tokens:
    description: Further ones, each as good as O(token), so that senders can change to a new one after the other.
    type: list
    elements: str
    default: []
  path_token:
    description:
      - Senders must post to C(/alerts/PATH_TOKEN). For detectors that can send no header, such as Falco.
      - At least 16 characters, letters, digits, C(-), C(.), C(_) and C(~) only. Use it with O(certfile), as it is part
        of the address.
    type: str
  path_tokens:
    description: Further ones, each as good as O(path_token).
    type: list
    elements: str
    default: []
  hmac_secret:
    description:
      - Senders must sign the body with this key, in addition to what else they must show. The header O(hmac_header)
        holds the HMAC-SHA256 of the body, in hexadecimal, perhaps after C(sha256=).
      - At least 16 characters, visible ASCII only.
      - Where nothing else is set, the body of a stranger is read before it is refused.
    type: str
  hmac_secrets:
    description: Further ones, each as good as O(hmac_secret).
    type: list
    elements: str
    default: []
  hmac_header:
    description: Name of the header that holds the signature of the body.
    type: str
    default: X-Hub-Signature-256
  certfile:
    description:
      - PEM file with the certificate chain of this listener. Enables TLS.
      - O(certfile), O(keyfile) and O(cafile) are read again when they change. Connections that are open then are closed
        with their next answer. Files that cannot be used are told, and the old ones hold.
      - A certificate that has expired, or does within 30 days, is told in the log and by C(/healthz).
    type: path
  keyfile:
    description: PEM file with the private key, without a password. Not needed where O(certfile) holds the key.
    type: path
  cafile:
    description:
      - PEM file with certificate authorities. Enables mutual TLS, senders need a certificate of one of them, for
        C(/healthz) and C(/metrics) too.
      - It is required in addition to tokens where these are set, and is enough where they are not and there are no
        O(senders).
    type: path
  certificate_required:
    description: Whether senders without a client certificate are refused where O(cafile) is set. With V(false) one of
      O(token), O(path_token), O(hmac_secret) and O(senders) must be set, as the certificate shows nothing then.
    type: bool
    default: true
  senders:
    description:
      - Senders that may speak for certain hosts only. Alerts about other hosts are rejected, and those whose host is
        not known are looked up on these hosts only, or are about the one host where there is one.
      - What O(token) and the like let in may speak for every host. Leave them out where all senders are listed.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name for the log and the metrics. V(any), V(file) and V(kafka) are the names of the source's own.
        type: str
        required: true
      hosts:
        description: Inventory hosts that it may speak for.
        type: list
        elements: str
        required: true
      tokens:
        description: Tokens in a header, of which it must show one.
        type: list
        elements: str
      path_tokens:
        description: Secret last parts of the path, of which it must use one where it shows no token.
        type: list
        elements: str
      certificate:
        description:
          - Name in its client certificate, the common name or an alternative name (DNS, URI, email), in any case.
          - It is required in addition where tokens are set.
        type: str
      hmac_secrets:
        description: Keys, with one of which it must sign the body.
        type: list
        elements: str
  body_limit:
    description: Largest body of a request in bytes, after decompression, and largest record of a topic, 1024 to
      10485760.
    type: int
    default: 1048576
  read_timeout:
    description: Longest time for the head of a request to arrive, and for its body, in seconds, 1 to 60.
    type: float
    default: 10
  max_connections:
    description:
      - Most open connections, 1 to 100000. There are fewer where the process may not open so many files, which the log
        tells.
      - Where as many are open, a new one takes the place of the oldest on which nobody has proved himself.
    type: int
    default: 1024
  max_connections_per_address:
    description: Most open connections of one address, or of one network of 64 bits with IPv6, 1 to 100000.
    type: int
    default: 256
  max_requests:
    description: Most requests whose bodies are read and stored at the same time, 1 to 10000. Others wait up to
      O(read_timeout), and get 503 then. It bounds the memory to as many times O(body_limit).
    type: int
    default: 128
  max_requests_per_address:
    description: Most of them of one address, 1 to 10000.
    type: int
    default: 32
  files:
    description:
      - Files of JSON lines that are followed, across rotation and truncation. Where they were read to is kept in the
        spool.
      - An element is a path, or a dictionary.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path of the file. It need not exist yet.
        type: path
        required: true
      detector:
        description: Name of the detector that writes it. Where it is left out, the shape of a line tells.
        type: str
      host:
        description: Inventory host that its alerts are about where they name none that is known.
        type: str
  kafka:
    description:
      - Topics of Kafka that alerts are taken from, as a member of a consumer group, so that several sources share the
        partitions. A record is committed once its alerts, and those of all records before it, have ended. So whoever
        gets the partitions of a source that died is given what that one has not brought to its end.
      - It needs the Python packages C(aiokafka) and C(cramjam) where ansible-rulebook runs.
      - The value of a record is what a request has as its body. What cannot be taken is rejected, counted and told with
        topic, partition and offset, and its offset is committed like others.
    type: dict
    suboptions:
      bootstrap_servers:
        description: Brokers to begin with, each as V(broker.example.com:9093).
        type: list
        elements: str
        required: true
      topics:
        description: Names of the topics. They need not exist yet.
        type: list
        elements: str
        required: true
      group_id:
        description: Name of the consumer group. Sources that share the topics have the same one.
        type: str
        default: container-guard
      client_id:
        description: Name by which brokers log this source, and tie quotas to it.
        type: str
        default: container-guard
      detector:
        description: Name of the detector whose messages these are. Where it is left out, the shape of each tells.
        type: str
      hosts:
        description: Inventory hosts that the topics may speak for. Alerts about others are rejected. Where it is left
          out, they speak for every host.
        type: list
        elements: str
      auto_offset_reset:
        description:
          - Where a partition begins of which the group has committed nothing, or something that is not there any more.
          - With V(earliest) a topic that is new to the group is read from its beginning, and nothing is lost in a
            partition that is added, or where the topic was faster than the group. Alerts older than
            C(limits.max_alert_age) of the policies are told as C(expired).
          - With V(latest) it is read from its end on, which is committed at once. That is for topics with a past.
        type: str
        choices: [earliest, latest]
        default: earliest
      security_protocol:
        description: How brokers are reached. Without TLS alerts cross the network in clear text, and with SASL so does
          the password, which the log warns of.
        type: str
        choices: [PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL]
        default: PLAINTEXT
      cafile:
        description: PEM file with the authorities of the brokers. The default is those of the system. The name of a
          broker is always checked.
        type: path
      certfile:
        description: PEM file with the certificate chain of this source, for brokers that ask for one.
        type: path
      keyfile:
        description: PEM file with its private key, without a password. Not needed where O(kafka.certfile) holds the
          key.
        type: path
      sasl_mechanism:
        description: How name and password are shown.
        type: str
        choices: [PLAIN, SCRAM-SHA-256, SCRAM-SHA-512]
        default: PLAIN
      sasl_username:
        description: Name of the user. Needed with SASL.
        type: str
      sasl_password:
        description: Password of the user. Needed with SASL.
        type: str
  severities:
    description:
      - "Severities that go before the map of a detector, as V({tetragon: {file-monitoring: high}})."
      - Keys are names of detectors, and their rules, tags or own words for a severity, see their documentation.
    type: dict
    default: {}
  hosts:
    description: Inventory names that detectors use as they are.
    type: list
    elements: str
    default: []
  host_map:
    description: Host name as a detector says it, to inventory name. Falco in a container says the id of its own
      container unless C(FALCO_HOSTNAME) is set.
    type: dict
    default: {}
  lookup_hosts:
    description:
      - Inventory hosts or groups that are asked about an alert whose host is in neither O(hosts) nor O(host_map).
      - An empty list rejects such alerts. They are logged and counted, and the answer says so.
    type: list
    elements: str
    default: [all]
  inventory:
    description:
      - Inventory of the playbook runs, as C(ansible-playbook -i) takes it. Hosts in the options that are not in it are
        told at the start and by C(/healthz), and O(lookup_hosts) is known to mean these hosts.
      - C(ansible-inventory) reads it, at the start and every five minutes.
    type: str
    default: ""
  policy_set:
    description:
      - File of the policy set that the hosts have, as M(ironpost.container_guard.policy_set) deploys it. Alerts that no
        policy in it wants are dropped at once.
      - It is watched. A set that cannot be used is told, and the one before holds.
    type: path
    default: ""
  policy_set_confirmed_for:
    description: How long a host's word that it has that policy set holds, in seconds, 0 to 31536000. Alerts that the
      set before wanted are dropped only for hosts that confirmed the new one.
    type: float
    default: 3600
  spool:
    description: Directory of the spool. The default is C(container-guard/spool) in C(XDG_STATE_HOME), which is
      C(~/.local/state) where it is not set.
    type: path
    default: ""
  spool_max_bytes:
    description: Largest size of the alerts that wait, in bytes, 1048576 to 1099511627776. Requests beyond it get 503.
    type: int
    default: 268435456
  spool_max_alerts:
    description: Most alerts that wait, 1 to 10000000. Requests beyond it get 503.
    type: int
    default: 100000
  history_days:
    description: How long alerts that ended are remembered, in days, 0 to 3650.
    type: float
    default: 7
  history_max_bytes:
    description: Largest size of these, in bytes, 0 to 1099511627776. The oldest go first.
    type: int
    default: 209715200
  raw_hours:
    description: How long their messages as received are kept, in hours, 0 to 87600.
    type: float
    default: 24
  batch_window:
    description:
      - Longest time that an alert waits for company in seconds, 0 to 10.
      - An event leaves earlier when no alert arrived for a sixteenth of it, so a lone alert waits 12 ms by default.
    type: float
    default: 0.2
  batch_interval:
    description: Least time between two events for one host in seconds, 0 to 3600.
    type: float
    default: 1
  batch_max:
    description: Most alerts in one event, 1 to 500. What is more leaves in the next event.
    type: int
    default: 500
  queue_max:
    description: Most alerts in one request, 1 to 1000000. A request may hold 1,000 in any case.
    type: int
    default: 10000
  max_deliveries:
    description: Most events whose playbook runs are under way, 2 to 21. The rule engine does 25 things at a time.
    type: int
    default: 21
  answer_timeout:
    description: How long hosts may take to answer before the alert is given to the engine again, in seconds, 1 to
      86400. It must be at least the longest that a playbook run may take.
    type: float
    default: 120
  run_timeout:
    description: How long a playbook run that the rulebook has started may live before it is ended, in seconds, 1 to
      86400. It must be more than O(answer_timeout), and than what is done after the answer, such as evidence, takes.
    type: float
    default: 900
  answer_deadline:
    description: How long it is tried before the alert is told as unanswered, in seconds, 1 to 86400. It should be below
      C(limits.max_alert_age) of the policies. Where O(policy_set) is set, the log and C(/healthz) warn when it is not.
    type: float
    default: 600
  forks:
    description:
      - How many hosts of a playbook run are worked on at the same time, 1 to 1000, so that hosts that hang do not keep
        others waiting. Runs are started with it as C(ANSIBLE_FORKS), unless that is set for ansible-rulebook.
      - What a job template of a controller says is a matter of that.
    type: int
    default: 50
  fold_isolated:
    description: How long after an isolation the same alert counts as answered by it, where it says that it happened
      before, in seconds, 0 to 3600.
    type: float
    default: 10
  max_isolations_per_fleet_window:
    description:
      - "Most containers that all hosts together isolate within a time, as V({count: 20, seconds: 600}): C(count) from 1
        to 10000, C(seconds) from 1 to 86400. By default there is no limit but that of each host, in its policies."
      - Where hosts have told of so many, alerts that wait and that come then are not delivered, and told with C(limit),
        until enough time has passed. Critical alerts are delivered all the same.
      - It counts what receipts tell, over restarts. What is under way when it is reached goes on.
    type: dict
  receipts:
    description:
      - Whether hosts say what they have answered. With V(false) alerts have ended once the engine has them.
      - With V(artifacts) the playbook hands it on, and the source reads it from the artifacts of the jobs that the rule
        engine has launched in AWX, or an automation controller. Nothing has to reach the source for that.
    type: raw
    default: true
  receipt_url:
    description: Address to which the playbook runs send that. The default is a listener of the source on the loopback
      interface.
    type: str
    default: ""
  receipt_port:
    description: TCP port of that listener, 0 to 65535. With 0 the system chooses one, and the same again after a
      restart.
    type: int
    default: 0
  controller_url:
    description:
      - Address of the controller of whose jobs the artifacts are read, where it is not the one that the rule engine was
        given, as by C(EDA_CONTROLLER_URL). An address with a path is taken for that of a gateway, as the engine does.
      - It needs O(controller_token). Whether its certificate is verified is said as for the engine, as by
        C(EDA_CONTROLLER_SSL_VERIFY).
    type: str
    default: ""
  controller_token:
    description:
      - OAuth token by which they are read, of a user who may see the job template and its jobs, and need not be allowed
        to launch any. The default is what the engine was given, as by C(EDA_CONTROLLER_TOKEN).
      - At least 16 characters, visible ASCII only.
    type: str
notes:
  - "All options can stand in one, C(guard), which is a dictionary of them. The rulebook of the collection passes the
    variable of that name."
  - "202 means on disk. Alerts are given to the engine until every host concerned has answered, also after a crash."
  - A failure to hand an event to the engine ends the source, and with it the rulebook, rather than to go on taking
    alerts that nobody answers.
"""

EXAMPLES = r"""
# Falco on the Docker hosts web-1 and web-2 posts to https://guard.example.com:5000/alerts/PATH_TOKEN
- ironpost.container_guard.alerts:
    host: 0.0.0.0
    certfile: /etc/container-guard/tls.crt
    keyfile: /etc/container-guard/tls.key
    path_token: "{{ guard_path_token }}"
    hosts: [web-1, web-2]
    host_map:
      054aab939018: web-3

# Each host has a certificate with its name, and speaks for itself alone.
- ironpost.container_guard.alerts:
    host: 0.0.0.0
    certfile: /etc/container-guard/tls.crt
    keyfile: /etc/container-guard/tls.key
    cafile: /etc/container-guard/senders-ca.crt
    senders:
      - {name: web-1, certificate: web-1.example.com, hosts: [web-1]}
      - {name: web-2, certificate: web-2.example.com, hosts: [web-2]}

# Two activations with this share a topic, and each answers what the other one has left when it died.
- ironpost.container_guard.alerts:
    hosts: [web-1, web-2]
    kafka:
      bootstrap_servers: [kafka-1.example.com:9093, kafka-2.example.com:9093]
      topics: [alerts]
      security_protocol: SASL_SSL
      sasl_mechanism: SCRAM-SHA-512
      sasl_username: container-guard
      sasl_password: "{{ guard_kafka_password }}"

# A relay on the same machine posts generic alerts. Alerts of hosts that nobody knows are rejected.
- ironpost.container_guard.alerts:
    guard:
      token: "{{ guard_token }}"
      hosts: [web-1, web-2]
      lookup_hosts: []
"""

import pathlib
import sys
import typing as t

# The rulebook engine runs this file by its path, outside of any package, so the collection must be made importable. Not
# resolve(): a checkout is reached by a symlink that gives the collection its name.
_COLLECTIONS = str(pathlib.Path(__file__).absolute().parents[7])
if _COLLECTIONS not in sys.path:
    sys.path.append(_COLLECTIONS)

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import (
    parse_options,
    unread_variables,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.source import EventQueue, serve


async def main(queue: EventQueue, args: dict[str, t.Any]) -> None:
    """Take alerts until SIGTERM or SIGINT, or until cancelled.

    Raises ValueError for bad options, OSError where the port cannot be listened on, SpoolError for the spool.
    """
    await serve(queue, parse_options(args), unread_variables(args))
