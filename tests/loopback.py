# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP servers of tests, on this machine."""

from __future__ import annotations

import http.server
import ssl
import threading
import typing as t


class Handler(http.server.BaseHTTPRequestHandler):
    """One that keeps the output of the tests clean."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class LoopbackServer:
    """Listens at C(url) as long as its context lasts.

    Args:
        handler: of its requests.
        path: at the end of C(url).
        context: for TLS.
    """

    def __init__(self, handler: type[Handler], path: str = "", context: ssl.SSLContext | None = None) -> None:
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        if context:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self._server.server_port}{path}"

    def __enter__(self) -> t.Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
