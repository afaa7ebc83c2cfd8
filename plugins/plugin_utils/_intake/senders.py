# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who sends, and for which hosts it may speak."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import os
import typing as t
from collections.abc import Iterable, Mapping

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import ANYBODY, Options


@dataclasses.dataclass(frozen=True)
class Sender:
    """One that was told apart from strangers.

    Attributes:
        name: for the log and the metrics.
        hosts: inventory hosts that it may speak for; empty for all.
        certificate: name that its certificate must have, in lower case; empty where none is needed.
        keys: keys of signatures, with one of which its bodies must be signed; empty where they need not be.
    """

    name: str = ANYBODY
    hosts: tuple[str, ...] = ()
    certificate: str = ""
    keys: tuple[bytes, ...] = dataclasses.field(default=(), repr=False)

    def may_speak_for(self, host: str) -> bool:
        """Whether it may speak for an inventory host."""
        return not self.hosts or host in self.hosts

    def signed(self, signature: str, body: bytes) -> bool:
        """Whether a body bears its signature: HMAC-SHA256 in hexadecimal, perhaps after C(sha256=)."""
        if not self.keys:
            return True
        given = signature.strip().removeprefix("sha256=").lower().encode("utf-8", "surrogatepass")
        # Each key is tried whatever the one before said, so that the time tells nothing.
        same = [hmac.compare_digest(given, hmac.new(key, body, "sha256").hexdigest().encode()) for key in self.keys]
        return any(same)


class Senders:
    """All that may send. A request is that of a sender by its Bearer token, else by its path, else by its certificate.

    A sender with a token and a certificate needs both.
    """

    def __init__(self, options: Options) -> None:
        # Tokens are looked up by a hash with a key that nobody knows, so that the time tells nothing about them, and
        # costs no more with a thousand senders.
        self._key = os.urandom(32)
        anybody = Sender(keys=_keys(options.all_hmac_secrets))
        senders = [
            Sender(given.name, given.hosts, given.certificate.lower(), _keys(given.hmac_secrets))
            for given in options.senders
        ]
        pairs = list(zip(senders, options.senders, strict=True))
        self._by_token = self._table([(anybody, options.all_tokens), *((s, given.tokens) for s, given in pairs)])
        self._by_path = self._table(
            [(anybody, options.all_path_tokens), *((s, given.path_tokens) for s, given in pairs)]
        )
        self._by_certificate: Mapping[str, Sender] = {
            sender.certificate: sender
            for sender, given in pairs
            if sender.certificate and not (given.tokens or given.path_tokens)
        }
        # Where nothing else tells senders apart, a required certificate of the authority or a signature does. Where
        # nothing does, everybody is a stranger.
        alone = options.takes_posts and not (self._by_token or self._by_path or senders)
        self._anybody = anybody if alone else None

    def identify(self, authorization: str, path_token: str, names: Iterable[str]) -> Sender | None:
        """Whose request this is; None for a stranger. Its signature is yet to be checked.

        Args:
            authorization: the header of that name.
            path_token: the secret part of the path, or empty.
            names: in the certificate of the connection, which an authority of C(cafile) has signed; in lower case.
        """
        scheme, _space, bearer = authorization.partition(" ")
        found = self._by_token.get(self._hash(bearer.strip())) if scheme.lower() == "bearer" else None
        found = found or self._by_path.get(self._hash(path_token))
        if found is None:
            found = next((self._by_certificate[name] for name in names if name in self._by_certificate), self._anybody)
        elif found.certificate and found.certificate not in names:
            return None
        return found

    def _table(self, secrets: Iterable[tuple[Sender, Iterable[str]]]) -> dict[bytes, Sender]:
        return {self._hash(secret): sender for sender, given in secrets for secret in given}

    def _hash(self, secret: str) -> bytes:
        return hashlib.blake2b(secret.encode("utf-8", "surrogatepass"), key=self._key).digest()


def certificate_names(certificate: Mapping[str, t.Any] | None) -> frozenset[str]:
    """The names in a certificate as Python decodes it: the common name, and the alternative names. In lower case."""
    if not certificate:
        return frozenset()
    common = (value for part in certificate.get("subject", ()) for key, value in part if key == "commonName")
    others = (value for kind, value in certificate.get("subjectAltName", ()) if kind in ("DNS", "URI", "email"))
    return frozenset(name.lower() for name in (*common, *others))


def _keys(secrets: Iterable[str]) -> tuple[bytes, ...]:
    return tuple(secret.encode() for secret in secrets)
