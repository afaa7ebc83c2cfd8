# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Kafka client: a member of a consumer group, made of the options. It needs aiokafka and cramjam.

Without cramjam a record that is compressed by another algorithm than gzip could not be read, and would hold up its
partition; and the algorithm is for producers to choose.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import ssl
import struct
import typing as t
import zlib
from collections.abc import Awaitable, Callable, Collection

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.kafka_options import KafkaOptions
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.offsets import Partition

_Listening: t.Any = object
MISSING = ""
"""Which of the packages is missing."""
try:
    import aiokafka
    import cramjam
    from aiokafka import errors
    from aiokafka.abc import ConsumerRebalanceListener
except ImportError as error:
    # Few need it. The sanity tests of Ansible import this without.
    MISSING = str(error)
    aiokafka = errors = None
    cramjam = None  # type: ignore[assignment]  # nothing here runs without them
else:
    _Listening = ConsumerRebalanceListener


def _error(of: t.Any, name: str) -> type[Exception]:
    return t.cast(type[Exception], getattr(of, name)) if of else Exception


KafkaError = _error(errors, "KafkaError")
CommitFailedError = _error(errors, "CommitFailedError")
IllegalStateError = _error(errors, "IllegalStateError")
KafkaConnectionError = _error(errors, "KafkaConnectionError")
TopicAuthorizationFailedError = _error(errors, "TopicAuthorizationFailedError")
UNDECODABLE = (
    _error(errors, "CorruptRecordException"),
    _error(cramjam, "DecompressionError"),
    EOFError,
    IndexError,
    ValueError,
    gzip.BadGzipFile,
    struct.error,
    zlib.error,
)
"""What the client raises where a producer sent what it cannot decode."""

SESSION = 10.0
"""After how many seconds without a sign of life others get the partitions of a member."""
_FETCH_BYTES = 1_048_576
_METADATA_AGE = 30.0
"""Seconds after which a topic that is there now, and a partition that was added, is found."""
_MILLISECONDS = 1000
_T = t.TypeVar("_T")


def ssl_context(options: KafkaOptions) -> ssl.SSLContext | None:
    """The context for these options. Raises ValueError for files that cannot be used."""
    if not options.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=options.cafile or None)
        if options.certfile:
            # Without a password that nobody is there to type.
            context.load_cert_chain(options.certfile, options.keyfile or None, password="")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"the files of kafka (cafile, certfile, keyfile) cannot be used ({error}). Set them to PEM files, the key "
            "without a password"
        ) from None
    return context


def check(options: KafkaOptions) -> None:
    """See that a client can be made. Raises ValueError."""
    if MISSING:
        raise ValueError(
            f"kafka is set, and its client is missing ({MISSING}). Install the Python packages aiokafka and cramjam "
            "where ansible-rulebook runs: pip install aiokafka cramjam"
        )
    ssl_context(options)
    log = logging.getLogger("aiokafka")
    if log.level == logging.NOTSET:
        # It writes several lines a second while a broker is away, which is told once a minute here.
        log.setLevel(logging.CRITICAL)


class Member:
    """A member of the group that has not joined it yet.

    Args:
        options: of the topics.
        most: bytes of a record.
        revoked: called before partitions are taken away; a commit for them is possible still.
        assigned: called when partitions were given.

    Attributes:
        consumer: the client.
    """

    def __init__(
        self,
        options: KafkaOptions,
        most: int,
        revoked: Callable[[], Awaitable[None]],
        assigned: Callable[[Collection[Partition]], None],
    ) -> None:
        self._options = options
        self._listener = _Listener(revoked, assigned)
        sasl = {}
        if options.sasl:
            sasl = {
                "sasl_mechanism": options.sasl_mechanism,
                "sasl_plain_username": options.sasl_username,
                "sasl_plain_password": options.sasl_password,
            }
        self.consumer: t.Any = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=list(options.bootstrap_servers),
            group_id=options.group_id,
            client_id=options.client_id,
            auto_offset_reset=options.auto_offset_reset,
            enable_auto_commit=False,
            security_protocol=options.security_protocol,
            ssl_context=ssl_context(options),
            max_partition_fetch_bytes=max(_FETCH_BYTES, most),
            metadata_max_age_ms=int(_METADATA_AGE * _MILLISECONDS),
            session_timeout_ms=int(SESSION * _MILLISECONDS),
            **sasl,
        )

    async def join(self, timeout: float) -> None:
        """Connect, and ask for partitions. Raises KafkaError, OSError."""
        await within(timeout, self.consumer.start())
        self.consumer.subscribe(list(self._options.topics), listener=self._listener)

    async def leave(self, timeout: float) -> None:
        """Give the partitions to others. They get them all the same where it fails."""
        try:
            await within(timeout, self.consumer.stop())
        except (KafkaError, OSError):
            return

    @property
    def partitions(self) -> set[Partition]:
        """Those that are this member's."""
        return {Partition(*each) for each in self.consumer.assignment()}

    def hold(self, wanted: Collection[Partition]) -> None:
        """Take nothing more from these, and from the others again."""
        paused, assigned = self.consumer.paused(), self.consumer.assignment()
        held = {each for each in assigned if Partition(*each) in wanted}
        if held - paused:
            self.consumer.pause(*(held - paused))
        if (paused & assigned) - held:
            self.consumer.resume(*((paused & assigned) - held))


class _Listener(_Listening):  # type: ignore[misc]  # aiokafka ships no type information
    def __init__(
        self, revoked: Callable[[], Awaitable[None]], assigned: Callable[[Collection[Partition]], None]
    ) -> None:
        self._revoked = revoked
        self._assigned = assigned

    async def on_partitions_revoked(self, revoked: Collection[t.Any]) -> None:  # noqa: ARG002 - all of them are
        await self._revoked()

    async def on_partitions_assigned(self, assigned: Collection[t.Any]) -> None:
        self._assigned([Partition(*each) for each in assigned])


def key_of(partition: Partition) -> t.Any:
    """How the client calls a partition."""
    return aiokafka.TopicPartition(*partition)


async def within(seconds: float, work: Awaitable[_T]) -> _T:
    """What comes of it. Raises KafkaConnectionError where it takes longer."""
    try:
        return await asyncio.wait_for(work, seconds)
    except TimeoutError:
        raise KafkaConnectionError(f"no answer within {seconds:g} seconds") from None


def explain(error: BaseException) -> str:
    """What to say of a failure, for people. A broker may have said it."""
    return text.display(str(error) or type(error).__name__, 200)
