# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connections by HTTP for what shows who sends: a token, or a capability, is for one server alone.

So neither proxies of the environment nor redirects are followed.
"""

from __future__ import annotations

import http.client
import ssl
import urllib.parse


def connection_to(
    parts: urllib.parse.SplitResult, timeout: float, context: ssl.SSLContext | None = None
) -> http.client.HTTPConnection:
    """A connection that is made when it is first used, to the server of a URL and no other.

    Args:
        parts: of the URL, which begins with http:// or https:// and has a host.
        timeout: seconds that the server may be silent.
        context: of TLS; None for that of Python, with the authorities of this machine. Not used for http.
    """
    if parts.scheme == "https":
        return http.client.HTTPSConnection(str(parts.hostname), parts.port, timeout=timeout, context=context)
    return http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=timeout)
