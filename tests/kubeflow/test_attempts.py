"""What a retry does, by the outcome that the attempt before it left on the checkpoint volume."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.kubeflow.attempts import Attempts, FailedBeforeError, attempts_of
from tudsr.errors import DataError, Interrupted

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def attempts(tmp_path):
    return Attempts(tmp_path / "attempts" / "train_stage1.json")


def outcomes(attempts):
    return [attempt["outcome"] for attempt in attempts.list()]


def test_a_first_attempt_may_run_and_is_recorded(attempts):
    attempts.require_no_error()
    with attempts.recorded():
        assert outcomes(attempts) == ["started"]
    assert outcomes(attempts) == ["done"]


def test_after_an_error_each_retry_fails_with_that_error(attempts):
    with pytest.raises(DataError), attempts.recorded():
        raise DataError("photo.png has 3 pixels, needs 64; remove it")
    for number in (2, 3):
        with (
            pytest.raises(
                FailedBeforeError, match=r"DataError: photo\.png has 3 pixels.*attempt 1"
            ),
            attempts.recorded(),
        ):
            attempts.require_no_error()
        assert outcomes(attempts) == ["error"] * number


def test_after_an_interruption_a_retry_runs(attempts):
    with pytest.raises(SystemExit) as caught, attempts.recorded():
        raise Interrupted("saved at 8 images")
    assert caught.value.code == 75
    attempts.require_no_error()
    assert outcomes(attempts) == ["interrupted"]


def test_another_words_for_an_interruption_count_too(attempts):
    with pytest.raises(KeyError), attempts.recorded((KeyError,)):
        raise KeyError
    attempts.require_no_error()


def test_an_error_after_an_interruption_is_the_one_repeated(attempts):
    with pytest.raises(SystemExit), attempts.recorded():
        raise Interrupted("saved")
    with pytest.raises(ValueError, match="second"), attempts.recorded():
        raise ValueError("second")
    with pytest.raises(FailedBeforeError, match=r"ValueError: second .attempt 2"):
        attempts.require_no_error()


def test_a_killed_pod_leaves_no_outcome_and_a_retry_runs(attempts):
    code = (
        "import os, signal, sys; from pathlib import Path;"
        "from pipelines.kubeflow.attempts import Attempts\n"
        "with Attempts(Path(sys.argv[1])).recorded(): os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(attempts.file)], cwd=ROOT, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert outcomes(attempts) == ["started"]
    attempts.require_no_error()


def test_steps_and_runs_do_not_share_outcomes(tmp_path, monkeypatch):
    monkeypatch.setenv("TUDSR_VOLUME", str(tmp_path))
    one = attempts_of("run-1", "train_stage1")
    with pytest.raises(ValueError, match="x"), one.recorded():
        raise ValueError("x")
    attempts_of("run-1", "train_stage2").require_no_error()
    attempts_of("run-2", "train_stage1").require_no_error()
    monkeypatch.delenv("TUDSR_VOLUME")
    assert attempts_of("run-1", "train_stage1") is None
