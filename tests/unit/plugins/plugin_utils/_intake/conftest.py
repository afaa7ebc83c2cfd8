# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real intake on a free port of the loopback interface, with a spool and deliveries in memory."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import pathlib
import re
import subprocess
import typing as t
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import aiohttp
import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import accept
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import parse_options
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.source import Intake
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.spool import Offer, SpoolError, Stored
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.tls import Tls

TOKEN = "correct-horse-battery"


class MemorySpool:
    """Stands in for the spool: what was stored, and what shall fail."""

    def __init__(self) -> None:
        self.offers: list[Offer] = []
        self.counts: collections.Counter[str] = collections.Counter()
        self.positions: dict[str, t.Any] = {}
        self.failure: SpoolError | None = None
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.trouble: list[str] = []

    async def store(
        self,
        offers: Sequence[Offer],
        counts: Mapping[str, int] | None = None,
        position: tuple[str, t.Any] | None = None,
    ) -> list[Stored]:
        await self.go_on.wait()
        if self.failure:
            raise self.failure
        by_rule = {offer.alert.rule: offer.alert.trace_id for offer in reversed(self.offers)}
        self.offers += offers
        self.counts.update(counts or {})
        if position:
            self.positions.update([position])
        return [Stored(offer.alert.trace_id, by_rule.get(offer.alert.rule, "")) for offer in offers]

    def position(self, name: str) -> t.Any:
        return self.positions.get(name)

    def waiting(self) -> list[str]:
        return [offer.alert.trace_id for offer in self.offers]

    def waits(self, trace_id: str) -> bool:
        return trace_id in self.waiting()

    def watch_ends(self, watcher: t.Any) -> None:
        pass

    @property
    def accounts(self) -> dict[str, int]:
        waiting = len(self.offers)
        return {"received": waiting + self.counts.total(), **self.counts, "waiting": waiting}

    def troubles(self) -> list[str]:
        return self.trouble

    def figures(self) -> dict[str, float]:
        return {"waiting_bytes": 12.5}


class MemoryDeliveries:
    """Stands in for the deliveries."""

    def __init__(self) -> None:
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.receipts: list[tuple[str, bytes]] = []
        self.drained: float | None = None
        self.trouble: list[str] = []

    async def run(self) -> t.NoReturn:
        await self.failed
        raise AssertionError

    async def receipt(self, authorization: str, body: bytes) -> None:
        self.receipts.append((authorization, body))

    async def drain(self, timeout: float) -> None:
        self.drained = timeout

    def health(self) -> list[str]:
        return self.trouble

    def figures(self) -> dict[str, float]:
        return {"oldest_alert_seconds": 3}


class Unwanted:
    """Stands in for the early drop."""

    def __init__(self) -> None:
        self.digest = "set-1"
        self.rules: set[str] = set()
        self.asked: list[tuple[str, ...]] = []

    def wants(self, alert: Alert, hosts: Sequence[str]) -> bool:
        self.asked.append(tuple(hosts))
        return alert.rule not in self.rules

    def confirmed(self, host: str, digest: str) -> None:
        pass

    async def watch(self) -> t.NoReturn:
        while True:
            await asyncio.sleep(3600)

    def troubles(self) -> list[str]:
        return []


@dataclasses.dataclass
class RunningIntake:
    """An intake that serves, and a client for it."""

    port: int
    intake: Intake
    spool: MemorySpool
    deliveries: MemoryDeliveries
    wanted: Unwanted
    task: asyncio.Task[None]
    stop: asyncio.Event
    client: aiohttp.ClientSession
    receipt_port: int

    @property
    def alerts(self) -> list[Alert]:
        """What was stored."""
        return [offer.alert for offer in self.spool.offers]

    async def post(
        self, body: t.Any, path: str = "/alerts", token: str | None = TOKEN, **options: t.Any
    ) -> tuple[int, t.Any]:
        """Status and decoded answer to one alert request."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        options["headers"] = {**headers, **options.get("headers", {})}
        async with self.client.post(path, data=body, **options) as answer:
            return answer.status, await answer.json()

    async def health(self, **options: t.Any) -> tuple[int, t.Any]:
        """Status and decoded answer of /healthz."""
        async with self.client.get("/healthz", **options) as answer:
            return answer.status, await answer.json()

    async def metrics(self, **options: t.Any) -> dict[str, float]:
        """Samples of /metrics by their name with labels, without the prefix."""
        async with self.client.get("/metrics", **options) as answer:
            assert answer.status == 200
            lines = (await answer.text()).splitlines()
        samples = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name.removeprefix("container_guard_"): float(value) for name, value in samples.items()}

    async def metric(self, name: str, value: float = 1, **options: t.Any) -> None:
        """Waits until a metric has at least that value."""
        async with asyncio.timeout(20):
            while (await self.metrics(**options)).get(name, 0) < value:
                await asyncio.sleep(0.02)

    async def connect(self, source: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection from an address of the loopback network."""
        return await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))

    async def raw(self, request: bytes) -> str:
        """What is answered to these very bytes until the server closes or falls silent; "" for nothing."""
        reader, writer = await self.connect()
        writer.write(request)
        try:
            async with asyncio.timeout(15):
                return (await reader.read(4096)).decode()
        finally:
            writer.close()


