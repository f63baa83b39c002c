import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.conftest import scene as scene_of
from tests.data.bigset import encoded, write_shards, write_tar
from tudsr.data.facts import gather_facts
from tudsr.data.index import load_index
from tudsr.data.photos import list_photographs
from tudsr.data.rules import find_duplicates
from tudsr.data.sets import photographs_of, training_sample
from tudsr.errors import DataError
from tudsr.profile import DataSettings

BOUNDS = DataSettings(min_side_px=64, max_side_px=200, min_train=2, min_val=1, min_test=1)


@pytest.fixture
def validate():
    pytest.importorskip("great_expectations")
    from tudsr.data.expectations import validate

    return validate


def facts_of(folder):
    return gather_facts(list_photographs(folder))


def test_a_good_set_is_accepted_whole(folder, tmp_path, validate):
    from tudsr.data.expectations import load_validation

    verdict = validate(facts_of(folder), BOUNDS, tmp_path / "out")
    assert verdict.set_aside == {}
    assert verdict.counts == {"train": 3, "val": 2, "test": 2}
    assert verdict.success
    assert load_validation(tmp_path / "out") == verdict
    assert verdict.paths(folder, "val") == [folder / "val" / f"photo{i}.png" for i in range(2)]
    assert (tmp_path / "out" / "facts.csv").is_file()


def test_each_bad_photograph_is_set_aside_with_its_reason(folder, tmp_path, validate, scene):
    train = folder / "train"
    good = Image.fromarray(scene(50))
    good.save(train / "cut.jpg")
    (train / "cut.jpg").write_bytes((train / "cut.jpg").read_bytes()[:-400])
    (train / "text.png").write_text("a text file")
    Image.new("RGB", (1, 1)).save(train / "dot.png")
    good.convert("CMYK").save(train / "cmyk.jpg")
    good.convert("RGBA").save(train / "alpha.png")
    still = [good, Image.fromarray(scene(51))]
    still[0].save(train / "moving.gif", save_all=True, append_images=still[1:])
    still[0].save(train / "moving.webp", save_all=True, append_images=still[1:])
    Image.new("RGB", (96, 96), "blue").save(train / "blank.png")
    Image.fromarray(scene(52, 240)).save(train / "large.png")
    noisy = np.random.default_rng(0).normal(128, 60, (96, 96, 3)).clip(0, 255)
    Image.fromarray(noisy.astype(np.uint8)).save(train / "noisy.png")
    good.save(train / "blocks.jpg", quality=1)
    before = {p: p.read_bytes() for p in folder.rglob("*.*")}
    verdict = validate(facts_of(folder), BOUNDS, tmp_path / "out")
    expected = {
        "cut.jpg": "damaged",
        "text.png": "not an image",
        "dot.png": "1 x 1: the shorter side is below min_side_px = 64",
        "cmyk.jpg": "mode CMYK",
        "alpha.png": "mode RGBA",
        "moving.gif": "animated: 2 frames",
        "moving.webp": "animated: 2 frames",
        "blank.png": "sharpness 0.0 is below min_sharpness",
        "large.png": "240 x 240: the longer side is above max_side_px = 200",
        "noisy.png": "is above max_noise",
        "blocks.jpg": "JPEG blockiness",
    }
    assert set(verdict.set_aside) == {f"train/{name}" for name in expected}
    for name, words in expected.items():
        assert words in "; ".join(verdict.set_aside[f"train/{name}"])
    assert verdict.counts == {"train": 3, "val": 2, "test": 2}
    assert {p: p.read_bytes() for p in folder.rglob("*.*")} == before


def test_too_few_says_how_many_and_why_and_keeps_the_record(folder, tmp_path, validate):
    for index in range(2):
        (folder / "train" / f"photo{index}.png").write_text("text")
    with pytest.raises(DataError) as caught:
        validate(facts_of(folder), BOUNDS, tmp_path / "out")
    message = str(caught.value)
    assert "train has 1 usable photographs of the 2 it needs" in message
    assert "train/photo0.png is not an image" in message
    assert "val has" not in message
    assert (tmp_path / "out" / "verdicts.json").is_file()
    assert "too few" in (tmp_path / "out" / "docs" / "index.html").read_text()


