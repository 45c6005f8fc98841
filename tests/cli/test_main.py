"""The program: commands, and errors as one sentence with an exit code."""

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import lift3d
from lift3d.cli.main import Program, main
from lift3d.errors import ConfigError


def failing(error: BaseException) -> Program:
    """A program whose one command fails."""
    program = Program()

    @program.command("fail")
    def fail() -> None:
        raise error

    return program


def test_version_and_commands() -> None:
    runner = CliRunner()
    assert runner.invoke(main, ["--version"]).output == f"lift3d, version {lift3d.__version__}\n"
    shown = runner.invoke(main, ["--help"]).output
    for name in ("pretrain", "sample", "export", "eval", "info", "verify", "gan", "prior"):
        assert f"\n  {name} " in shown


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ConfigError("size is 3, expected 4"), "size is 3, expected 4"),
        (OSError(errno.ENOSPC, "No space left on device", "a.h5"), "a.h5: the disk is full; make room"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk is full; make room"),
        (PermissionError(errno.EACCES, "Permission denied", "b"), "b: permission denied; choose a path"),
        (OSError(errno.EROFS, "Read-only file system", "c"), "c: permission denied; choose a path"),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "d/e"),
            "d/e: No such file or directory",
        ),
        (OSError("Unable to open file"), "Unable to open file"),
    ],
)
def test_errors_of_the_user_are_one_sentence(error: Exception, sentence: str) -> None:
    result = CliRunner().invoke(failing(error), ["fail"])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"Error: {sentence}")
    assert result.stderr.count("\n") == 1


def test_ctrl_c_is_exit_code_130() -> None:
    result = CliRunner().invoke(failing(KeyboardInterrupt()), ["fail"])
    assert result.exit_code == 130
    assert "interrupted; what was finished is kept" in result.stderr


def test_errors_of_the_program_keep_their_traceback() -> None:
    result = CliRunner().invoke(failing(ZeroDivisionError("x")), ["fail"])
    assert isinstance(result.exception, ZeroDivisionError)


def test_a_reader_that_goes_away_is_no_error() -> None:
    result = CliRunner().invoke(failing(BrokenPipeError(errno.EPIPE, "Broken pipe")), ["fail"])
    assert (result.exit_code, result.stderr) == (1, "")


def test_an_unknown_command_is_a_usage_error() -> None:
    result = CliRunner().invoke(main, ["lift"])
    assert result.exit_code == 2
    assert "No such command 'lift'" in result.stderr


@pytest.mark.parametrize(
    ("sent", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_leaves_a_file_that_resume_continues(
    tiny_model: Path, tmp_path: Path, sent: signal.Signals, code: int, word: str
) -> None:
    out = tmp_path / "faces.h5"
    program = "from lift3d.cli import main, progress; progress.LOG_SECONDS = 0.2; main.main()"
    command = [sys.executable, "-c", program, "sample", "--model", str(tiny_model), "--out", str(out)]
    command += ["--n", "3000", "--size", "16", "--views", "1", "--lights", "1", "--threads", "1"]
    command += ["--mesh-resolution", "32"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell ignores it
    )
    while "samples: " not in (line := process.stderr.readline()):  # the first progress, after some samples
        assert line, "the run ended"
    assert len(_done(out)) == 0  # they wait beside the file
    process.send_signal(sent)
    stdout, stderr = process.communicate(timeout=240)
    assert process.returncode == code, stderr
    assert f"{word}; what was finished is kept" in stderr and "Traceback" not in stderr
    done = len(_done(out))
    assert 0 < done < 3000
    assert f"{done} of 3000 samples" in stdout
    checked = CliRunner().invoke(main, ["verify", str(out)])
    assert (checked.exit_code, f"{done} samples checked, 0 problems" in checked.stdout) == (0, True), (
        checked.output
    )


def _done(path: Path) -> object:
    return lift3d.open_dataset(path, maps=())


@pytest.mark.parametrize(
    "arguments",
    [["finetune"], ["refine"], ["invert", "photo.png"], ["gan", "train", "images.npy"]],
    ids=lambda arguments: arguments[0],
)
def test_undivided_training_refuses_torchrun(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "1"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    out = tmp_path / "out"
    result = CliRunner().invoke(main, [*arguments, "--out", str(out)], prog_name="lift3d")
    command = " ".join(["lift3d", *arguments[: 2 if arguments[0] == "gan" else 1]])
    assert result.exit_code == 1 and not out.exists()
    assert result.stderr == (
        f"Error: torchrun started 2 processes, but {command} is not divided among several, as lift3d "
        "pretrain is: start it once, without torchrun\n"
    )
