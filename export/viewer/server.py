"""The live viewer's server: this computer only, the standard library's ``http.server``, a page and questions.

``GET /`` is the page; ``POST /api/NAME`` with a JSON question is answered with bytes (pack.py, or a file).
Any other path is 404. A browser lured here by another site is refused by Host, Origin and content type.
Connections have threads of their own, which only listen and talk: one thread computes, a question at a time,
so that an interrupt ends its work between two operations and no other thread is inside a library when the
program ends. ``WAITING`` questions may queue, more are told to come back (503).
"""

import json
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Full, Queue
from typing import Protocol, runtime_checkable

from lift3d.errors import ConfigError, Lift3DError
from lift3d.export.viewer.share import page

HOSTS = ("127.0.0.1", "localhost")  # any port: it may be forwarded
MAX_QUESTION = 1 << 16  # bytes
WAITING = 32  # questions in the queue
BUSY = "too many questions at once; ask again"


@runtime_checkable
class Scene(Protocol):
    """What is looked at: ``scene.ModelScene`` or ``scene.DatasetScene``."""

    def about(self) -> dict: ...

    def answers(self) -> dict: ...


class Server(ThreadingHTTPServer):
    """Serves one scene on 127.0.0.1; port 0 takes a free one. Raises ``ConfigError`` where it is taken."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, scene: Scene, port: int = 0) -> None:
        self.scene, self.answers = scene, scene.answers()
        self.jobs: Queue[tuple[Callable, Future] | None] = Queue(WAITING)
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except (OSError, OverflowError) as error:
            raise ConfigError(f"port {port} cannot be opened ({error}); --port 0 takes a free one") from error

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def run(self) -> None:
        """Serves, and computes all answers in the calling thread, until ``stop`` or an interrupt."""
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        try:
            while job := self.jobs.get():
                answer, result = job
                try:
                    result.set_result(answer())
                except Exception as error:  # the page goes on, whatever a model does
                    result.set_exception(error)
        finally:
            self.shutdown()

    def stop(self) -> None:
        """Ends ``run`` after the questions that wait."""
        self.jobs.put(None)

    def compute(self, answer: Callable[[], object]) -> object:
        """Result of a function in the thread of ``run``. Raises ``Full`` where too many wait."""
        result: Future = Future()
        self.jobs.put_nowait((answer, result))
        return result.result()

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that closed its connection is no news."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "lift3d", ""
    timeout = 60  # seconds, of a silent connection
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        if not self._ours():
            return self._say(403, "this page is for its own computer only")
        if self.path != "/":
            return self._say(404, "there is no such page")
        try:
            about = self.server.compute(self.server.scene.about)
        except Full:
            return self._say(503, BUSY)
        except Lift3DError as error:
            return self._say(410, str(error))
        self._send(200, "text/html; charset=utf-8", page(about, connect=True).text.encode())

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not (length.isdecimal() and int(length) <= MAX_QUESTION):
            self.close_connection = True  # its body stays unread
            return self._say(413, f"a question is at most {MAX_QUESTION} bytes long")
        body = self.rfile.read(int(length))
        if not self._ours() or self.headers.get("Content-Type") != "application/json":
            return self._say(403, "questions come from the page only")
        answer = self.server.answers.get(self.path.removeprefix("/api/"))
        if answer is None or not self.path.startswith("/api/"):
            return self._say(404, "there is no such question")
        try:
            question = json.loads(body)
        except (ValueError, RecursionError):
            question = None
        if not isinstance(question, dict):
            return self._say(400, "a question is a JSON object")
        try:
            data = self.server.compute(lambda: answer(question))
        except Full:
            return self._say(503, BUSY)
        except Lift3DError as error:
            return self._say(400, str(error))
        except Exception as error:
            return self._say(500, f"{type(error).__name__}: {str(error)[:300]}")
        self._send(200, "application/octet-stream", data)

    def _ours(self) -> bool:
        """Whether the browser believes to be on this computer, and on a page of this server."""
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        return host.partition(":")[0] in HOSTS and origin in (None, f"http://{host}")

    def _say(self, status: int, sentence: str) -> None:
        self._send(status, "text/plain; charset=utf-8", sentence.encode())

    def _send(self, status: int, kind: str, data: bytes) -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(data))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing: the terminal belongs to the user."""
