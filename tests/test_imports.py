"""The library knows nothing of orchestrators, and works where they are not installed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NEVER = {"zenml", "kfp", "dvc", "bentoml", "kubernetes"}
NEVER |= {"steps", "pipelines", "serving", "deploy"}
LAZY = {"mlflow", "great_expectations"}
SOURCES = sorted((ROOT / "tudsr").rglob("*.py"))

_BLOCKED = """
import importlib, pkgutil, sys
sys.modules.update(dict.fromkeys(BLOCKED))  # None there is what Python calls not installed
import tudsr
for module in pkgutil.walk_packages(tudsr.__path__, "tudsr."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from pathlib import Path
from tudsr.profile import load_profile
from tudsr.train.stages import train_stage1
photos = [Path(p) for p in sys.argv[2:]]
out = Path(sys.argv[1])
train_stage1(load_profile("smoke"), photos, out / "adapter1", out / "work")
print("trained", (out / "adapter1" / "adapter.safetensors").is_file())
"""


def _imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_library_imports_no_orchestrator(path):
    tree = ast.parse(path.read_text("utf-8"))
    assert not _imported(tree) & NEVER
    top = ast.Module([n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)], [])
    assert not _imported(top) & LAZY, "import it inside the function that needs it"


def test_the_library_works_without_their_packages(tmp_path, photos):
    blocked = NEVER | LAZY
    done = subprocess.run(
        [sys.executable, "-c", f"BLOCKED = {blocked!r}\n{_BLOCKED}", str(tmp_path), *photos],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert "trained True" in done.stdout, done.stderr[-3000:]


def test_help_is_fast_and_light():
    code = (
        "import sys; sys.argv = ['tudsr', '--help']\n"
        "from tudsr.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'diffusers', 'mlflow', 'zenml', 'bentoml', 'numpy', 'PIL'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "upscale" in done.stdout
    assert "serve" in done.stdout
    assert "heavy: []" in done.stdout


def test_an_image_that_leaves_packages_out_still_has_its_own_commands():
    """k8s/images/serve.Dockerfile has `serving` alone beside the library."""
    code = (
        "import sys\n"
        "class LeftOut:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name in ('deploy', 'pipelines'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, LeftOut())\n"
        "sys.argv = ['tudsr', 'serve', '--help']\n"
        "from tudsr.cli import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "--port" in done.stdout


def test_help_needs_no_settings_and_no_arrays():
    """A quarter of its time was theirs."""
    loaded = "[m for m in ('pydantic', 'numpy', 'PIL') if m in sys.modules]"
    told = f"import sys, tudsr.cli; print({loaded})"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
