"""A few hundred mutated and random GAN files; ``python tests/gan_fuzz.py 18000 2000`` runs all of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

N_SMALL = int(os.environ.get("LIFT3D_FUZZ", "300"))


def test_mutated_files_end_in_clear_errors() -> None:
    script = Path(__file__).parents[1] / "gan_fuzz.py"
    done = subprocess.run(
        [sys.executable, script, str(N_SMALL), "0", "7"], capture_output=True, text=True, timeout=3600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)["small"]
    assert report["failures"] == []
    assert sum(report["counts"].values()) == N_SMALL
    assert report["counts"].keys() == {"loaded", "CheckpointError", "CorruptFile"}
