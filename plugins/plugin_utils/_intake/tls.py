# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""TLS of the listener: contexts from files that may change, and what to say of handshakes that fail."""

from __future__ import annotations

import logging
import os
import ssl
import time
import typing as t
from collections.abc import Callable

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.certificates import (
    Certificate,
    read_certificates,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import Options

logger = logging.getLogger(__name__)

EXPIRES_SOON = 30 * 86_400
"""From how many seconds before its end on a certificate is told."""
_TELL_AGAIN = 86_400.0
"""After how many seconds what is wrong with certificates is logged again."""
_LOOK_AGAIN = 1.0
"""How long, in seconds, files are taken to be as they were."""

NO_CERTIFICATE, BAD_CERTIFICATE, DISTRUSTED = "no_certificate", "bad_certificate", "distrusted"
PLAIN_HTTP, PROTOCOL, TIMEOUT, CLOSED = "plain_http", "protocol", "timeout", "closed"
FAILURES = (NO_CERTIFICATE, BAD_CERTIFICATE, DISTRUSTED, PLAIN_HTTP, PROTOCOL, TIMEOUT, CLOSED)
"""Why handshakes fail."""


class Tls:
    """The context for new connections, from the certificate files as they are now.

    Attributes:
        generation: number of the context. Connections of an earlier one were let in by files that are gone.
    """

    def __init__(self, options: Options, clock: Callable[[], float] = time.time) -> None:
        """Raises ValueError for files that cannot be used."""
        self.generation = 0
        self._options = options
        self._clock = clock
        self._looked = self._told = time.monotonic()
        self._files = self._stamps()
        self._context = _context_of(options)
        self._trouble = ""
        self._certificates = self._read_certificates()

    @property
    def context(self) -> ssl.SSLContext:
        """The context for a new connection. Where changed files cannot be used, that of before, which is told."""
        self.refresh()
        return self._context

    def refresh(self) -> None:
        """Read the files again where they have changed."""
        now = time.monotonic()
        if now - self._looked < _LOOK_AGAIN:
            return
        self._looked = now
        if now - self._told >= _TELL_AGAIN:
            self.tell()
        files = self._stamps()
        if files == self._files:
            return
        try:
            self._context = _context_of(self._options)
        except ValueError as error:
            # A new certificate may be there before its key; the next look takes both.
            if self._trouble != str(error):
                logger.error("The certificate files changed and cannot be used, the old ones still hold: %s", error)
            self._trouble = str(error)
            return
        self._files, self._trouble = files, ""
        self._certificates = self._read_certificates()
        self.generation += 1
        logger.info("Read the certificate files again, as they changed")
        self.tell()

    def tell(self) -> None:
        """Log what is wrong with the certificates."""
        self._told = time.monotonic()
        for trouble in self.troubles():
            logger.error("%s", trouble)
        for warning in (*self.warnings(), *self._strictness()):
            logger.warning("%s", warning)

    def troubles(self) -> list[str]:
        """Why senders cannot come, for people."""
        now, found = self._clock(), [self._trouble] if self._trouble else []
        for option, certificate in self._certificates:
            if certificate.not_after <= now:
                found.append(f"{option}: the certificate expired on {_date(certificate.not_after)}")
            elif certificate.not_before > now:
                found.append(f"{option}: the certificate is not valid before {_date(certificate.not_before)}")
        return found

    def warnings(self) -> list[str]:
        """Why they soon cannot, for people."""
        now = self._clock()
        return [
            f"{option}: the certificate expires on {_date(certificate.not_after)}"
            for option, certificate in self._certificates
            if now < certificate.not_after <= now + EXPIRES_SOON
        ]

    def expiry(self) -> dict[str, float]:
        """By option, when the first of its certificates expires, in seconds since the epoch."""
        found: dict[str, float] = {}
        for option, certificate in self._certificates:
            found[option] = min(found.get(option, certificate.not_after), certificate.not_after)
        return found

    def _strictness(self) -> list[str]:
        if all(certificate.says_key_usage for option, certificate in self._certificates if option == "cafile"):
            return []
        lax = (
            "cafile: an authority does not say what its key is for (keyUsage), as openssl req -x509 makes them. The "
            "listener takes it. Senders that check strictly, such as Python 3.13, refuse certificates of it"
        )
        return [lax]

    def _read_certificates(self) -> list[tuple[str, Certificate]]:
        options, found = self._options, []
        for option, path in (("certfile", options.certfile), ("cafile", options.cafile)):
            if path:
                try:
                    found += [(option, certificate) for certificate in read_certificates(path)]
                except (OSError, ValueError) as error:
                    # OpenSSL has read it, so it works; only how long is not known.
                    logger.warning("%s: when it expires cannot be read: %s", option, error)
        return found

    def _stamps(self) -> list[t.Any]:
        return [_stamp(path) for path in (self._options.certfile, self._options.keyfile, self._options.cafile)]


class Handshake:
    """Stands in for the context in one handshake, to keep why it failed and to let the other side hear it.

    asyncio closes the connection at once then, without the alert that OpenSSL has ready: a sender with a wrong
    certificate would see an end of file, and nothing else (Python 3.13, sslproto.SSLProtocol._do_handshake).
    """

    def __init__(self, context: ssl.SSLContext, failed: Callable[[], object]) -> None:
        """C(failed) is called once the alert is on its way; the connection is then to be closed."""
        self.failure: ssl.SSLError | None = None
        self._context = context
        self._failed = failed

    def wrap_bio(self, *args: t.Any, **options: t.Any) -> ssl.SSLObject:
        """The TLS side of the connection, as asyncio asks for it."""
        tls = self._context.wrap_bio(*args, **options)
        proceed = tls.do_handshake

        def do_handshake() -> None:
            if self.failure is not None:
                raise self.failure
            try:
                proceed()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as error:
                self.failure = error
                self._failed()
                raise ssl.SSLWantReadError from error  # so that what is ready is sent

        tls.do_handshake = do_handshake  # type: ignore[method-assign]  # of this object only
        return tls


def explain(error: BaseException) -> tuple[str, str]:
    """Why a handshake failed: one of FAILURES, and what to say of it, for people."""
    reason = str(getattr(error, "reason", "") or "").upper()
    if isinstance(error, ssl.SSLCertVerificationError):
        return BAD_CERTIFICATE, (
            f"its certificate is refused ({error.verify_message}). It must be signed by an authority in cafile, be "
            "valid now, and be one for clients"
        )
    if "DID_NOT_RETURN_A_CERTIFICATE" in reason:
        return NO_CERTIFICATE, "it shows no client certificate, and cafile requires one"
    if "HTTP_REQUEST" in reason or "HTTPS_PROXY" in reason:
        return PLAIN_HTTP, "it speaks plain HTTP. Its address must begin with https://"
    if "ALERT" in reason and any(word in reason for word in ("UNKNOWN_CA", "CERTIFICATE", "EXPIRED")):
        return DISTRUSTED, (
            f"it does not trust the certificate of this listener ({_words(reason)}). Give it the authority that signed "
            "certfile, and an address that certfile is for"
        )
    if isinstance(error, ssl.SSLError):
        return PROTOCOL, f"TLS failed ({_words(reason) or 'no reason given'})"
    if isinstance(error, (TimeoutError, ConnectionAbortedError)):
        return TIMEOUT, "it did not complete the handshake in time"
    return CLOSED, "it closed the connection within the handshake"


def _words(reason: str) -> str:
    return reason.replace("_", " ").lower()


def _context_of(options: Options) -> ssl.SSLContext:
    """The context for these options. Raises ValueError for files that cannot be used."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # A prompt for a password would hang the engine.
        context.load_cert_chain(options.certfile or "", options.keyfile, password="")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"certfile {options.certfile!r} and keyfile {options.keyfile!r} cannot be used ({error}). Set them to PEM "
            "files that belong together, readable by the rulebook engine, the key without a password"
        ) from None
    if options.cafile:
        try:
            context.load_verify_locations(options.cafile)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"cafile {options.cafile!r} cannot be used ({error}). Set it to a PEM file with the authorities of "
                "client certificates"
            ) from None
        context.verify_mode = ssl.CERT_REQUIRED if options.certificate_required else ssl.CERT_OPTIONAL
        # The same on every Python: what is in cafile is trusted, authority of an authority or not; and what RFC 5280
        # wants beyond that (3.13 checks it by default) keeps nobody out but those whose authority is the one that
        # everybody makes, openssl req -x509.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _stamp(path: str | None) -> tuple[int, ...] | None:
    """What changes when a file does, also behind a symlink."""
    try:
        found = os.stat(path) if path else None
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns) if found else None


def _date(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(moment))
