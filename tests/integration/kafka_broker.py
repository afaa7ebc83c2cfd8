# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real Kafka broker on the loopback interface (KRaft, one node), and what a test wants of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import time
import types
import typing as t
from collections.abc import AsyncIterator, Iterable

import aiokafka
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from ansible_collections.ironpost.container_guard.tests.integration.rulebook import free_port

REPOSITORY = next(path for path in pathlib.Path(__file__).absolute().parents if (path / "galaxy.yml").is_file())
ARCHIVES = REPOSITORY / ".venv/kafka/lib"
"""Where C(tools/setup.sh kafka) puts them."""
CLUSTER = "4L6g3nShT-eMCtK--X86sw"
_POLL = 0.1

_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},SECURE://127.0.0.1:{secure},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SECURE://127.0.0.1:{secure}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL
controller.listener.names=CONTROLLER
listener.name.secure.ssl.client.auth=required
listener.name.secure.ssl.keystore.type=PEM
listener.name.secure.ssl.keystore.location={directory}/broker.pem
listener.name.secure.ssl.truststore.type=PEM
listener.name.secure.ssl.truststore.location={directory}/ca.crt
listener.name.secure.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.secure.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
  user_{user}="{password}";
listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
log.dirs={directory}/log
num.partitions=1
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.enable=false
"""

USER, PASSWORD = "guard", "a password of the test suite"
_DAYS = "2"

Message = tuple[int | None, bytes | None, bytes | None]
"""Partition (None: by the key), key, and value of a record."""


class Broker:
    """Runs as long as its context lasts; within, it may be ended and started again, with what it has.

    Args:
        directory: for what it keeps.

    Attributes:
        address: for clients, in clear text.
        secure: what a client has to say to use TLS, with its certificate, name and password: options C(kafka).
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self._port, secure = free_port(), free_port()
        self.address = f"127.0.0.1:{self._port}"
        self.secure = {
            "bootstrap_servers": [f"127.0.0.1:{secure}"],
            "security_protocol": "SASL_SSL",
            "cafile": str(directory / "ca.crt"),
            "certfile": str(directory / "client.pem"),
            "sasl_username": USER,
            "sasl_password": PASSWORD,
        }
        self._directory = directory
        self._properties = directory / "server.properties"
        self._properties.write_text(
            _PROPERTIES.format(
                port=self._port,
                secure=secure,
                controller=free_port(),
                directory=directory,
                user=USER,
                password=PASSWORD,
            ),
            encoding="utf-8",
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Broker:
        archives = list(ARCHIVES.glob("*.jar"))
        assert archives, f"there is no Kafka in {ARCHIVES}: run tools/setup.sh kafka"
        self._make_certificates()
        scram = f'SCRAM-SHA-512=[name="{USER}",password="{PASSWORD}"]'
        done = subprocess.run(
            [
                *(*self._java("kafka.tools.StorageTool"), "format", "-t", CLUSTER, "-c", str(self._properties)),
                *("--add-scram", scram),
            ],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.end()

    def start(self) -> None:
        """Start it and wait until it takes requests."""
        with (self._directory / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._java("kafka.Kafka"), str(self._properties)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + 120
        while not self._answers():
            assert self._process.poll() is None, (self._directory / "broker.log").read_text()
            assert time.monotonic() < deadline, "the broker does not listen"
            time.sleep(_POLL)

    def end(self) -> None:
        """Kill it."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def run(self, work: t.Coroutine[t.Any, t.Any, t.Any]) -> t.Any:
        """What comes of a coroutine, for a test that is none."""
        return asyncio.run(work)

    @contextlib.asynccontextmanager
    async def admin(self) -> AsyncIterator[t.Any]:
        """A client for what administrators do."""
        client = AIOKafkaAdminClient(bootstrap_servers=self.address)
        await client.start()
        try:
            yield client
        finally:
            await client.close()

    async def make_topic(self, name: str, partitions: int = 1, **settings: str) -> None:
        """Make a topic, and wait until its partitions have leaders."""
        async with self.admin() as admin:
            await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=settings)])
        async with asyncio.timeout(60), self.producer() as producer:
            while len(await producer.partitions_for(name)) < partitions:
                await asyncio.sleep(_POLL)

    async def remove_topic(self, name: str) -> None:
        """Remove a topic."""
        async with self.admin() as admin:
            await admin.delete_topics([name])

    @contextlib.asynccontextmanager
    async def producer(self, **options: t.Any) -> AsyncIterator[t.Any]:
        """A client that writes."""
        client = aiokafka.AIOKafkaProducer(bootstrap_servers=self.address, **options)
        await client.start()
        try:
            yield client
        finally:
            await client.stop()

    async def send(self, topic: str, messages: Iterable[Message], **options: t.Any) -> list[int]:
        """Write records, one after the other; their offsets. C(options) are those of each record."""
        async with self.producer() as producer:
            return [
                (await producer.send_and_wait(topic, value, key=key, partition=partition, **options)).offset
                for partition, key, value in messages
            ]

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        """What a group has committed, by partition."""
        async with self.admin() as admin:
            found = await admin.list_consumer_group_offsets(group)
        return {key.partition: said.offset for key, said in found.items() if key.topic == topic}

    def _make_certificates(self) -> None:
        """An authority, and by it the broker and a client, each with the key in the same file."""

        def openssl(*arguments: str) -> None:
            subprocess.run(["openssl", *arguments], check=True, cwd=self._directory, capture_output=True)

        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", _DAYS)
        usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
        openssl("req", "-x509", *key, "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.crt", *usage)
        for name in ("broker", "client"):
            by = ("-CA", "ca.crt", "-CAkey", "ca.key", "-addext", "subjectAltName=IP:127.0.0.1")
            more = ("-addext", "basicConstraints=critical,CA:FALSE")
            openssl("req", "-x509", *key, *by, *more, "-subj", f"/CN={name}", "-keyout", "key", "-out", "crt")
            parts = [(self._directory / part).read_text() for part in ("key", "crt")]
            (self._directory / f"{name}.pem").write_text("".join(parts))

    def _java(self, main: str) -> list[str]:
        home = os.environ.get("JAVA_HOME")
        java = str(pathlib.Path(home) / "bin/java") if home else "java"
        archives = os.pathsep.join(map(str, sorted(ARCHIVES.glob("*.jar"))))
        settings = ("-Xmx256m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-XX:+UseSerialGC")
        return [java, *settings, "-cp", archives, main]

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
        except OSError:
            return False
        return True
