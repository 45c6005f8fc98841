"""A dataset written by a Ray cluster: its shards (plan/shard.py) are tasks.

Everything that schedules is Ray's own: which machine runs a task, with what resources, and that it starts
again where its process or machine has died. A task is ``write_dataset`` of one shard with ``resume``, so it
goes on where it was, and what it writes is what a single process would have. The shards stand in a folder
beside the file, on a disk that all machines see; when the last is done they are copied into one file.
"""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType

import torch

from lift3d.errors import ConfigError, Lift3DError, optional
from lift3d.export.dataset import Model, PhaseSeconds, WriteReport, write_dataset
from lift3d.export.hdf5.merge import merge
from lift3d.export.hdf5.reader import describe
from lift3d.export.plan.dataset import DatasetPlan
from lift3d.export.plan.shard import Shard
from lift3d.observer import Observer, SilentObserver

SHARDS = 64  # unless told; fewer where there are fewer samples
RETRIES = 3  # of a task whose process or machine has died
POLL_SECONDS = 1.0  # between two looks at the progress
STOP_SECONDS = 60.0  # that interrupted tasks have to finish their samples


class _Progress:
    """An actor: how many samples of each shard are done. Tasks that start again report the same numbers."""

    def __init__(self) -> None:
        self.done: dict[int, int] = {}

    def report(self, shard: int, done: int) -> None:
        self.done[shard] = done

    def total(self) -> int:
        return sum(self.done.values())


class _Reporter(SilentObserver):
    """The observer of a task: tells the actor."""

    def __init__(self, progress: object, plan: DatasetPlan) -> None:
        self.progress, self.shard, self.planned, self.done = progress, plan.shard.number, len(plan.numbers), 0

    def start(self, task: str, total: int | None) -> None:
        self.done = self.planned - total
        self.progress.report.remote(self.shard, self.done)

    def advance(self, n: int = 1, **values: float) -> None:
        self.done += n
        self.progress.report.remote(self.shard, self.done)


def _write_shard(load: Callable[[], Model], plan: DatasetPlan, path: Path, progress: object) -> WriteReport:
    """A task. Where Ray gave it a GPU, it computes there."""
    model = load()
    if torch.cuda.is_available() and isinstance(model, torch.nn.Module):
        model = model.to("cuda")
    return write_dataset(model, plan, path, _Reporter(progress, plan), resume=True)


def write_on_ray(
    load: Callable[[], Model],
    plan: DatasetPlan,
    path: Path | str,
    observer: Observer | None = None,
    overwrite: bool = False,
    resume: bool = False,
    shards: int | None = None,
    address: str | None = None,
    gpus: float = 0.0,
) -> WriteReport:
    """``write_dataset`` by the Ray cluster at ``address``, or the one that is there, or a local one.

    ``load`` gives the model, here and in every task, such as ``partial(lift3d.load, "/data/cats")``; all
    machines must see the same files under these names. ``shards`` tasks, by default ``SHARDS``, are given
    ``gpus`` GPUs each. The file at ``path`` appears when all samples are done; until then, and after an
    interruption, ``shard_folder(path)`` holds the shards.
    """
    path, observer, start = Path(path), observer or SilentObserver(), time.perf_counter()
    plan = plan.resolved(load().config.truncation)
    if plan.shard != Shard():
        raise ConfigError(f"shard is {plan.shard}, but Ray writes all shards; leave it out")
    count = min(SHARDS, plan.n) if shards is None else shards
    plans = [replace(plan, shard=f"{i}/{count}") for i in range(1, count + 1)]
    if not plans:
        raise ConfigError(f"shards is {count}, expected at least 1")
    if gpus < 0:
        raise ConfigError(f"{gpus} GPUs for a task, expected 0 or more")
    folder = _folder(path, overwrite, resume)
    files = [folder / f"{one.shard.number:0{len(str(count))}}.h5" for one in plans]
    if path.exists() and resume and not folder.exists():
        return _finished(plan, path)
    with _cluster(address) as ray:
        folder.mkdir(exist_ok=True)
        progress = ray.remote(num_cpus=0)(_Progress).remote()
        ray.get(progress.total.remote())  # it runs before there is anything to report
        task = ray.remote(num_gpus=gpus, max_retries=RETRIES)(_write_shard)
        before = _done(files)
        pairs = zip(plans, (file.absolute() for file in files), strict=True)
        tasks = [task.remote(load, *pair, progress) for pair in pairs]
        reports, interrupted = _results(ray, tasks, progress, plan.n, observer)
    report = _report(path, plan, before, _done(files), reports, interrupted)
    if report.done == plan.n:
        merge(files, path, copy=True, overwrite=overwrite or resume)
        for file in files:
            file.unlink()
        with suppress(OSError):  # somebody else's files
            folder.rmdir()
    return replace(report, seconds=time.perf_counter() - start)


