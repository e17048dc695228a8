"""The server of `spa-bench view`: what it answers, to whom, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from doubles import RIGHT, Call, InProcessJudge, MockModel, mock_run
from spa_bench.publish.view import one, server
from spa_bench.runs.folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "<img src=x onerror=alert(1)>\"'&\u202e\n"


@pytest.fixture
def there(tmp_path: Path, three: Path, sandbox: InProcessJudge, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A finished run in `runs`."""
    monkeypatch.setattr(one, "_GRACE_SECONDS", 0.0)
    return mock_run(tmp_path / "runs", three, lambda r: RIGHT[r.problem_id])


def test_the_list_is_a_page_and_its_rows_are_json(there: RunFolder, serve: Callable[[Path], Any]):
    asker = serve(there.path.parent)
    page = asker.get("/")
    assert page.status == 200
    assert str(there.path.parent) in page.text
    assert not re.search(r"https?://", page.text)
    row = asker.rows()[there.path.name]
    assert (row["state"], row["sampler"], row["seed"]) == ("finished", "mock-sampler", 0)
    assert row["metrics"]["pass@1"]["value"] == 1.0
    for path in set(re.findall(r'(?:href|src)="(/[^"]+)"', page.text)):
        assert asker.get(path).status == 200, path


def test_a_report_is_of_the_runs_that_were_chosen_and_made_once(
    there: RunFolder, serve: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch, three: Path
):
    pytest.importorskip("altair", reason="no altair here: pip install 'spa-bench[report]'")
    mock_run(there.path.parent, three, lambda r: RIGHT[r.problem_id], seed=7)
    asker = serve(there.path.parent)
    rows = asker.rows()
    report = asker.get(f"/report?run={rows[there.path.name]['id']}")
    assert report.status == 200
    assert "mock-sampler, seed 0" in report.text
    assert "mock-sampler, seed 7" not in report.text
    assert rows[there.path.name]["stamp"] in report.text
    both = "&".join(f"run={row['id']}" for row in rows.values())
    assert "mock-sampler, seed 7" in asker.get(f"/report?{both}").text
    monkeypatch.setattr("spa_bench.publish.view.answers._made", lambda *_: pytest.fail("made again"))
    assert asker.get(f"/report?run={rows[there.path.name]['id']}").body == report.body


def test_an_unfinished_run_is_shown_as_far_as_it_is(tmp_path: Path, three: Path, serve: Callable[[Path], Any]):
    pytest.importorskip("altair", reason="no altair here: pip install 'spa-bench[report]'")
    with pytest.raises(KeyboardInterrupt):
        mock_run(tmp_path / "runs", three, MockModel(lambda r: RIGHT[r.problem_id], stop_after=3))
    asker = serve(tmp_path / "runs")
    [row] = asker.rows().values()
    report = asker.get(f"/report?run={row['id']}")
    assert report.status == 200
    assert "3 of 6 samples are there" in report.text


@pytest.mark.parametrize(
    "path",
    [
        "/nothing", "/report", "/report?run=", "/report?run=../../etc", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd",
        "/view.css/../../one.py", "//etc/passwd", "/view.css%00", "/assets/view.js", "/api", "/api/runs/",
    ],
)  # fmt: skip
def test_what_is_not_there_is_404(there: RunFolder, serve: Callable[[Path], Any], path: str):
    got = serve(there.path.parent).get(path)
    assert got.status == 404
    assert "root:" not in got.text


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "", "0.0.0.0:{port}", None]
)
def test_a_name_that_is_not_this_servers_is_refused(there: RunFolder, serve: Callable[[Path], Any], host: str | None):
    asker = serve(there.path.parent)
    named = host.format(port=asker.server.server_port) if host else host
    for path in ("/", "/api/runs", "/view.js"):
        got = asker.get(path, host=named or (" " if host == "" else None))
        assert got.status == 403
        assert there.path.name not in got.text


def test_the_server_is_on_loopback_alone_and_answers_to_localhost(there: RunFolder, serve: Callable[[Path], Any]):
    asker = serve(there.path.parent)
    assert asker.server.server_address[0] == "127.0.0.1"
    assert asker.get("/", host=f"localhost:{asker.server.server_port}").status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"])
def test_it_only_shows(there: RunFolder, serve: Callable[[Path], Any], method: str):
    got = serve(there.path.parent).get("/api/runs", method=method)
    assert got.status == 405
    assert got.headers["Allow"] == "GET, HEAD"
    assert there.path.name not in got.text


def test_head_has_the_headers_and_no_body(there: RunFolder, serve: Callable[[Path], Any]):
    asker = serve(there.path.parent)
    head, get = asker.get("/api/runs", method="HEAD"), asker.get("/api/runs")
    assert head.body == b""
    assert head.headers["Content-Length"] == get.headers["Content-Length"] == str(len(get.body))


