"""The viewer's server: whom it answers, what it refuses, how it ends; and the command that runs it."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import webbrowser
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from click.testing import CliRunner

import lift3d
from lift3d.cli.main import main
from lift3d.errors import ConfigError
from lift3d.export.viewer import scene
from lift3d.export.viewer.server import MAX_QUESTION, WAITING, Server


def ask(server: Server, name: str, question: object, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*server.server_address, timeout=20)
    given = {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
    connection.request("POST", f"/api/{name}", json.dumps(question), given)
    answer = connection.getresponse()
    result = answer.status, answer.read()
    connection.close()
    return result


class Toy:
    """A scene that echoes, throws, and waits."""

    def about(self) -> dict:
        return {"kind": "share", "name": "</script><b>toy", "noun": "seed", "background": 1.0}

    def answers(self) -> dict:
        def throw(_: dict) -> bytes:
            raise RuntimeError("the model broke")

        return {"echo": lambda question: json.dumps(question).encode(), "throw": throw}


def test_only_its_own_page_is_answered(serve: object) -> None:
    server = serve(Toy())
    port = server.server_address[1]
    assert ask(server, "echo", {"a": 1}) == (200, b'{"a": 1}')
    assert ask(server, "echo", {}, Host="localhost:9", Origin="http://localhost:9")[0] == 200  # forwarded
    for headers in (
        {"Host": "evil.example"},
        {"Host": f"evil.example:{port}", "Origin": f"http://evil.example:{port}"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Content_Type": "text/plain"},
    ):
        assert ask(server, "echo", {}, **headers)[0] == 403
    for path in ("../echo", "nothing", "%2e%2e/%2e%2e/etc/passwd", "echo/../../../etc/passwd"):
        assert ask(server, path, {})[0] == 404
    connection = http.client.HTTPConnection(*server.server_address)
    for path, status in (("/../../etc/passwd", 404), ("/viewer.js", 404), ("/", 200)):
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == status
    connection.close()
    assert b"</script><b>toy" not in text  # names are escaped
    assert server.server_address[0] == "127.0.0.1"


def test_bad_questions_are_told_why(serve: object) -> None:
    server = serve(Toy())
    assert ask(server, "throw", {}) == (500, b"RuntimeError: the model broke")
    assert ask(server, "echo", "x" * MAX_QUESTION)[0] == 413
    assert ask(server, "echo", {}, Content_Length="-1")[0] == 413
    assert ask(server, "echo", [1])[0] == 400
    assert ask(server, "echo", {"still": "there"})[0] == 200


def test_a_thousand_questions_at_once(serve: object) -> None:
    server = serve(Toy())
    with ThreadPoolExecutor(16) as pool:
        found = list(
            pool.map(lambda i: ask(server, "throw" if i % 10 == 0 else "echo", {"i": i})[0], range(1000))
        )
    assert set(found) <= {200, 500, 503} and found.count(200) > 100
    assert ask(server, "echo", {})[0] == 200


def test_too_many_waiting_questions_are_sent_back(serve: object) -> None:
    toy = Toy()
    server, go = serve(toy), threading.Event()
    server.answers["wait"] = lambda question: (go.wait(20), b"")[1]
    with ThreadPoolExecutor(WAITING + 9) as pool:
        waiting = [pool.submit(ask, server, "wait", {}) for _ in range(WAITING + 9)]
        deadline = time.monotonic() + 20
        while not server.jobs.full():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert ask(server, "echo", {}) == (503, b"too many questions at once; ask again")
        go.set()
    assert {200, 503} >= {question.result()[0] for question in waiting}
    assert ask(server, "echo", {})[0] == 200


def test_one_thread_computes(serve: object) -> None:
    server, threads = serve(Toy()), set()
    server.answers["who"] = lambda question: (threads.add(threading.get_ident()), b"")[1]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: ask(server, "who", {}), range(20)))
    assert len(threads) == 1


def test_a_taken_port_is_an_error(serve: object) -> None:
    port = serve(Toy()).server_address[1]
    with pytest.raises(ConfigError, match=f"port {port} cannot be opened"):
        Server(Toy(), port)


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ({"seed": -1, "truncation": 1}, "seed is '-1', expected a number from 0"),
        ({"seed": 1, "truncation": "x"}, "truncation is 'x'"),
        ({"seed": 1, "truncation": float("nan")}, "truncation is 'nan'"),
        ({"seed": 1, "truncation": 1, "view": [0]}, "view is .*, expected 6 numbers"),
        ({"seed": 1, "truncation": 1, "view": [0] * 6, "size": 1e9}, "size is"),
    ],
)
def test_questions_out_of_range(question: dict, words: str, tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        scene.ModelScene(lift3d.load(tiny_model), "tiny").picture({"view": [0] * 6} | question)


def test_view_refuses_what_it_cannot_show(tmp_path: Path) -> None:
    run = CliRunner().invoke
    for arguments, words in (
        (["x.h5", "--model", "demo"], "two things to look at"),
        (["--port", "70000"], "--port is 70000, expected 0 to 65535"),
        (["--size", "4"], "--size is 4, expected 16 to 512"),
        ([str(tmp_path / "no.h5")], "not a file"),
    ):
        result = run(main, ["view", *arguments])
        assert result.exit_code == 1 and words in result.output


@pytest.mark.parametrize("arguments", [[], ["--no-browser"]])
def test_view_opens_a_browser_unless_told(
    arguments: list[str], faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(server: Server) -> None:
        raise KeyboardInterrupt

    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr(Server, "run", interrupted)
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    result = CliRunner().invoke(main, ["view", str(faces), "--port", "0", *arguments])
    assert result.exit_code == 0 and "ssh" not in result.output
    assert len(opened) == (not arguments) and result.output.startswith(opened[0] if opened else "http")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_cleanly_while_it_computes(number: int, tiny_model: Path) -> None:
    command = [sys.executable, "-u", "-m", "lift3d.cli.main", "view", "--model", tiny_model, "--port", "0"]
    environment = os.environ | {"SSH_CONNECTION": "1.2.3.4 5 6.7.8.9 22"}
    hear = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731  # a background shell ignores it
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with ExitStack() as stack:
        process = stack.enter_context(subprocess.Popen(command, **streams, env=environment, preexec_fn=hear))
        url = process.stdout.readline().split()[0]
        assert url.startswith("http://127.0.0.1:")
        port = int(url.rstrip("/").rpartition(":")[2])
        assert f"ssh -L {port}:127.0.0.1:{port} 6.7.8.9" in process.stdout.readline()
        question = {"seed": 1, "truncation": 1, "view": [0] * 6, "size": 512, "renderer": "neus"}
        for _ in range(3):  # a volume that is being rendered, and threads that wait for it
            connection = stack.enter_context(closing(http.client.HTTPConnection("127.0.0.1", port)))
            body = json.dumps(question)
            connection.request("POST", "/api/picture", body, {"Content-Type": "application/json"})
        time.sleep(0.5)
        process.send_signal(number)
        assert process.wait(60) == 0  # not a time: a hang
        assert process.stderr.read() == ""