def test_nothing_decodable_is_still_one_clear_error(folder, tmp_path, validate):
    for path in folder.rglob("*.png"):
        path.write_text("text")
    with pytest.raises(DataError, match="train has 0 usable"):
        validate(facts_of(folder), BOUNDS, tmp_path / "out")


def test_a_twin_in_train_is_set_aside_for_the_one_in_test(folder, tmp_path, validate):
    Image.open(folder / "test" / "photo0.png").save(folder / "train" / "twin.jpg", quality=90)
    Image.open(folder / "val" / "photo0.png").save(folder / "val" / "twin.png")
    verdict = validate(facts_of(folder), BOUNDS, tmp_path / "out")
    assert verdict.set_aside == {
        "train/twin.jpg": ("near-duplicate of test/photo0.png",),
        "val/twin.png": ("near-duplicate of val/photo0.png",),
    }


def test_the_number_of_bits_decides_what_a_twin_is(folder):
    facts = facts_of(folder)
    assert find_duplicates(facts, 0) == {}
    assert set(find_duplicates(facts, 64)) == {f.file for f in facts} - {"test/photo0.png"}


def test_a_file_that_is_not_the_manifests_is_set_aside(folder, tmp_path, validate):
    (folder / "manifest.csv").write_text("file,sha256\ntest/photo1.png,00\n")
    verdict = validate(facts_of(folder), BOUNDS, tmp_path / "out")
    assert verdict.set_aside == {"test/photo1.png": ("differs from its SHA-256 in manifest.csv",)}


def test_docs_fetch_nothing_and_their_links_hold(folder, tmp_path, validate):
    (folder / "train" / "bad & <b>.png").write_text("text")
    validate(facts_of(folder), BOUNDS, tmp_path / "out")
    docs = tmp_path / "out" / "docs"
    pages = list(docs.rglob("*.html"))
    assert len(pages) == 5
    assert sum("photographs" in page.read_text() for page in pages) >= 3
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"(?:src=|url\()[\"']?https?:", text)
        assert not re.search(r"<link[^>]+https?:", text)
    index = (docs / "index.html").read_text()
    assert "bad &amp; &lt;b&gt;.png" in index
    for link in re.findall(r'href="([^"#]+)"', index):
        assert (docs / link).is_file()


def test_verdicts_that_are_missing_or_broken_are_refused(tmp_path):
    pytest.importorskip("great_expectations")
    from tudsr.data.expectations import load_validation

    with pytest.raises(DataError, match="tudsr data validate"):
        load_validation(tmp_path)
    (tmp_path / "verdicts.json").write_text("{")
    with pytest.raises(DataError, match="not readable"):
        load_validation(tmp_path)


def test_the_module_imports_without_great_expectations():
    code = (
        "import sys, tudsr.data.expectations, tudsr.data.commands;"
        "assert not {'great_expectations', 'pandas', 'torch'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_a_big_set_is_judged_by_a_sample_and_trained_on_by_its_index(folder, tmp_path, validate):
    shards = write_shards(tmp_path / "set", 2, 3)
    members = {f"{n}.png": encoded(Image.fromarray(scene_of(n))) for n in range(30, 34)}
    write_tar(shards / "good.tar", members | {"bad.png": b"no picture"})
    big = {"root": str(folder), "train_sources": (str(shards),), "sample": 11}
    settings = BOUNDS.model_copy(update=big)
    facts = gather_facts(photographs_of(settings), training_sample(settings))
    verdict = validate(facts, settings, tmp_path / "out")
    assert verdict.counts == {"train": 4, "val": 2, "test": 2}
    assert "not an image" in verdict.set_aside["train/good.tar/bad.png"][0]
    (index,) = verdict.paths(folder, "train")
    assert len(load_index(index)) == 11
    assert len(verdict.paths(folder, "val")) == 2
    write_tar(shards / "more.tar", members)
    with pytest.raises(DataError, match="changed since it was validated"):
        verdict.paths(folder, "train")