Start = Callable[..., contextlib.AbstractAsyncContextManager[RunningIntake]]


@pytest.fixture
def start(caplog: pytest.LogCaptureFixture) -> Start:
    """A function that starts an intake with the given options, and ends it with its context."""

    @contextlib.asynccontextmanager
    async def running(*, notes: Sequence[str] = (), **options: t.Any) -> AsyncIterator[RunningIntake]:
        caplog.set_level("INFO")
        caplog.clear()
        parsed = parse_options({"token": TOKEN, "port": 0, **options})
        spool, deliveries, wanted = MemorySpool(), MemoryDeliveries(), Unwanted()
        intake = Intake(parsed, spool, deliveries, wanted, Tls(parsed) if parsed.certfile else None, notes)
        (receipts,) = accept.listen("127.0.0.1", 0)
        receipt_port = receipts.getsockname()[1]
        stop = asyncio.Event()
        task = asyncio.create_task(intake.run(stop, accept.listen(parsed.host, parsed.port), receipts))
        try:
            while not (listening := re.search(r"Taking alerts at (\w+)://[0-9.]+:(\d+)/", caplog.text)):
                assert not task.done(), task.exception()
                await asyncio.sleep(0.01)
            scheme, port = listening[1], int(listening[2])
            async with aiohttp.ClientSession(f"{scheme}://127.0.0.1:{port}") as client:
                yield RunningIntake(port, intake, spool, deliveries, wanted, task, stop, client, receipt_port)
        finally:
            task.cancel()
            await asyncio.wait([task])

    return running


class Authority:
    """A certificate authority, as people make them with openssl."""

    def __init__(self, directory: pathlib.Path, *, strict: bool, name: str = "ca") -> None:
        self.directory = directory
        self.strict = strict
        self.name = name
        self.path = str(directory / f"{name}.pem")
        self.key = str(directory / f"{name}.key")
        usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"] if strict else []
        self.openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650"),
            *("-subj", f"/CN={name}", "-keyout", self.key, "-out", self.path, *usage),
        )

    @staticmethod
    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)

    def issue(self, name: str, *, days: int = 365, extensions: str = "") -> tuple[str, str]:
        """Paths of a certificate for 127.0.0.1 and of its key."""
        certificate, key = (str(self.directory / f"{name}.{kind}") for kind in ("pem", "key"))
        request, config = (str(self.directory / f"{name}.{kind}") for kind in ("csr", "cnf"))
        identifiers = "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n" if self.strict else ""
        pathlib.Path(config).write_text(f"subjectAltName=IP:127.0.0.1\n{identifiers}{extensions}\n")
        self.openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}"),
            *("-keyout", key, "-out", request),
        )
        self.openssl(
            *("x509", "-req", "-in", request, "-CA", self.path, "-CAkey", self.key, "-CAcreateserial"),
            *("-days", str(days), "-extfile", config, "-out", certificate),
        )
        return certificate, key


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """One whose certificates also Python 3.13 takes."""
    return Authority(tmp_path_factory.mktemp("authority"), strict=True)


@pytest.fixture(scope="session")
def lax_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The one that everybody makes: openssl req -x509, and openssl x509 -req."""
    return Authority(tmp_path_factory.mktemp("lax"), strict=False)
