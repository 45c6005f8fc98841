"""Several processes train as one: the same gradients, the same run, and an end that loses nothing."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from interrupted import Stop, StopAfter
from ranks_program import SHORT
from tiny_gan import tiny_gan

from lift3d.checkpoint import read_tensors
from lift3d.cli import options
from lift3d.errors import ConfigError
from lift3d.model import LiftedGAN
from lift3d.train.joint import pretrain
from lift3d.train.ranks import ALONE, Ranks, divided_model, joined_ranks
from lift3d.train.runner import STATE

PROGRAM = Path(__file__).parents[1] / "ranks_program.py"


def start(n: int, what: str, out: Path) -> list[subprocess.Popen]:
    """n processes with the variables that torchrun sets."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(n), "OMP_NUM_THREADS": "1"}
    shared["PYTHONPATH"] = str(PROGRAM.parent)
    return [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), what, str(out)],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(n)
    ]


def finish(processes: list[subprocess.Popen]) -> list[str]:
    """What they said on stderr when all have ended."""
    try:
        return [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The parameters after a run of one process, which never touches torch.distributed."""
    out = tmp_path_factory.mktemp("alone")
    return pretrain(SHORT, tiny_gan(), out, checkpoint_seconds=0.0).state_dict()


def assert_same_training(found: dict[str, torch.Tensor], alone: dict[str, torch.Tensor]) -> None:
    """Parameters differ by rounding, which is little against the way that they have gone."""
    torch.manual_seed(0)
    fresh = LiftedGAN(SHORT, tiny_gan().generator).state_dict()
    moved = [name for name in alone if not torch.equal(alone[name], fresh[name])]
    assert len(moved) > 40
    for name in moved:
        way, apart = (alone[name] - fresh[name]).norm(), (found[name] - alone[name]).norm()
        assert apart <= 5e-3 * way, name


def test_gradients_are_those_of_one_process(tmp_path: Path) -> None:
    """Of 3 ranks, so that nothing divides evenly; every loss, pixels and patches."""
    processes = start(3, "gradients", tmp_path)
    said = finish(processes)
    assert [process.returncode for process in processes] == [0, 0, 0], said
    for rank in range(3):
        differences = json.loads((tmp_path / f"gradients-{rank}.json").read_text())
        assert len(differences) == 7 * 4
        assert max(differences.values()) < 3e-5, differences


def test_a_rank_that_is_killed_ends_the_run_and_one_process_goes_on(tmp_path: Path, alone: dict) -> None:
    processes = start(2, "kill", tmp_path / "run")
    said = finish(processes)
    assert processes[1].returncode == -signal.SIGKILL and processes[0].returncode == 1
    assert "rank 0 of 2 waited for another one, which has ended; the last checkpoint is whole" in said[0]
    about, _ = read_tensors(tmp_path / "run" / STATE)
    assert about["position"][0] == 5  # label, explore, rerender, align, project are done
    found = pretrain(SHORT, tiny_gan(), tmp_path / "run", resume=True, checkpoint_seconds=0.0)
    assert_same_training(found.state_dict(), alone)


def test_ranks_go_on_with_what_one_process_began(tmp_path: Path, alone: dict) -> None:
    """Also: rank 0 alone writes, and a run of several ranks is finished like any other."""
    with pytest.raises(Stop):
        pretrain(SHORT, tiny_gan(), tmp_path / "run", StopAfter(2), checkpoint_seconds=0.0)
    processes = start(2, "resume", tmp_path / "run")
    said = finish(processes)
    assert [process.returncode for process in processes] == [0, 0], said
    assert_same_training(LiftedGAN.load(tmp_path / "run" / "model.safetensors").state_dict(), alone)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert list(dict.fromkeys(e["phase"] for e in lines)) == [
        "explore",
        "align",
        "exploit",
        "calibrate",
        "realign",
    ]


def test_one_process_never_touches_torch_distributed() -> None:
    code = (
        "import sys, torch; before = 'torch.distributed' in sys.modules; "
        "sys.modules['torch.distributed'] = None; "  # an import of it fails from now on
        "from lift3d.train.ranks import joined_ranks\n"
        "with joined_ranks(torch.device('cpu')) as ranks: print(ranks, ranks.largest(3))"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert found.stdout == "Ranks(rank=0, size=1) 3\n", found.stderr


def test_alone_nothing_is_divided() -> None:
    model = LiftedGAN(SHORT, tiny_gan().generator)
    assert divided_model(model, ALONE) is model
    assert ALONE.divided(model.synthesize) == model.synthesize


@pytest.mark.parametrize("n", range(3, 9))
@pytest.mark.parametrize("size", [2, 3, 4])
def test_shares_cover_all_rows(n: int, size: int) -> None:
    found = [Ranks(rank, size)._share(rank, n) for rank in range(size)]
    assert {count for _, count in found} == {-(-n // size)}
    assert all(0 <= first and first + count <= n for first, count in found)
    assert set().union(*(range(first, first + count) for first, count in found)) == set(range(n))


def test_what_torchrun_did_not_say_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with (
        pytest.raises(ConfigError, match="WORLD_SIZE is 2, but .*; let torchrun start the processes"),
        joined_ranks(torch.device("cpu")),
    ):
        pass


def test_every_rank_has_its_own_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(options.use_device(name, None)) for name in ("auto", "cuda", "cuda:0", "cpu")] == [
        "cuda:1", "cuda:1", "cuda:0", "cpu",
    ]  # fmt: skip
