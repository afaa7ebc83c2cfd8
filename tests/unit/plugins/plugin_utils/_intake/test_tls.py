# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import asyncio
import os
import pathlib
import re
import shutil
import ssl
import subprocess
import time
import typing as t

import aiohttp
import pytest

import ansible_collections.ironpost.container_guard as collection
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import tls as module
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import parse_options
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.tls import Tls, explain

TOKEN = "correct-horse-battery"
BODY = '{"source": "sensor", "rule": "Shell spawned", "severity": "high", "host": "web-1"}'
DAY = 86_400

Start = t.Any


def client(authority: t.Any, certificate: tuple[str, str] | None = None, *, strict: bool = True) -> ssl.SSLContext:
    """What a sender in Python does: with 3.13 it checks strictly."""
    context = ssl.create_default_context(cafile=authority.path)
    if not strict:
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if certificate:
        context.load_cert_chain(*certificate)
    return context


def curl(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["curl", "--silent", "--show-error", "--max-time", "20", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def server(authority: t.Any, **options: t.Any) -> dict[str, t.Any]:
    certificate, key = authority.issue("guard")
    return {"certfile": certificate, "keyfile": key, **options}


async def test_without_client_certificates(start: Start, authority: t.Any) -> None:
    async with start(**server(authority)) as intake:
        assert (await intake.post(BODY, ssl=client(authority)))[0] == 202


async def test_mutual(start: Start, authority: t.Any, caplog: pytest.LogCaptureFixture) -> None:
    options = server(authority, cafile=authority.path)
    known = client(authority, authority.issue("web-1"))
    async with start(token=None, **options) as intake:
        assert "(checked: client certificate)" in caplog.text
        assert (await intake.post(BODY, token=None, ssl=known))[0] == 202
    async with start(**options) as intake:
        assert (await intake.post(BODY, token=None, ssl=known))[0] == 401
        assert (await intake.post(BODY, ssl=known))[0] == 202


async def test_who_shows_no_certificate_hears_why(
    start: Start, authority: t.Any, caplog: pytest.LogCaptureFixture
) -> None:
    known = client(authority, authority.issue("web-1"))
    async with start(**server(authority, cafile=authority.path)) as intake:
        # With TLS 1.3 a client learns of the refusal when it reads.
        with pytest.raises((aiohttp.ClientError, ssl.SSLError), match="CERTIFICATE_REQUIRED"):
            await intake.post(BODY, ssl=client(authority))
        await intake.metric('handshakes_failed_total{reason="no_certificate"}', ssl=known)
    assert "A TLS handshake with 127.0.0.1 failed: it shows no client certificate" in caplog.text


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_who_shows_a_wrong_certificate_hears_why(
    start: Start, authority: t.Any, lax_authority: t.Any, caplog: pytest.LogCaptureFixture, version: ssl.TLSVersion
) -> None:
    known = client(authority, authority.issue("web-1"))
    stranger = client(authority, lax_authority.issue("stranger"))
    stranger.maximum_version = version
    async with start(**server(authority, cafile=authority.path)) as intake:
        with pytest.raises((aiohttp.ClientError, ssl.SSLError), match="UNKNOWN_CA"):
            await intake.post(BODY, ssl=stranger)
        await intake.metric('handshakes_failed_total{reason="bad_certificate"}', ssl=known)
    assert "its certificate is refused (" in caplog.text


async def test_the_authority_that_everybody_makes(
    start: Start, lax_authority: t.Any, caplog: pytest.LogCaptureFixture
) -> None:
    # openssl req -x509 and openssl x509 -req: Python 3.13 refuses them by default, and its users saw EOF only.
    certificate, key = lax_authority.issue("web-1")
    async with start(token=None, **server(lax_authority, cafile=lax_authority.path)) as intake:
        context = client(lax_authority, (certificate, key), strict=False)
        assert (await intake.post(BODY, token=None, ssl=context))[0] == 202
        url = f"https://127.0.0.1:{intake.port}/alerts"
        sent = await beside(
            curl, "--cacert", lax_authority.path, "--cert", certificate, "--key", key, "--data", BODY, url
        )
        assert '"accepted": 1' in sent.stdout, sent.stderr
        refused = await beside(curl, "--cacert", lax_authority.path, "--data", BODY, url)
        assert "certificate required" in refused.stderr
    assert "cafile: an authority does not say what its key is for (keyUsage)" in caplog.text


async def beside(function: t.Callable[..., t.Any], *arguments: str) -> t.Any:
    """Run something that blocks, while the intake in this loop goes on."""
    return await asyncio.to_thread(function, *arguments)


async def test_the_recipe_of_the_documentation(start: Start, tmp_path: pathlib.Path) -> None:
    """What it makes is good also for senders that check strictly."""
    documentation = pathlib.Path(next(iter(collection.__path__)), "docs/alerts.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"```bash\n(openssl req -x509.*?)```", documentation, re.DOTALL)
    here = recipe.replace("IP:192.0.2.10", "IP:127.0.0.1")
    assert here != recipe
    made = subprocess.run(["bash", "-euc", here], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    name = "web-1.example.com"
    context.load_cert_chain(tmp_path / f"{name}.crt", tmp_path / f"{name}.key")
    files = {"certfile": "guard.crt", "keyfile": "guard.key", "cafile": "ca.crt"}
    paths = {option: str(tmp_path / file) for option, file in files.items()}
    senders = [{"name": "web-1", "certificate": name, "hosts": ["web-1"]}]
    async with start(token=None, senders=senders, **paths) as intake:
        assert (await intake.post(BODY, token=None, ssl=context))[0] == 202
        assert (await intake.health(ssl=context))[1]["warnings"] == []


async def test_certificate_or_token(start: Start, authority: t.Any) -> None:
    senders = [{"name": "falco", "certificate": "web-1", "hosts": ["web-1"]}]
    options = server(authority, cafile=authority.path, certificate_required=False, senders=senders)
    async with start(**options) as intake:
        assert (await intake.post(BODY, ssl=client(authority)))[0] == 202
        by_certificate = client(authority, authority.issue("web-1"))
        assert (await intake.post(BODY, token=None, ssl=by_certificate))[0] == 202
        status, answer = await intake.post(BODY, token=None, ssl=client(authority, authority.issue("web-2")))
        assert status == 401
        assert answer["error"]["remedy"].endswith("or show a client certificate")
        foreign = BODY.replace("web-1", "web-7")
        async with start(hosts=["web-7"], **options) as other:
            status, answer = await other.post(foreign, token=None, ssl=by_certificate)
            assert (status, answer["error"]["kind"]) == (400, "foreign_host")


async def test_who_distrusts_the_listener(
    start: Start, authority: t.Any, lax_authority: t.Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with start(**server(authority)) as intake:
        url = f"https://127.0.0.1:{intake.port}/healthz"
        refused = await beside(curl, "--cacert", lax_authority.path, url)
        assert refused.returncode == 60
        await intake.metric('handshakes_failed_total{reason="distrusted"}', ssl=client(authority))
    assert "it does not trust the certificate of this listener" in caplog.text


async def test_plain_http_to_a_tls_listener(start: Start, authority: t.Any, caplog: pytest.LogCaptureFixture) -> None:
    async with start(**server(authority)) as intake:
        await intake.raw(b"GET /healthz HTTP/1.1\r\nHost: guard\r\n\r\n")
        await intake.metric('handshakes_failed_total{reason="plain_http"}', ssl=client(authority))
    assert "it speaks plain HTTP. Its address must begin with https://" in caplog.text


async def test_who_goes_away_within_the_handshake(start: Start, authority: t.Any) -> None:
    async with start(**server(authority)) as intake:
        _, writer = await intake.connect()
        writer.close()
        await intake.metric('handshakes_failed_total{reason="closed"}', ssl=client(authority))


async def test_changed_files_are_read_again(
    start: Start,
    authority: t.Any,
    lax_authority: t.Any,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "_LOOK_AGAIN", 0.0)
    paths = {name: str(tmp_path / name) for name in ("certfile", "keyfile", "cafile")}

    def put(name: str, source: str) -> None:
        shutil.copy(source, tmp_path / "new")
        os.replace(tmp_path / "new", paths[name])

    certificate, key = authority.issue("guard")
    new_certificate, new_key = authority.issue("guard-2")
    for name, source in (("certfile", certificate), ("keyfile", key), ("cafile", authority.path)):
        put(name, source)
    old_sender = client(authority, authority.issue("web-1"))
    new_sender = client(authority, lax_authority.issue("web-2"))
    async with start(token=None, **paths) as intake:
        assert (await intake.post(BODY, token=None, ssl=old_sender))[0] == 202
        # The new certificate is there before its key: the old ones hold, and that is told.
        put("certfile", new_certificate)
        status, health = await intake.health(ssl=old_sender)
        assert (status, "cannot be used" in health["troubles"][0]) == (503, True)
        assert "the old ones still hold" in caplog.text
        put("keyfile", new_key)
        for _ in range(2):  # with the answer to the first one it has to prove itself again
            assert (await intake.health(ssl=old_sender))[0] == 200
        put("cafile", lax_authority.path)
        assert (await intake.post(BODY, token=None, ssl=new_sender))[0] == 202
        async with intake.client.get("/healthz", ssl=old_sender) as answer:
            assert answer.headers.get("Connection") == "close"
        with pytest.raises((aiohttp.ClientError, ssl.SSLError), match="UNKNOWN_CA"):
            await intake.post(BODY, token=None, ssl=old_sender)
    assert caplog.text.count("Read the certificate files again, as they changed") == 2


@pytest.mark.parametrize(
    ("passed", "troubles", "warnings"),
    [
        (0, [], []),
        (340 * DAY, [], ["certfile: the certificate expires on "]),
        (366 * DAY, ["certfile: the certificate expired on "], []),
        (
            -2 * DAY,
            ["certfile: the certificate is not valid before ", "cafile: the certificate is not valid before "],
            [],
        ),
        (
            3630 * DAY,
            ["certfile: the certificate expired on "],
            ["cafile: the certificate expires on "],
        ),
    ],
)
def test_what_expires_is_told(
    authority: t.Any, caplog: pytest.LogCaptureFixture, passed: float, troubles: list[str], warnings: list[str]
) -> None:
    options = parse_options({"token": TOKEN, **server(authority, cafile=authority.path)})
    now = time.time()
    tls = Tls(options, clock=lambda: now + passed)
    tls.tell()
    for found, expected in ((tls.troubles(), troubles), (tls.warnings(), warnings)):
        assert len(found) == len(expected)
        assert all(one.startswith(start) for one, start in zip(found, expected, strict=True)), found
    assert sorted(caplog.messages) == sorted(tls.troubles() + tls.warnings())
    assert {record.levelname for record in caplog.records} <= {"ERROR", "WARNING"}
    expiry = tls.expiry()
    assert expiry.keys() == {"certfile", "cafile"}
    assert abs(expiry["certfile"] - now - 365 * DAY) < 3600


def test_what_is_wrong_is_told_again_now_and_then(
    authority: t.Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    tls = Tls(parse_options({"token": TOKEN, **server(authority)}), clock=lambda: now + 366 * DAY)
    monkeypatch.setattr(module, "_LOOK_AGAIN", 0.0)
    tls.refresh()
    assert caplog.messages == []
    monkeypatch.setattr(module, "_TELL_AGAIN", 0.0)
    tls.refresh()
    assert caplog.messages == tls.troubles() != []


async def test_an_expired_certificate_is_in_health(start: Start, authority: t.Any) -> None:
    certificate, key = authority.issue("expired", days=0)
    lenient = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    lenient.check_hostname, lenient.verify_mode = False, ssl.CERT_NONE
    time.sleep(1.1)  # valid for no whole second
    async with start(certfile=certificate, keyfile=key) as intake:
        status, health = await intake.health(ssl=lenient)
    assert status == 503
    assert health["troubles"][0].startswith("certfile: the certificate expired on ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"certfile": "/nowhere"}, "certfile '/nowhere' and keyfile .* cannot be used"),
        ({"keyfile": None}, "keyfile None cannot be used"),
        ({"cafile": "/nowhere"}, "cafile '/nowhere' cannot be used"),
        ({"cafile": "key"}, "cafile .* cannot be used"),
        ({"keyfile": "locked"}, "the key without a password"),
    ],
)
def test_unusable_files(authority: t.Any, change: dict[str, str | None], message: str) -> None:
    files = server(authority, cafile=authority.path)
    locked = files["keyfile"] + ".locked"
    authority.openssl("ec", "-in", files["keyfile"], "-out", locked, "-aes128", "-passout", "pass:secret")
    paths = {"key": files["keyfile"], "locked": locked}
    changed = {name: paths.get(value or "", value) for name, value in change.items()}
    with pytest.raises(ValueError, match=message):
        Tls(parse_options({"token": TOKEN, **files, **changed}))


def test_what_cannot_be_explained_is_told_as_it_is() -> None:
    error = ssl.SSLError(1, "[SSL: NO_SHARED_CIPHER] no shared cipher")
    error.reason = "NO_SHARED_CIPHER"
    assert explain(error) == ("protocol", "TLS failed (no shared cipher)")
    assert explain(ConnectionAbortedError("took long"))[0] == "timeout"
    assert explain(ConnectionResetError())[0] == "closed"
    assert {explain(error)[0], "timeout", "closed"} <= set(module.FAILURES)
