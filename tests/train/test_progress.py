"""What a run shows of itself while it goes on, and ``lift3d runs show``."""

import json
import os
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from lift3d.cli.main import main
from lift3d.errors import ConfigError, CorruptFile
from lift3d.observer import SilentObserver
from lift3d.train import runner as module
from lift3d.train.phase import Group, Phase
from lift3d.train.progress import PROGRESS, Progress, read_run
from lift3d.train.runner import Runner


def train(out: Path, monkeypatch: pytest.MonkeyPatch) -> list[Progress]:
    """Two phases of 40 and 60 steps, of the same kind, whose steps take 2 s by this clock; what was shown."""
    now, weight = [0.0], torch.nn.Parameter(torch.ones(1))
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module.time, "time", lambda: 1000.0 + now[0])

    def loss(step: int) -> dict[str, torch.Tensor]:
        now[0] += 2.0
        return {"total": weight.square().sum()}

    phases = [
        Phase(
            f"stage {i + 1}", "fit", {"stage": i, "phase": "fit"}, n, [Group([weight], 0.1)], lambda s: loss
        )
        for i, n in enumerate((40, 60))
    ]
    shown: list[Progress] = []
    write = Progress.write
    monkeypatch.setattr(Progress, "write", lambda self, folder: (shown.append(self), write(self, folder))[1])
    runner = Runner(out, {"w": weight.data}, {}, torch.Generator(), SilentObserver())
    runner.begin(resume=False)
    runner.run(phases)
    return shown


def test_progress_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = train(tmp_path, monkeypatch)
    assert [(p.title, p.step, p.share, p.seconds_left) for p in shown] == [
        ("stage 1", 0, 0.0, None), ("stage 1", 20, 0.2, 160.0), ("stage 1", 40, 0.4, 120.0),
        ("stage 2", 0, 0.4, 120.0), ("stage 2", 20, 0.6, 80.0), ("stage 2", 40, 0.8, 40.0),
        ("stage 2", 60, 1.0, 0.0), ("", 0, 1.0, 0.0),
    ]  # fmt: skip
    assert [p.finished for p in shown] == [False] * 7 + [True]
    assert read_run(tmp_path).progress == shown[-1]
    assert shown[4].sentence(now=shown[4].time + 90) == (
        "stage 2, step 20 of 60; 60% of all steps done, about 1.3 min left; as of 1.5 min ago"
    )
    collects = Progress("stage 2, project", 0, 0, 0.25, 7260.0, False, 0.0)
    assert collects.sentence(3.0) == (
        "stage 2, project; 25% of all steps done, about 2.0 h left; as of 3 s ago"
    )


def test_runs_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path, monkeypatch)
    for age, name in ((5, "old.png"), (1, "new.png")):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    with open(tmp_path / "log.jsonl", "a") as log:
        log.write('{"stage": 1, "ph')  # half a line of a run that goes on
    result = CliRunner().invoke(main, ["runs", "show", str(tmp_path)])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == f"{tmp_path}: finished"
    assert lines[2].split()[:4] == ["phase", "stage", "step", "total"]
    assert lines[3].split()[:3] == ["fit", "2", "60"]  # the latest line alone
    assert lines[-2:] == [str(tmp_path / "new.png"), str(tmp_path / "old.png")]
    about = json.loads(CliRunner().invoke(main, ["runs", "show", str(tmp_path), "--json"]).stdout)
    assert about["progress"]["finished"] and about["losses"][0]["step"] == 60
    assert about["pictures"] == lines[-2:]


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no progress.json; give a folder that `lift3d pretrain`"):
        read_run(tmp_path)
    for text in ("{", "[]", '{"step": 1}'):
        (tmp_path / PROGRESS).write_text(text)
        with pytest.raises(CorruptFile, match="holds a damaged progress.json or log.jsonl"):
            read_run(tmp_path)


def test_a_collecting_phase_shows_its_title(tmp_path: Path) -> None:
    seen = []
    phase = Phase("collecting", "c", {}, collect=lambda s: (seen.append(read_run(tmp_path)), {})[1])
    runner = Runner(tmp_path, {"w": torch.ones(1)}, {}, torch.Generator(), SilentObserver())
    runner.begin(resume=False)
    runner.run([phase])
    assert (seen[0].progress.title, seen[0].progress.n_steps) == ("collecting", 0)
