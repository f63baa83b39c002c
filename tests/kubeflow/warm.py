"""Starts processes by forking one that has imported the large libraries, to save 15 s each.

What is shared is other people's code: torch, diffusers, ZenML and so on. None of this project's
modules is imported before the fork, so a pod runs the copy in its own folder; environment, working
directory, arguments and output are set anew in the child, which then runs ``python -m MODULE``.

As a program: one JSON request a line on standard input. Each is answered on a named pipe of its
own, with the child's process id and later its exit code, so that several may run at a time.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import threading
from pathlib import Path

_LIBRARIES = (
    "torch diffusers transformers peft accelerate safetensors scipy.ndimage skimage cv2 matplotlib "
    "lpips mlflow great_expectations zenml zenml.client zenml.entrypoints zenml.cli.cli "
    "zenml.integrations.kubeflow.orchestrators zenml.integrations.s3.artifact_stores s3fs bentoml "
    "zenml.pipelines zenml.materializers kfp.kubernetes pandas h5py"
)
_OURS = ("tudsr", "steps", "pipelines", "serving")
_LIMIT_S = 400
"""What no command of these tests may exceed, whatever its own deadline; then it is killed."""


class Warm:
    """The program below, as seen by the tests."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-u", __file__],
            env=environment,
            stdin=subprocess.PIPE,
            text=True,
        )
        self._lock = threading.Lock()

    def start(self, argv, environment, cwd, log, deadline_s=None, on_start=lambda pid: None):
        """Run a command to its end and return its exit code, minus the signal if one ended it."""
        if argv[:2] != ["python", "-m"]:
            raise ValueError(f"only python -m MODULE can be started warm, not {argv[:3]}")
        answers = Path(f"{log}.answers")
        os.mkfifo(answers)
        request = {"argv": argv[2:], "env": environment, "cwd": str(cwd), "log": str(log)}
        with self._lock:
            self._process.stdin.write(json.dumps({**request, "answers": str(answers)}) + "\n")
            self._process.stdin.flush()
        with answers.open() as told:
            pid = int(told.readline())
            on_start(pid)
            timers = [threading.Timer(_LIMIT_S, os.kill, (pid, signal.SIGKILL))]
            if deadline_s:
                timers.append(threading.Timer(deadline_s, os.kill, (pid, signal.SIGTERM)))
            for timer in timers:
                timer.daemon = True
                timer.start()
            code = int(told.readline())
            for timer in timers:
                timer.cancel()
        answers.unlink()
        return code

    def stop(self) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(15)


def _child(request: dict) -> None:
    os.setsid()
    with Path(request["log"]).open("w") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    ours = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [request["cwd"], *ours, *sys.path[1:]]
    module, *arguments = request["argv"]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _fork(request: dict) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        _child(request)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _serve(request: dict) -> None:
    """In a process between: start the child, tell its id, wait for it, tell its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = _fork(request)
    with Path(request["answers"]).open("w", buffering=1) as answers:
        answers.write(f"{pid}\n")
        _, status = os.waitpid(pid, 0)
        answers.write(f"{os.waitstatus_to_exitcode(status)}\n")


def main() -> None:
    for library in _LIBRARIES.split():
        __import__(library)
    import torch

    torch.set_num_threads(1)
    loaded = [name for name in sys.modules if name.split(".")[0] in _OURS]
    if loaded:
        raise RuntimeError(f"imported before the fork: {loaded}")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        if os.fork() == 0:
            _serve(json.loads(line))
            os._exit(0)


if __name__ == "__main__":
    main()
