"""The README's commands for views and lights of one's own run as printed, with small samples."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

import lift3d
from lift3d.cli.main import main

README = (Path(__file__).parents[2] / "README.md").read_text()
SECTION = README.split("## Views and lights of your own")[1].split("\n## ")[0]
SMALL = ["--n", "3", "--size", "16", "--mesh-resolution", "24"]  # the last of an option given twice counts


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a single core
def test_the_commands_and_the_loader_run_as_printed(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = [*SMALL, "--model", str(tiny_model)]
    lines = re.findall(r"^    lift3d (.+?)(?: {2,}#.*)?$", SECTION, re.M)
    outputs = []
    for line in lines:
        result = CliRunner().invoke(main, [*shlex.split(line), *(small if line.startswith("sample") else [])])
        assert result.exit_code == 0, result.output
        outputs.append(result.stdout)
    assert len(lines) == 4 and "s a sample as measured here" in outputs[3] and not Path("big.h5").exists()
    orbit, stage = (lift3d.open_dataset(name) for name in ("orbit.h5", "olat.h5"))
    assert orbit[0].colors.shape == (36, 1, 16, 16, 3) and stage[0].colors.shape == (4, 32, 16, 16, 3)
    assert orbit[0].cameras.fov_deg == pytest.approx(40, abs=1e-3)
    code = re.search(r"```python\n(.*?)```", SECTION, re.S)[1]
    found = {"lift3d": lift3d}
    exec(compile(code, "README.md", "exec"), found)  # the code as printed
    assert found["batch"].colors.shape[1:] == (16, 16, 3) and found["batch"].normals.shape[1:] == (16, 16, 3)
    assert len(found["batch"].cameras) == len(found["batch"].lights) == len(found["batch"].index)
