# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""As much of the API of AWX as ansible-rulebook uses, which runs jobs by the real ansible-playbook.

AWX itself cannot be installed here.
"""

from __future__ import annotations

import http.server
import itertools
import json
import threading
import typing as t
import urllib.parse
from collections.abc import Callable, Mapping

Json = dict[str, t.Any]


class Controller:
    """Listens at C(url) as long as its context lasts.

    Args:
        templates: what a job of each job template does, given the limit and the extra variables; whether it succeeded.

    Attributes:
        jobs: name of the template, limit and extra variables of each job, in the order in which they were launched.
    """

    ORGANIZATION = "Default"

    def __init__(self, templates: Mapping[str, Callable[[str, Json], bool]]) -> None:
        self.jobs: list[tuple[str, str, Json]] = []
        self._templates = dict(templates)
        self._numbers = itertools.count(1)
        self._states: dict[int, str] = {}
        controller = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urllib.parse.urlsplit(self.path)
                self._answer(controller._get(url.path, dict(urllib.parse.parse_qsl(url.query))))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._answer(controller._launch(int(self.path.split("/")[-3]), body))

            def _answer(self, value: Json) -> None:
                body = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Keep the output of the tests clean."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Controller:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _get(self, path: str, query: Mapping[str, str]) -> Json:
        if path.endswith("/config/"):
            return {"version": "24.6.1"}
        if path.endswith("/unified_job_templates/"):
            return {"next": None, "results": [self._template(i, name) for i, name in enumerate(self._templates)]}
        wanted = [int(number) for number in query.get("id__in", path.strip("/").rpartition("/")[2]).split(",")]
        jobs = [self._job(number) for number in wanted]
        return {"results": jobs} if "id__in" in query else jobs[0]

    def _template(self, number: int, name: str) -> Json:
        return {
            "id": number,
            "type": "job_template",
            "name": name,
            "summary_fields": {"organization": {"name": self.ORGANIZATION}},
            "related": {"launch": f"/api/v2/job_templates/{number}/launch/"},
            **{f"ask_{what}_on_launch": True for what in ("limit", "inventory", "variables")},
            "ask_labels_on_launch": False,
        }

    def _launch(self, template: int, body: Json) -> Json:
        name, work = list(self._templates.items())[template]
        number, limit, variables = next(self._numbers), body.get("limit", ""), body.get("extra_vars", {})
        self._states[number] = "running"
        self.jobs.append((name, limit, variables))

        def run() -> None:
            self._states[number] = "successful" if work(limit, variables) else "failed"

        threading.Thread(target=run, daemon=True).start()
        return self._job(number)

    def _job(self, number: int) -> Json:
        return {
            "id": number,
            "url": f"/api/v2/jobs/{number}/",
            "type": "job",
            "status": self._states[number],
            "created": "2026-04-05T12:00:00Z",
            "artifacts": {},
        }
