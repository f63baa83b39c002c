"""Atomic writing: the old content or the new, never half, whatever happens in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tudsr.images.atomic import write_json, write_text, writing, writing_dir

ROOT = Path(__file__).resolve().parents[2]


def test_what_is_written_is_there_and_nothing_else(tmp_path):
    write_text(tmp_path / "a" / "text.txt", "Grüße")
    write_json(tmp_path / "a" / "value.json", {"b": [1, 2]})
    assert (tmp_path / "a" / "text.txt").read_text(encoding="utf-8") == "Grüße"
    assert json.loads((tmp_path / "a" / "value.json").read_text()) == {"b": [1, 2]}
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["text.txt", "value.json"]


def test_an_error_while_writing_keeps_the_old_file(tmp_path):
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")

    def fail_halfway():
        with writing(target) as temporary:
            temporary.write_bytes(b"half")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail_halfway()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_named_whichever_library_met_it(tmp_path):
    """In a child under a real limit: Python's error has no file name, safetensors' no number."""
    code = (
        "import resource, sys\nfrom pathlib import Path\nimport torch\n"
        "from safetensors.torch import save_file\n"
        "from tudsr.images.atomic import write_bytes, writing_dir\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "def saved():\n"
        "    with writing_dir(Path('folder')) as folder:\n"
        "        save_file({'a': torch.zeros(9000)}, folder / 'a.safetensors')\n"
        "for make in (lambda: write_bytes(Path('file'), b'0' * 9001), saved):\n"
        "    try:\n        make()\n"
        "    except OSError as error:\n        print(error.filename, error.strerror)\n"
    )
    own = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    environment = {**os.environ, **own}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == ["file File too large", "folder File too large"], done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_temporary_name_keeps_the_suffix_and_the_folder(tmp_path):
    with writing(tmp_path / "picture.png") as temporary:
        assert (temporary.suffix, temporary.parent) == (".png", tmp_path)
        temporary.touch()


def test_a_folder_is_replaced_whole(tmp_path):
    target = tmp_path / "folder"
    target.mkdir()
    (target / "old.txt").write_text("old")
    with writing_dir(target) as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "new.txt").write_text("new")
        assert (target / "old.txt").exists()
    assert [p.relative_to(target).as_posix() for p in target.rglob("*.txt")] == ["sub/new.txt"]
    assert list(tmp_path.iterdir()) == [target]


def test_an_error_keeps_the_old_folder(tmp_path):
    target = tmp_path / "folder"
    target.mkdir()
    (target / "old.txt").write_text("old")

    def fail_halfway():
        with writing_dir(target) as temporary:
            (temporary / "new.txt").write_text("half")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail_halfway()
    assert [p.name for p in target.iterdir()] == ["old.txt"]
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_process_leaves_one_whole_version(tmp_path):
    target = tmp_path / "file.txt"
    write_text(target, "start")
    script = f"""
from pathlib import Path
from tudsr.images.atomic import write_text
for i in range(10**6):
    write_text(Path({str(target)!r}), str(i % 10) * 100_000)
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 20
    while target.read_text() == "start" and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    text = target.read_text()
    assert len(text) == 100_000
    assert set(text) == {text[0]}
