"""What a launched training is told, and what its processes' ends mean to the launcher."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from tudsr.errors import Interrupted, SettingsError, TrainingError
from tudsr.profile import RuntimeSettings, load_profile
from tudsr.train.launch import Job, _reason, launches
from tudsr.train.record import FileRecorder


def job(recorders=()) -> Job:
    places = Path("adapter1"), Path("out"), Path("work")
    return Job.of("stage2", load_profile("smoke"), [Path("a.png")], *places, recorders, True)


def test_a_job_survives_its_file():
    assert Job.model_validate_json(job().model_dump_json()) == job()


def test_a_recorder_that_other_processes_cannot_have_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="cannot hand a FileRecorder to its processes"):
        job([FileRecorder(tmp_path)])


def test_processes_are_launched_once_and_only_when_asked_for(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert launches(RuntimeSettings(devices=2)) and not launches(RuntimeSettings())
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not launches(RuntimeSettings(devices=2))


def test_a_rank_that_was_killed_and_one_that_failed_are_told_apart(tmp_path):
    killed = _reason(tmp_path, SimpleNamespace(exitcode=-9, local_rank=1))
    assert isinstance(killed, TrainingError) and "rank 1 was ended by SIGKILL" in str(killed)
    (tmp_path / "error-0").write_text("no such photograph")
    failed = _reason(tmp_path, SimpleNamespace(exitcode=2, local_rank=0))
    assert str(failed) == "rank 0 failed: no such photograph"


def test_ranks_that_have_saved_were_interrupted_whatever_else_the_launcher_saw(tmp_path):
    (tmp_path / "interrupted-0").write_text("saved")
    for failure in (None, SimpleNamespace(exitcode=75, local_rank=1)):
        reason = _reason(tmp_path, failure)
        assert isinstance(reason, Interrupted) and reason.code == 75
    assert isinstance(_reason(tmp_path / "nothing", None), TrainingError)