def shard_folder(path: Path) -> Path:
    """Where the shards of the file at ``path`` stand until they are merged."""
    return path.with_name(f"{path.stem}.shards")


def _folder(path: Path, overwrite: bool, resume: bool) -> Path:
    """The folder of the shards, if the run may start; without the shards of an earlier run to overwrite."""
    if overwrite and resume:
        raise ConfigError("--overwrite and --resume contradict each other; give one of them")
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path} is no regular file and is not replaced; choose another path")
    folder = shard_folder(path)
    for there in (path, folder):
        if there.exists() and not (overwrite or resume):
            raise ConfigError(f"{there} exists; --resume continues it, --overwrite replaces it")
    if not path.parent.is_dir():
        raise ConfigError(f"{path.parent} is no folder; make it, or choose another path")
    if overwrite and folder.is_dir():
        for file in folder.glob("*.h5"):
            if file.stem.isdecimal():
                file.unlink()
    return folder


def _finished(plan: DatasetPlan, path: Path) -> WriteReport:
    """The report of a run that finds its file complete."""
    about = describe(path)
    if about.config["plan"] != json.loads(json.dumps(plan.to_json())) or about.done < about.planned:
        raise ConfigError(f"--resume: {path} is of another plan or run; give the same, or --overwrite")
    return _report(path, plan, plan.n, plan.n, [], interrupted=False)


@contextmanager
def _cluster(address: str | None) -> Iterator[ModuleType]:
    """Ray, connected in the block."""
    ray = optional("ray", "--engine ray needs a package: pip install 'lift3d[ray]'")
    ours = not ray.is_initialized()
    if ours:
        terminate = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address, log_to_driver=False, logging_level="error")
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, terminate)  # Ray's own would end the process at once
        except Exception as error:  # Ray raises that itself where its processes do not start
            where = "starts here" if address is None else f"is at {address}"
            raise Lift3DError(
                f"no Ray cluster {where} ({_first_line(error)}); --ray-address names one"
            ) from error
    try:
        yield ray
    finally:
        if ours:
            ray.shutdown()


def _results(
    ray: ModuleType, tasks: list, progress: object, total: int, observer: Observer
) -> tuple[list[WriteReport], bool]:
    """What the tasks report, and whether they were interrupted; meanwhile the observer sees all shards."""
    seen, open_tasks, interrupted = 0, list(tasks), False
    observer.start("samples", total)
    try:
        while open_tasks:
            _, open_tasks = ray.wait(open_tasks, num_returns=len(open_tasks), timeout=POLL_SECONDS)
            done = ray.get(progress.total.remote())
            if done > seen:
                observer.advance(done - seen)
                seen = done
    except KeyboardInterrupt:
        interrupted = True
        for one in tasks:
            ray.cancel(one)  # as Ctrl-C in each of them
        ray.wait(tasks, num_returns=len(tasks), timeout=STOP_SECONDS)
    finally:
        observer.finish()
    reports = []
    for one in tasks:
        try:
            reports.append(ray.get(one, timeout=0))
        except (ray.exceptions.TaskCancelledError, ray.exceptions.GetTimeoutError):
            continue  # only after an interruption
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:
            why = _first_line(error)
            raise Lift3DError(
                f"a task of Ray died {RETRIES + 1} times ({why}); --resume continues the shards"
            ) from error
    return reports, interrupted


def _report(
    path: Path, plan: DatasetPlan, before: int, done: int, reports: list[WriteReport], interrupted: bool
) -> WriteReport:
    """One report of all shards, which had ``before`` done samples and have ``done``."""
    phases = {f.name: sum((getattr(r.phases, f.name) for r in reports), 0.0) for f in fields(PhaseSeconds)}
    images = (done - before) * plan.views.n * plan.lights.n
    seconds = PhaseSeconds(**phases)
    return WriteReport(path, done - before, images, done, plan.n, 0.0, seconds, interrupted)


def _first_line(error: Exception) -> str:
    """What Ray says, without its advice."""
    return str(error).strip().partition("\n")[0].rstrip(".")


def _done(files: Iterable[Path]) -> int:
    """Done samples in those of the files that are there."""
    return sum(describe(file).done for file in files if file.exists())
