"""A cluster on loopback: the stores, the Kubeflow API, nodes, and a laptop that submits to it."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import boto3
import yaml

from tests.kubeflow.conftest import IMAGE
from tests.kubeflow.executor import Executor
from tests.kubeflow.kubeflow_api import Cluster
from tests.kubeflow.servers import Stores, keys
from tests.kubeflow.warm import Warm

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "kubeflow-token"
CLAIM = "tudsr-checkpoints"
RUN_S = 400
"""No command of the laptop may take longer, a whole run included."""
_CODE = ("tudsr", "steps", "pipelines", "serving", "configs", "k8s")
_FILES = ("tudsr_full.py", "tudsr_base.py", "pyproject.toml")
_PHOTOS = {"train": 9, "val": 1, "test": 2}


def _uv() -> list[str]:
    """Where uv is, which bentoml build calls: an image has it on its path."""
    found = shutil.which("uv")
    return [str(Path(found).parent)] if found else []


def quiet() -> dict[str, str]:
    """What an image sets: where Python is, and no telemetry."""
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), *_uv(), "/usr/bin", "/bin"]),
        "OMP_NUM_THREADS": "1",
        "NO_COLOR": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "ZENML_ANALYTICS_OPT_IN": "false",
        "ZENML_ENABLE_RICH_TRACEBACK": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GX_ANALYTICS_ENABLED": "false",
        "BENTOML_DO_NOT_TRACK": "True",
    }


@dataclass
class Laptop:
    """Where runs are submitted from: the code, a few photographs, and a stack that is registered.

    Attributes:
        nodes: runs what the API is given.
    """

    folder: Path
    environment: dict[str, str]
    stores: Stores
    api: Cluster
    nodes: Executor
    warm: Warm

    def zenml(self, *commands: str) -> str:
        """Run zenml's commands, one after the other in a warm process; what they printed.

        Raises:
            RuntimeError: one of them failed.
        """
        code, text = self.try_zenml(*commands)
        if code:
            raise RuntimeError(f"{commands}: {code}\n{text[-4000:]}")
        return text

    def try_zenml(self, *commands: str) -> tuple[int, str]:
        """The same, but a failure is a result."""
        log = self.folder.parent / "laptop.log"
        argv = ["python", "-m", "zenml_command", *commands]
        code = self.warm.start(argv, self.environment, self.folder, log)
        return code, log.read_text("utf-8")

    def typed(self, command: str) -> tuple[int, str]:
        """The installed zenml command in a process of its own, as somebody would type it."""
        executable = str(Path(sys.executable).with_name("zenml"))
        done = subprocess.run(
            [executable, *shlex.split(command)],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=RUN_S,
        )
        return done.returncode, done.stdout + done.stderr

    def python(self, code: str) -> str:
        """Run Python on the laptop; what it printed."""
        (self.folder / "asked.py").write_text(code, "utf-8")
        log = self.folder.parent / "asked.log"
        ended = self.warm.start(["python", "-m", "asked"], self.environment, self.folder, log)
        text = log.read_text("utf-8")
        if ended:
            raise RuntimeError(text[-4000:])
        return text

    def profile(self, name: str, text: str) -> str:
        """A profile and a run file that names it, beside those of the project; the run file."""
        (self.folder / "configs" / "profiles" / f"{name}.yaml").write_text(text, "utf-8")
        run = {"parameters": {"profile": name}}
        docker = {"parent_image": IMAGE, "skip_build": True}
        docker["allow_download_from_artifact_store"] = False  # the image holds the code
        run["settings"] = {"docker": docker}
        (self.folder / "configs" / f"run-{name}.yaml").write_text(yaml.safe_dump(run), "utf-8")
        return f"configs/run-{name}.yaml"

    def last_run(self) -> dict:
        """The newest ZenML run: its status, each step's, its metadata and registered version."""
        return json.loads(self.python(_LAST_RUN).strip().splitlines()[-1])


_LAST_RUN = """
import json
from zenml.client import Client
client = Client()
run = client.list_pipeline_runs(sort_by="desc:created", size=1).items[0]
run = client.get_pipeline_run(run.id, hydrate=True)
print(json.dumps({
    "id": str(run.id),
    "status": run.status.value,
    "steps": {name: step.status.value for name, step in run.steps.items()},
    "metadata": {key: str(value) for key, value in run.run_metadata.items()},
    "outputs": {name: [v.uri for vs in step.outputs.values() for v in vs]
                for name, step in run.steps.items()},
    "step_metadata": {name: {k: str(v) for k, v in step.run_metadata.items()}
                      for name, step in run.steps.items()},
}))
"""

