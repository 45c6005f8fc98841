"""Fixtures of the viewer's tests: a browser, a small dataset, a running server."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Browser
from lifted_blobs import Blobs

from lift3d.export.dataset import DatasetPlan, write_dataset
from lift3d.export.viewer.server import Server


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """A page; at the end it must have had no error and asked nobody outside this computer."""
    page = Browser(tmp_path)
    yield page
    page.close()
    assert page.problems == []


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of two ellipsoids."""
    path = tmp_path_factory.mktemp("faces") / "faces.h5"
    write_dataset(Blobs(), DatasetPlan(n=2, views=2, lights=2, size=32, split=(0.5, 0.5, 0.0)), path)
    return path


@pytest.fixture
def serve() -> Iterator:
    """A function that serves a scene."""
    running = []

    def start(what: object) -> Server:
        server = Server(what)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.stop()
        thread.join(20)
        server.server_close()
