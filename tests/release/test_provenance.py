"""The fingerprint follows the sources and nothing else; provenance names no machine or path."""

from __future__ import annotations

import getpass
import hashlib
import json
import platform
import shutil
import subprocess
import time

import pytest

from tudsr.profile import PROJECT_ROOT, load_profile
from tudsr.provenance import Provenance, code_fingerprint, collect, file_sha256


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "pkg" / "sub").mkdir(parents=True)
    (tmp_path / "pkg" / "a.py").write_text("a = 1\n")
    (tmp_path / "pkg" / "sub" / "page.html").write_text("<p>")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b.py").write_text("")
    return tmp_path


def print_of(root, *packages):
    return code_fingerprint(packages or ("pkg",), root)


def test_names_contents_and_packages_count(tree):
    prints = [print_of(tree), print_of(tree, "pkg", "other")]
    (tree / "pkg" / "a.py").write_text("a = 2\n")
    prints.append(print_of(tree))
    (tree / "pkg" / "a.py").rename(tree / "pkg" / "c.py")
    prints.append(print_of(tree))
    (tree / "pkg" / "sub" / "page.html").write_text("<b>")
    prints.append(print_of(tree))
    (tree / "pkg" / "c.py").write_text("")
    prints.append(print_of(tree))
    assert len(set(prints)) == len(prints)


def test_every_file_of_the_service_and_the_library_counts(tmp_path):
    """An edited page must reach the Bento, whose version names the code."""
    ignored = shutil.ignore_patterns("__pycache__", "*.txt", ".*")  # a licence decides nothing
    for package in ("tudsr", "serving"):
        shutil.copytree(PROJECT_ROOT / package, tmp_path / package, ignore=ignored)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    one_of_each = {path.suffix: path for path in files}
    assert {".css", ".js"} <= one_of_each.keys()
    for path in one_of_each.values():
        before = print_of(tmp_path, "tudsr", "serving")
        path.write_bytes(path.read_bytes() + b"\n")
        assert print_of(tmp_path, "tudsr", "serving") != before, path.name


def test_caches_times_and_places_do_not(tree, tmp_path_factory):
    before = print_of(tree)
    (tree / "pkg" / "__pycache__").mkdir()
    (tree / "pkg" / "__pycache__" / "a.cpython-311.pyc").write_bytes(b"x")
    (tree / "pkg" / ".a.py.swp").write_bytes(b"x")
    (tree / "pkg" / "a.py").touch()
    moved = shutil.copytree(tree, tmp_path_factory.mktemp("elsewhere") / "copy")
    assert print_of(tree) == before == print_of(moved)


def test_a_package_that_is_not_there_is_an_error(tree):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        print_of(tree, "nowhere")


def test_the_library_is_fingerprinted_in_an_instant():
    code_fingerprint()
    started = time.process_time()
    for _ in range(5):
        code_fingerprint()
    assert (time.process_time() - started) / 5 < 0.05


def test_file_hashes_are_sha256(tmp_path):
    content = bytes(range(256)) * 9999
    (tmp_path / "f").write_bytes(content)
    assert file_sha256(tmp_path / "f") == hashlib.sha256(content).hexdigest()


def test_what_is_collected_says_all_but_who_and_where():
    made = collect(load_profile("smoke"), "data-version", "base-version")
    assert Provenance.model_validate_json(made.model_dump_json()) == made
    assert (made.data, made.base, made.seed) == ("data-version", "base-version", 0)
    assert made.code == code_fingerprint() and made.packages["torch"][0].isdigit()
    text = json.dumps(made.model_dump())
    for private in (str(PROJECT_ROOT), platform.node(), "/home/"):
        assert private not in text
    assert getpass.getuser() not in made.machine


def test_settings_and_seed_are_told_apart():
    smoke = load_profile("smoke")
    other = smoke.model_copy(update={"seed": 1})
    first, second = (collect(p, "d", "b") for p in (smoke, other))
    assert first.profile != second.profile and second.seed == 1


def test_the_commit_is_gits():
    head = subprocess.run(
        ["git", "-C", str(PROJECT_ROOT), "rev-parse", "HEAD"], capture_output=True, text=True
    )
    expected = head.stdout.strip() if head.returncode == 0 else None
    assert collect(load_profile("smoke"), "d", "b").commit == expected
