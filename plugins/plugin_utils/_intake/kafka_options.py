# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The option C(kafka): which topics are read, and how their brokers are reached."""

from __future__ import annotations

import dataclasses

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import DETECTORS
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import option_values as values

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
EARLIEST, LATEST = "earliest", "latest"
_SASL, _TLS = "SASL_", "SSL"


@dataclasses.dataclass(frozen=True, kw_only=True)
class KafkaOptions:
    """The topics from which alerts are taken.

    Attributes:
        bootstrap_servers: brokers to begin with, each C(host:port).
        topics: names of topics.
        group_id: of the consumer group, in which each partition has one member.
        client_id: by which brokers log this member.
        detector: whose messages they are; empty where the shape of each tells.
        hosts: inventory hosts that the topics may speak for; empty for all.
        auto_offset_reset: where a partition begins of which the group knows nothing, EARLIEST or LATEST.
        security_protocol: one of PROTOCOLS.
        cafile: PEM file with the authorities of the brokers; empty for those of the system.
        certfile: PEM file with the certificate of this client; empty for none.
        keyfile: PEM file with its key, if C(certfile) does not hold it.
        sasl_mechanism: one of MECHANISMS.
        sasl_username: who it is.
        sasl_password: that proves it.
    """

    bootstrap_servers: tuple[str, ...]
    topics: tuple[str, ...]
    group_id: str = "container-guard"
    client_id: str = "container-guard"
    detector: str = ""
    hosts: tuple[str, ...] = ()
    auto_offset_reset: str = EARLIEST
    security_protocol: str = "PLAINTEXT"
    cafile: str = ""
    certfile: str = ""
    keyfile: str = ""
    sasl_mechanism: str = "PLAIN"
    sasl_username: str = ""
    sasl_password: str = dataclasses.field(default="", repr=False)

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.security_protocol.endswith(_TLS)

    @property
    def sasl(self) -> bool:
        """Whether a name and a password are shown."""
        return self.security_protocol.startswith(_SASL)


def kafka(name: str, value: object) -> KafkaOptions:
    """The option. Raises ValueError."""
    given = values.fields(name, value, _READERS, "key")
    for required in ("bootstrap_servers", "topics"):
        if required not in given:
            raise ValueError(f"{name} has no {required}. It needs both bootstrap_servers and topics")
    servers, topics = given.pop("bootstrap_servers"), given.pop("topics")
    options = KafkaOptions(bootstrap_servers=servers, topics=topics, **given)
    protocol = options.security_protocol
    for key in ("cafile", "certfile", "keyfile"):
        if given.get(key) and not options.tls:
            raise ValueError(
                f"{name}.{key} is set, and {name}.security_protocol is {protocol}. Set that to SSL or SASL_SSL"
            )
    if options.keyfile and not options.certfile:
        raise ValueError(f"{name}.keyfile is set without {name}.certfile")
    for key in ("sasl_mechanism", "sasl_username", "sasl_password"):
        if given.get(key) and not options.sasl:
            raise ValueError(f"{name}.{key} is set, and {name}.security_protocol is {protocol}. Set it to SASL_SSL")
        if options.sasl and not getattr(options, key):
            raise ValueError(f"{name}.security_protocol is {protocol}, and {name}.{key} is not set")
    return options


def detector(name: str, value: object) -> str:
    """The name of a detector. Raises ValueError."""
    if value not in DETECTORS:
        raise values.misspelt(f"detector in {name}", value, DETECTORS)
    return str(value)


def _one_of(words: tuple[str, ...]) -> values.Reader:
    def read(name: str, value: object) -> str:
        if value not in words:
            raise ValueError(f"{name} is {values.shown(value)}. Set it to one of {', '.join(words)}")
        return str(value)

    return read


def _password(name: str, value: object) -> str:
    """A text that is shown in no message."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is no text, or empty. Set it to the password, in quotes")
    return value


_word = values.matching(r"[a-zA-Z0-9._-]{1,249}", "at most 249 letters, digits, '.', '_' and '-'")
_address = values.matching(r"(\[[0-9a-fA-F:.]+\]|[a-zA-Z0-9._-]{1,253}):[0-9]{1,5}", "host:port")


def _server(name: str, value: object) -> str:
    address: str = _address(name, value)
    if not 0 < int(address.rpartition(":")[2]) < 65_536:
        raise ValueError(f"{name} is {values.shown(value)}. A port is from 1 to 65535")
    return address


_READERS: dict[str, values.Reader] = {
    "bootstrap_servers": values.list_of(_server, "brokers, as broker.example.com:9093", some=True),
    "topics": values.list_of(_word, "names of topics", some=True),
    "group_id": _word,
    "client_id": _word,
    "detector": detector,
    "hosts": values.list_of(values.host, "host names", some=True),
    "auto_offset_reset": _one_of((EARLIEST, LATEST)),
    "security_protocol": _one_of(PROTOCOLS),
    "cafile": values.string,
    "certfile": values.string,
    "keyfile": values.string,
    "sasl_mechanism": _one_of(MECHANISMS),
    "sasl_username": values.string,
    "sasl_password": _password,
}
