"""Loads files in a process of its own and reports what happened: ``python gan_probe.py FILE...`` prints JSON.

Nothing is imported but the library, and types are not checked, so this is what a user's process does.
"""

import json
import os
import sys
import time
import warnings
from pathlib import Path

from lift3d.errors import Lift3DError
from lift3d.gan.files.load import describe, load


def reset_peak() -> None:
    """Forgets the highest memory use so far (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def memory(key: str) -> int:
    """Bytes of resident memory: now (VmRSS), or at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def probe(path: str) -> dict:
    """Outcome and message of ``load``, outcome of ``describe``, seconds and peak memory of both."""
    outcomes = []
    reset_peak()
    start = time.monotonic()
    for read in (describe, load):
        try:
            outcomes.append(("loaded", read(path).kind))
        except Lift3DError as error:
            outcomes.append((type(error).__name__, str(error)))
    outcome, message = outcomes[1]
    return {
        "file": os.path.basename(path),
        "outcome": outcome,
        "message": message,
        "described": outcomes[0][0],
        "seconds": time.monotonic() - start,
        "size": os.path.getsize(path),
        "peak": memory("VmHWM"),
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    probe(sys.argv[1])  # what the first load imports does not count
    modules, imports = set(sys.modules), memory("VmRSS")
    results = [probe(path) for path in sys.argv[1:]]
    imported = sorted(set(sys.modules) - modules)
    print(
        json.dumps(
            {"results": results, "imported": imported, "memory": imports, "environment": dict(os.environ)}
        )
    )
