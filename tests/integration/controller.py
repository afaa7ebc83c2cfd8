# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""As much of the API of AWX as ansible-rulebook and our source use, which runs jobs by the real ansible-playbook.

AWX itself cannot be installed here.
"""

from __future__ import annotations

import json
import threading
import typing as t
import urllib.parse
from collections.abc import Callable, Mapping

from ansible_collections.ironpost.container_guard.tests import loopback

Json = dict[str, t.Any]
Work = Callable[[str, Json], "bool | tuple[bool, Json]"]


class Controller(loopback.LoopbackServer):
    """Listens at C(url) as long as its context lasts.

    Args:
        templates: what a job of each job template does, given the limit and the extra variables; whether it succeeded,
            and its artifacts where it has any.

    Attributes:
        jobs: name of the template, limit and extra variables of each job, in the order in which they were launched.
        listed: queries by which jobs were listed.
        refused: status with which lists of jobs are answered instead, 0 for none.
        authorizations: the header of that name of all requests.
    """

    ORGANIZATION = "Default"

    def __init__(self, templates: Mapping[str, Work]) -> None:
        self.jobs: list[tuple[str, str, Json]] = []
        self.listed: list[dict[str, str]] = []
        self.refused = 0
        self.authorizations: set[str] = set()
        self._artifacts: dict[int, Json] = {}
        self._templates = dict(templates)
        self._lock = threading.Lock()
        self._states: dict[int, str] = {}
        controller = self

        class Handler(loopback.Handler):
            def do_GET(self) -> None:
                url = urllib.parse.urlsplit(self.path)
                controller.authorizations.add(self.headers["Authorization"])
                if controller.refused and url.path.endswith("/jobs/"):
                    self._answer({"detail": "as the test wants it"}, controller.refused)
                    return
                found = controller._get(url.path, dict(urllib.parse.parse_qsl(url.query)))
                self._answer(found, 404 if "detail" in found else 200)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._answer(controller._launch(int(self.path.split("/")[-3]), body))

            def _answer(self, value: Json, status: int = 200) -> None:
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        super().__init__(Handler)

    def _get(self, path: str, query: Mapping[str, str]) -> Json:
        if path.endswith("/config/"):
            return {"version": "24.6.1"}
        if path.endswith("/unified_job_templates/"):
            return {"next": None, "results": [self._template(i, name) for i, name in enumerate(self._templates)]}
        if path.endswith("/jobs/"):
            return self._list(query)
        number = int(path.strip("/").rpartition("/")[2])
        return {**self._job(number), "artifacts": self._artifacts.get(number, {})}

    def _list(self, query: Mapping[str, str]) -> Json:
        """A page of jobs, as AWX 24 answers it: without the artifacts."""
        self.listed.append(dict(query))
        numbers = [number for number in self._states if number > int(query.get("id__gt", 0))]
        if "id__in" in query:
            numbers = [number for number in numbers if str(number) in query["id__in"].split(",")]
        if "status__in" in query:
            numbers = [number for number in numbers if self._states[number] in query["status__in"].split(",")]
        numbers.sort(reverse=query.get("order_by") == "-id")
        page, size = int(query.get("page", 1)), min(int(query.get("page_size", 25)), 200)
        more = len(numbers) > page * size
        if page > 1 and not numbers[(page - 1) * size :]:
            return {"detail": "Invalid page."}
        shown = numbers[(page - 1) * size : page * size]
        return {
            "count": len(numbers),
            "next": f"/api/v2/jobs/?page={page + 1}" if more else None,
            "previous": None,
            "results": [self._job(number) for number in shown],
        }

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
        job = (name, body.get("limit", ""), body.get("extra_vars", {}))
        _name, limit, variables = job
        with self._lock:
            self.jobs.append(job)
            number = len(self.jobs)
            self._states[number] = "running"

        def run() -> None:
            done = work(limit, variables)
            successful, self._artifacts[number] = done if isinstance(done, tuple) else (done, {})
            self._states[number] = "successful" if successful else "failed"

        threading.Thread(target=run, daemon=True).start()
        return self._job(number)

    def _job(self, number: int) -> Json:
        name, limit, variables = self.jobs[number - 1]
        return {
            "id": number,
            "url": f"/api/v2/jobs/{number}/",
            "type": "job",
            "name": name,
            "status": self._states[number],
            "created": "2026-04-05T12:00:00Z",
            "limit": limit,
            "extra_vars": json.dumps(variables),
        }
