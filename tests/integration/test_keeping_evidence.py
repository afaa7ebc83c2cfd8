# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Evidence that outlives the job that brings it: where a job of AWX runs the playbook."""

from __future__ import annotations

import http.server
import pathlib
import threading
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.verify import verify
from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import Ansible
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld

DELETED = "is deleted as soon as this job has ended"
TOKEN = "a-token-for-evidence"


@pytest.fixture
def server(tmp_path: pathlib.Path) -> t.Iterator[str]:
    """Its URL. It keeps what is put there, below the directory C(server)."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            known = self.headers["Authorization"] == f"Bearer {TOKEN}"
            if known:
                path = tmp_path / "server" / self.path.lstrip("/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            self.send_response(201 if known else 401)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep the output of the tests clean."""

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listener.server_port}/cases"
    listener.shutdown()
    listener.server_close()


def test_it_goes_on_from_the_job_or_that_is_told(
    docker_world: DockerWorld, tmp_path: pathlib.Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, elsewhere = tmp_path / "job", tmp_path / "elsewhere"
    job.mkdir()
    monkeypatch.setenv("AWX_ISOLATED_DATA_DIR", str(job / "artifacts/12"))
    ansible = Ansible(job, "docker-1", "keeper")
    docker_world.make_container("target")
    variables = {
        "guard_target": "docker-1",
        "guard_container": docker_world.name("target"),
        "guard_evidence": "inspect\ntop\n",
        "guard_evidence_paths": "",
        "guard_evidence_to": "",
        "guard_docker_host": docker_world.docker_host,
    }

    lost = ansible.playbook("collect_evidence", variables)
    assert lost.status == 0, lost.output
    assert DELETED in " ".join(lost.output.split())
    assert lost.stats["guard_evidence"]["docker-1"]["kept"] == ""

    for to, root in ((server, tmp_path / "server/cases"), (f"scp://keeper{elsewhere}/", elsewhere)):
        run = ansible.playbook(
            "collect_evidence", {**variables, "guard_evidence_to": to, "guard_evidence_token": TOKEN}
        )
        assert run.status == 0, run.output
        assert DELETED not in " ".join(run.output.split())
        assert TOKEN not in run.output
        found = run.stats["guard_evidence"]["docker-1"]
        assert found["kept"] == f"{to.rstrip('/')}/docker-1/{found['case_id']}"
        kept = verify(str(root / "docker-1" / found["case_id"]), found["manifest_sha256"])
        assert not kept.problems

    refused = ansible.playbook("collect_evidence", {**variables, "guard_evidence_to": "ftp://a/b"})
    assert refused.status != 0
    assert "scp://HOST/PATH" in refused.output
