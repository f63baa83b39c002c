"""One training in several processes of this machine, a GPU each, through torch's elastic launcher.

Where a launcher was there before (torchrun, Kubeflow's Trainer), nothing is launched here. Each
process is ``python -m tudsr.train.launch JOB.json`` and does what the caller would have done.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from tudsr.errors import Interrupted, SettingsError, TrainingError, TudsrError
from tudsr.images.atomic import write_text
from tudsr.profile import Profile, RuntimeSettings
from tudsr.train.record import MlflowRecorder, Recorder, read_metrics

# Between a first signal and the kill: a step at full size and a checkpoint fit in.
_STOP_TIMEOUT_S = 120


class Job(BaseModel):
    """A call of ``train_stage1`` or ``train_stage2`` as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    profile: Profile
    photos: list[Path]
    adapter1: Path | None
    out: Path
    work: Path
    mlflow: list[dict[str, str]]
    resume: bool

    @classmethod
    def of(
        cls,
        stage: str,
        profile: Profile,
        photos: Sequence[Path],
        adapter1: Path | None,
        out: Path,
        work: Path,
        recorders: Sequence[Recorder],
        resume: bool,
    ) -> Job:
        """Describe a call; of recorders only MLflow's can be described."""
        return cls(
            stage=stage,
            profile=profile,
            photos=list(photos),
            adapter1=adapter1,
            out=out,
            work=work,
            mlflow=[_described(recorder) for recorder in recorders],
            resume=resume,
        )

    def run(self) -> None:
        """Make the call."""
        from tudsr.train.stages import train_stage1, train_stage2

        recorders = [MlflowRecorder(**described) for described in self.mlflow]
        if self.adapter1 is None:
            train_stage1(self.profile, self.photos, self.out, self.work, recorders, self.resume)
        else:
            train_stage2(
                self.profile,
                self.photos,
                self.adapter1,
                self.out,
                self.work,
                recorders,
                self.resume,
            )


def launches(settings: RuntimeSettings) -> bool:
    """Whether processes are asked for and nobody has started them yet."""
    return settings.devices > 1 and "WORLD_SIZE" not in os.environ


def launch(job: Job) -> dict[str, float]:
    """Run ``job`` in ``runtime.devices`` processes and return the last figures.

    Raises:
        TrainingError: a process failed or died; the others were ended.
        Interrupted: a signal came and all stopped at the same step, saved.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    with tempfile.TemporaryDirectory(prefix="tudsr-ranks-") as name, _handlers_kept():
        folder = Path(name)
        write_text(folder / "job.json", job.model_dump_json())
        start = elastic_launch(_config(job.profile.runtime.devices, folder), sys.executable)
        try:
            start("-m", "tudsr.train.launch", str(folder / "job.json"))
        except ChildFailedError as error:
            raise _reason(folder, error.get_first_failure()[1]) from None
        except SignalException:
            raise _reason(folder, None) from None
    last = read_metrics(job.out / "metrics.jsonl")[-1]
    return {name: value for name, value in last.items() if name != "images_seen"}


def _config(devices: int, folder: Path) -> Any:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig

    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=devices,
        run_id=folder.name,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        shutdown_timeout=_STOP_TIMEOUT_S,
        logs_specs=DefaultLogsSpecs(log_dir=str(folder)),
    )


@contextmanager
def _handlers_kept() -> Generator[None]:
    """The launcher installs signal handlers and leaves them; put back what was there."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    before = [signal.getsignal(number) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            try:
                signal.signal(number, handler)
            except ValueError:  # not the main thread: the launcher installed nothing either
                return


def _reason(folder: Path, failure: Any) -> TudsrError:
    """What the processes said, or how the first of them died."""
    interrupted = sorted(folder.glob("interrupted-*"))
    if interrupted:
        return Interrupted(interrupted[0].read_text("utf-8"))
    if failure is None:
        return TrainingError("a signal ended training before it had saved; start it again")
    if failure.exitcode < 0:
        name = signal.Signals(-failure.exitcode).name
        return TrainingError(
            f"rank {failure.local_rank} was ended by {name}, so all ranks stopped. The newest "
            "checkpoint is kept; start again to go on from it"
        )
    own = folder / f"error-{failure.local_rank}"
    said = own.read_text("utf-8") if own.is_file() else "its traceback stands above"
    return TrainingError(f"rank {failure.local_rank} failed: {said}")


def _described(recorder: Recorder) -> dict[str, str]:
    if not isinstance(recorder, MlflowRecorder):
        raise SettingsError(
            f"runtime.devices above 1 cannot hand a {type(recorder).__name__} to its processes: "
            "use MlflowRecorder, or start with torchrun"
        )
    return {
        "pipeline_run": recorder.pipeline_run,
        "experiment": recorder.experiment,
        "prefix": recorder.prefix,
    }


def _work(job: Path) -> None:
    """What each process does; a mistake is left as a sentence for the one that launched it."""
    rank = os.environ["RANK"]
    try:
        Job.model_validate_json(job.read_text("utf-8")).run()
    except Interrupted as stop:
        write_text(job.with_name(f"interrupted-{rank}"), str(stop))
        raise
    except TudsrError as error:
        write_text(job.with_name(f"error-{rank}"), str(error))
        sys.exit(2)


if __name__ == "__main__":
    _work(Path(sys.argv[1]))