@pytest.mark.parametrize("path", ["/", "/api/runs", "/view.js", "/page.css", "/nothing"])
def test_every_answer_is_guarded(there: RunFolder, serve: Callable[[Path], Any], path: str):
    headers = serve(there.path.parent).get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


def test_what_has_not_changed_is_not_sent_again(there: RunFolder, serve: Callable[[Path], Any]):
    asker = serve(there.path.parent)
    first = asker.get("/api/runs")
    again = asker.get("/api/runs", If_None_Match=first.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    (there.path / "timings.json").write_text("{}")
    assert asker.get("/api/runs", If_None_Match=first.headers["ETag"]).status == 200


def test_hostile_names_are_text(there: RunFolder, serve: Callable[[Path], Any]):
    there.path.rename(there.path.parent / HOSTILE)
    odd = os.fsencode(there.path.parent) + b"/\xff\xfe"
    os.mkdir(odd)
    with open(odd + b"/spec.json", "w") as stream:
        stream.write(json.dumps({**there.spec, "sampler": {**there.spec["sampler"], "name": HOSTILE}}))
    asker = serve(there.path.parent)
    shown = HOSTILE.replace("\u202e", "\\u202e")
    rows = asker.rows()
    assert set(rows) == {shown, "\\udcff\\udcfe"}
    assert rows["\\udcff\\udcfe"]["sampler"] == shown


def test_a_folder_with_a_hostile_name_is_text_in_the_page(tmp_path: Path, serve: Callable[[Path], Any]):
    folder = tmp_path / '<script>alert(1)"'
    folder.mkdir()
    page = serve(folder).get("/").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&quot;" in page


def test_a_report_of_files_that_lead_elsewhere_is_refused(there: RunFolder, serve: Callable[[Path], Any], tmp_path: Path):
    (tmp_path / "outside").write_bytes((there.path / "records.jsonl").read_bytes())
    (there.path / "records.jsonl").unlink()
    (there.path / "records.jsonl").symlink_to(tmp_path / "outside")
    asker = serve(there.path.parent)
    [row] = asker.rows().values()
    assert row["said"].startswith("records.jsonl is a link that leads out of")
    assert asker.get(f"/report?run={row['id']}").status == 403


def test_a_report_that_cannot_be_made_says_why(there: RunFolder, serve: Callable[[Path], Any]):
    (there.path / "spec.json").write_text(json.dumps({**there.spec, "schema_version": 99}))
    asker = serve(there.path.parent)
    [row] = asker.rows().values()
    assert row["state"] == "newer"
    got = asker.get(f"/report?run={row['id']}")
    assert got.status == 500
    assert "upgrade spa-bench" in got.text


# the command ---------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_is_one_line(call: Call, tmp_path: Path):
    assert call("view", tmp_path / "nowhere").error().startswith(f"{tmp_path / 'nowhere'} is not there; name a folder of runs")
    (tmp_path / "file").touch()
    assert "is no folder" in call("view", tmp_path / "file").error()


def test_a_port_that_cannot_be_had_is_one_line(call: Call, tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert call("view", tmp_path, "--port", port).error() == f"--port {port} is taken; --port 0 takes any that is free"
    assert call("view", tmp_path, "--port", 99999).error() == "--port is 99999; ports are 0 to 65535"
    assert "-1" in call("view", tmp_path, "--port=-1").error()


def test_without_a_port_a_taken_one_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(server, "PORT", taken.getsockname()[1])
        with server._bound(tmp_path, None) as found:
            assert found.server_port != taken.getsockname()[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_well(tmp_path: Path, number: signal.Signals):
    command = [sys.executable, "-m", "spa_bench", "view", str(tmp_path), "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "harness")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout
        assert process.stderr
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\n", process.stdout.readline())
        process.stderr.readline()
        process.send_signal(number)
        assert process.wait(60) == 0
        assert process.stderr.read() == ""


def test_ctrl_c_before_it_serves_ends_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(server, "asked", lambda: True)
    server.view(tmp_path, 0)  # comes back
    assert capsys.readouterr().out == ""  # no address of a server that is not there


def test_ctrl_c_in_the_instant_in_which_it_begins_to_wait_ends_it(tmp_path: Path):
    def watch(frame: FrameType, event: str, what: object) -> None:
        wait = event == "call" and frame.f_code is threading.Condition.wait.__code__
        above = frame.f_back and frame.f_back.f_back
        if (wait and above and above.f_code is server.view.__code__) or what is time.sleep:
            sys.setprofile(None)
            signal.raise_signal(signal.SIGINT)

    def give_up(*_: object) -> None:
        raise TimeoutError("the signal waits for a lock that is held below it")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(5)
    sys.setprofile(watch)
    try:
        server.view(tmp_path, 0)  # comes back
    finally:
        sys.setprofile(None)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_looking_loads_no_torch(tmp_path: Path):
    places = ", ".join(f"spa_bench.publish.{name}" for name in ("view.server", "view.answers", "report"))
    script = f"import {places}, sys; print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "harness")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "False\n"
