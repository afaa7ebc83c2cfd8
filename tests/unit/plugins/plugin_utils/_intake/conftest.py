# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real intake on a free port of the loopback interface."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import ipaddress
import re
import typing as t
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.batcher import Event
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import parse_options
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.server import serve

TOKEN = "correct-horse-battery"


@dataclasses.dataclass
class RunningIntake:
    """An intake that serves, and a client for it."""

    port: int
    queue: asyncio.Queue[Event]
    task: asyncio.Task[t.NoReturn]
    client: aiohttp.ClientSession

    async def post(
        self, body: bytes | str, path: str = "/alerts", token: str | None = TOKEN, **options: t.Any
    ) -> tuple[int, t.Any]:
        """Status and decoded answer to one alert request."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        options["headers"] = {**headers, **options.get("headers", {})}
        async with self.client.post(path, data=body, **options) as answer:
            return answer.status, await answer.json()

    async def get(self, path: str) -> t.Any:
        """The decoded answer."""
        async with self.client.get(path) as answer:
            assert answer.status == 200
            return await answer.json()

    async def raw(self, request: bytes) -> str:
        """What is answered to these very bytes until the server closes or falls silent; "" for nothing."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        try:
            async with asyncio.timeout(10):
                return (await reader.read(4096)).decode()
        finally:
            writer.close()

    async def event(self) -> Event:
        """The next event."""
        async with asyncio.timeout(10):
            return await self.queue.get()


Start = Callable[..., contextlib.AbstractAsyncContextManager[RunningIntake]]


@pytest.fixture
def start(caplog: pytest.LogCaptureFixture) -> Start:
    """A function that starts an intake with the given options, and ends it with its context."""

    @contextlib.asynccontextmanager
    async def running(
        *, queue: asyncio.Queue[Event] | None = None, scheme: str = "http", **options: t.Any
    ) -> AsyncIterator[RunningIntake]:
        caplog.set_level("INFO")
        queue = asyncio.Queue() if queue is None else queue
        task = asyncio.create_task(serve(queue, parse_options({"token": TOKEN, "port": 0, **options})))
        try:
            while not (listening := re.search(r"Taking alerts at \w+://[0-9.]+:(\d+)/", caplog.text)):
                assert not task.done(), task.exception()
                await asyncio.sleep(0.01)
            port = int(listening[1])
            async with aiohttp.ClientSession(f"{scheme}://127.0.0.1:{port}") as client:
                yield RunningIntake(port, queue, task, client)
        finally:
            task.cancel()
            await asyncio.wait([task])

    return running


@dataclasses.dataclass(frozen=True)
class Certificates:
    """Paths of PEM files."""

    ca: str
    server: str
    server_key: str
    locked_key: str
    client: str
    client_key: str


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority, a server certificate for 127.0.0.1 and a client certificate, valid for an hour."""
    directory = tmp_path_factory.mktemp("certificates")
    now = datetime.datetime.now(datetime.UTC)
    ca_key = ec.generate_private_key(ec.SECP256R1())

    def certificate(name: str, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
        is_ca = key is ca_key
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
            )
        )
        if is_ca:
            usage = x509.KeyUsage(
                digital_signature=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            )
            builder = builder.add_extension(usage, critical=True)
        return builder.sign(ca_key, hashes.SHA256())

    def write(name: str, content: bytes) -> str:
        path = directory / name
        path.write_bytes(content)
        return str(path)

    def key_bytes(key: ec.EllipticCurvePrivateKey, encryption: serialization.KeySerializationEncryption) -> bytes:
        return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)

    pem = serialization.Encoding.PEM
    server_key, client_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    return Certificates(
        ca=write("ca.pem", certificate("ca", ca_key).public_bytes(pem)),
        server=write("server.pem", certificate("server", server_key).public_bytes(pem)),
        server_key=write("server.key", key_bytes(server_key, serialization.NoEncryption())),
        locked_key=write("locked.key", key_bytes(server_key, serialization.BestAvailableEncryption(b"secret"))),
        client=write("client.pem", certificate("client", client_key).public_bytes(pem)),
        client_key=write("client.key", key_bytes(client_key, serialization.NoEncryption())),
    )
