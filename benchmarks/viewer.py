"""How long the viewer's page takes to answer, by its own counter, on the bundled model.

Needs Chromium, which runs without a GPU here (SwiftShader), so the page draws with the cores that the model
computes with. A time is from an input event to the last pixel of the picture that answers it, the least of
``--repeat``: drawn from the surface that the browser holds, and from the maps that the server renders for the
view. CPU times are those of all processes of either side until both are done. Linux only.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from chromium import Browser

DONE = "document.body.dataset.exact === 'true' && !asking.model.busy && !asking.projection.busy && !moves()"
MOVES = "window.moves = () => performance.now() - moving < 2 * STILL"  # a last frame is drawn in full
TICKS = os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """A process and all that it started."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += children(int(child))
    return found


def cpu(pid: int) -> float:
    """CPU seconds of a process and of its children that still run."""
    fields = [Path(f"/proc/{p}/stat").read_text().rpartition(")")[2].split() for p in children(pid)]
    return sum(int(f[11]) + int(f[12]) for f in fields) / TICKS


def measured(browser: Browser, server: int, action: Callable[[], object], names: list[str]) -> list[float]:
    """The page's times in ms of an action, then CPU ms of the server and of the browser."""
    before = cpu(server), cpu(browser.pid)
    action()
    browser.wait(DONE)
    spent = 1e3 * (cpu(server) - before[0]), 1e3 * (cpu(browser.pid) - before[1])
    times = browser.evaluate("JSON.parse(document.body.dataset.times)")
    return [*(times[name] for name in names), *spent]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    command = [sys.executable, "-u", "-m", "lift3d.cli.main", "view", "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        with tempfile.TemporaryDirectory() as folder:
            browser = Browser(Path(folder))
            browser.open(server.stdout.readline().split()[0])
            browser.wait("asking.projection")
            browser.evaluate(MOVES)
            browser.wait(DONE)
            seeds = iter(range(1, 15))
            rows = {
                "light": (lambda: browser.drag("#picture", 9, 5), ["light"]),
                "pose": (lambda: browser.drag("#mesh", 9, 5), ["pose", "pose, exact", "through the GAN"]),
                "seed": (
                    lambda: browser.click(f"#strip [data-seed='{next(seeds)}']"),
                    ["seed", "seed, exact", "through the GAN"],
                ),
            }
            print(f"{'ms':8}{'shown':>8}{'exact':>8}{'GAN':>8}   CPU: {'server':>8}{'browser':>8}")
            for name, (action, names) in rows.items():
                runs = [measured(browser, server.pid, action, names) for _ in range(repeat)]
                *times, ours, theirs = (min(column) for column in zip(*runs, strict=True))
                cells = "".join(f"{time:8.0f}" for time in times).ljust(24)
                print(f"{name:8}{cells}        {ours:8.0f}{theirs:8.0f}")
            browser.close()
        server.terminate()


if __name__ == "__main__":
    main()