_COMMAND = """
import shlex, sys
from zenml.cli.cli import cli
for command in sys.argv[1:]:
    cli(shlex.split(command), prog_name="zenml", standalone_mode=False)
"""


def build(folder: Path, stores: Stores, warm: Warm, api: Cluster, address: str) -> Laptop:
    """Copy the code, fill the DVC remote, register the stack with ZenML's own commands."""
    laptop, image = folder / "laptop", folder / "image"
    for place in (laptop, image):
        _copy_code(place)
    _photographs(laptop)
    _fill_remote(stores.s3, laptop / "data", (laptop, image))
    (laptop / "zenml_command.py").write_text(_COMMAND, "utf-8")
    environment = {**quiet(), "HOME": str(laptop), "PYTHONPATH": str(laptop), **keys()}
    environment["AWS_ENDPOINT_URL"] = stores.s3
    environment |= {"ZENML_STORE_URL": stores.zenml, "ZENML_STORE_API_KEY": stores.api_key}
    environment |= {"MLFLOW_TRACKING_URI": stores.mlflow}
    mount = folder / "mnt" / "tudsr"
    sets = {**quiet(), "TUDSR_OUTPUTS": str(mount)}  # as k8s/images/train.Dockerfile does
    nodes = Executor(image, sets, stores.secrets, stores.config_maps, folder / "nodes", warm.start)
    made = Laptop(laptop, environment, stores, api, nodes, warm)
    _register(made, address, mount)
    return made


def serve_runs(laptop: Laptop) -> None:
    """Let the API run what it is given, on the nodes."""

    def on_run(run) -> None:
        parameters = run.runtime_config.parameters or {}
        try:
            laptop.api.runs[run.run_id].state = "RUNNING"
            well = laptop.nodes.run(run.pipeline_spec, parameters, run.run_id)
            laptop.api.finish(run.run_id, "SUCCEEDED" if well else "FAILED")
        except Exception as error:
            laptop.api.finish(run.run_id, "FAILED", f"{type(error).__name__}: {error}")
            raise

    laptop.api.on_run = on_run


def _register(laptop: Laptop, address: str, mount: Path) -> None:
    """What docs/kubeflow.md says to type, one after the other in one process."""
    laptop.zenml(
        "orchestrator flavor register pipelines.kubeflow.flavor.PoolsFlavor",
        f"secret create kubeflow --api_token={TOKEN}",
        "orchestrator register kubeflow --flavor tudsr_kubeflow "
        f"--kubeflow_hostname={address} --api_token={{{{kubeflow.api_token}}}} "
        f"--checkpoint_claim={CLAIM} --checkpoint_mount={mount} "
        "--retry_delay_s=0 --api_timeout_s=2",
        "artifact-store register s3 --flavor s3 --path=s3://artifacts",
        "container-registry register registry --flavor default --uri=registry.example",
        "image-builder register builder --flavor local",
        "stack register kubeflow -o kubeflow -a s3 -c registry -i builder",
    )


def _copy_code(place: Path) -> None:
    place.mkdir(parents=True)
    for name in _CODE:
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in _FILES:
        shutil.copy(ROOT / name, place)


def _photographs(laptop: Path) -> None:
    for split, count in _PHOTOS.items():
        (laptop / "data" / split).mkdir(parents=True)
        for photo in sorted((ROOT / "data" / split).iterdir())[:count]:
            shutil.copy(photo, laptop / "data" / split)


def _fill_remote(s3: str, data: Path, places: tuple[Path, ...]) -> None:
    """A DVC remote on S3 with these photographs, and the ``data.dvc`` that names them."""
    client = boto3.client(
        "s3",
        endpoint_url=s3,
        aws_access_key_id="loopback",
        aws_secret_access_key="loopback",
        region_name="us-east-1",
    )
    for bucket in ("artifacts", "dvc"):
        client.create_bucket(Bucket=bucket)

    def put(content: bytes, suffix: str = "") -> str:
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() + suffix
        client.put_object(Bucket="dvc", Key=f"store/files/md5/{md5[:2]}/{md5[2:]}", Body=content)
        return md5

    files = sorted(path for path in data.rglob("*") if path.is_file())
    entries = [{"md5": put(f.read_bytes()), "relpath": str(f.relative_to(data))} for f in files]
    listing = put(json.dumps(entries).encode(), ".dir")
    for place in places:
        (place / "data.dvc").write_text(
            yaml.safe_dump({"outs": [{"md5": listing, "path": "data"}]})
        )
