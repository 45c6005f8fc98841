"""What a training will take, against what one has taken."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from ranks_program import SHORT
from tiny_gan import tiny_gan

from lift3d.checkpoint import read_tensors
from lift3d.cli.main import main
from lift3d.config.presets import LSUN_CAR, PRESETS
from lift3d.errors import ConfigError
from lift3d.observer import SilentObserver
from lift3d.train.calibrate import SHAPES_PER_SAMPLE
from lift3d.train.estimate import estimate, stage_bytes
from lift3d.train.joint import pretrain
from lift3d.train.runner import COLLECTED


class Counts(SilentObserver):
    """Iterations and samples of every task of a run."""

    def __init__(self) -> None:
        self.done: dict[str, int] = {}

    def start(self, task: str, total: int | None) -> None:
        self.task = task.rpartition(", ")[2]

    def advance(self, n: int = 1, **values: float) -> None:
        self.done[self.task] = self.done.get(self.task, 0) + n


def test_an_estimate_counts_what_a_run_does(tmp_path: Path) -> None:
    counts, m = Counts(), SHORT.joint.n_rerendered
    pretrain(SHORT, tiny_gan(), tmp_path, counts)
    found = estimate(SHORT, tiny_gan())
    expected = {cost.kind: cost.count for cost in found.costs}
    assert expected["latent"] + expected["align"] == counts.done["align"]
    assert expected["rerender"] == m * counts.done["re-rendering"]
    assert expected["project"] == m * counts.done["projecting"]
    assert all(expected[kind] == counts.done[kind] for kind in ("explore", "exploit", "calibrate"))
    assert all(cost.each > 0 for cost in found.costs if cost.kind != "latent")
    assert found.seconds == sum(cost.count * cost.each for cost in found.costs)
    collected = read_tensors(tmp_path / COLLECTED)[1]
    images = sum(
        collected[f"{kind}.{part}"].nbytes for kind in ("pseudo", "projected") for part in ("images", "masks")
    )
    at_last = SHORT.joint.n_samples * SHORT.joint.n_rerendered * 4 * SHORT.size**2  # took the place of more
    more = SHAPES_PER_SAMPLE * at_last
    assert stage_bytes(SHORT.joint) == images + more - at_last
    files = sum(path.stat().st_size for path in tmp_path.iterdir() if path.suffix == ".safetensors")
    assert files <= found.disk_bytes <= 4 * files
    assert found.device_bytes == 0 and found.host_bytes > images


def test_published_presets_stay_below_16_gb_of_images() -> None:
    """Of which half are made in memory, and the others are read as needed."""
    for preset in PRESETS.values():
        for schedule in (preset.joint, *preset.instance):
            assert schedule is None or stage_bytes(schedule) <= 16e9
    hq = PRESETS["celeba-hq"]
    assert stage_bytes(hq.joint) == 200 * 80 * 256**2 * (3 + 1) * 2


def test_the_guide_says_what_the_images_take() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "own-category.md").read_text()
    rows = re.findall(r"\| `([\w-]+)` \| ([\d,]+) \| ([\d.]+) \| ([\d.]+) \|", guide)
    assert [row[0] for row in rows] == [name for name in PRESETS if name not in ("lsun-car", "demo", "tiny")]
    for name, count, images, half in rows:
        schedule = PRESETS[name].joint
        assert int(count.replace(",", "")) == schedule.n_samples * schedule.n_rerendered
        assert (images, half) == tuple(f"{stage_bytes(schedule) / part / 1e9:.1f}" for part in (1, 2))


def test_the_command_prints_a_table_and_writes_nothing(tiny_gan: Path, tmp_path: Path) -> None:
    out, own = tmp_path / "run", tmp_path / "own.toml"
    own.write_text(
        'base = "tiny"\nname = "small"\nsize = 16\nn_unlabeled = 8\n[joint]\nn_samples = 1\nn_stages = 3'
    )
    command = ["pretrain", "--dataset", str(own), "--gan", str(tiny_gan), "--out", str(out), "--estimate"]
    result = CliRunner().invoke(main, [*command, "--device", "cpu"])
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.stdout.splitlines()]
    rows = rows[rows.index(["phase", "times", "seconds", "each", "hours"]) :]
    assert [(row[0], row[1]) for row in rows[1:12]] == [
        ("explore", "14"), ("rerender", "42"), ("latent", "3"), ("align", "12"), ("project", "9"),
        ("mask", "10"), ("exploit", "18"), ("calibrate", "8"), ("distill", "4"), ("lean", "4"),
        ("realign", "4"),
    ]  # fmt: skip
    assert rows[12][0] == "all" and rows[-1][0] == "memory"
    assert not list(tmp_path.glob("run*"))


def test_a_preset_without_joint_training_has_nothing_to_estimate() -> None:
    with pytest.raises(ConfigError, match="lsun-car has no joint pre-training, so there is nothing to"):
        estimate(replace(LSUN_CAR), tiny_gan())
