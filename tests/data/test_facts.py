from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image

from tudsr.data.degrade import jpeg
from tudsr.data.facts import Facts, gather_facts, hash_distance, measure, read_facts, write_facts
from tudsr.data.measures import blockiness, luma_of, noise_sigma, perceptual_hash, sharpness
from tudsr.data.photos import list_photographs
from tudsr.errors import DataError


@pytest.mark.parametrize("sigma", [2.0, 8.0])
def test_noise_of_known_strength_is_found_despite_edges(sigma):
    picture = np.full((256, 256), 128, np.float32)
    picture[:, 100:] -= 60
    noisy = picture + np.random.default_rng(0).normal(0, sigma, picture.shape).astype(np.float32)
    assert noise_sigma(picture) == 0
    assert noise_sigma(noisy) == pytest.approx(sigma, rel=0.03)


def test_sharpness_of_white_noise_is_twenty_times_its_variance():
    noise = np.random.default_rng(0).normal(128, 3, (512, 512)).astype(np.float32)
    assert sharpness(noise) == pytest.approx(20 * 9, rel=0.02)  # 4² + 4 · 1²
    ramp = np.tile(np.arange(64, dtype=np.float32), (64, 1))
    assert sharpness(ramp[:, 1:-1]) < 0.2  # a plane has no Laplacian but at the mirrored border


def test_blocks_are_found_on_the_grid_only():
    steps = np.tile((np.arange(64) // 8 % 2 * 10.0).astype(np.float32), (64, 1))
    rough = np.random.default_rng(0).normal(0, 1, steps.shape).astype(np.float32)
    assert blockiness(rough) == pytest.approx(1, abs=0.1)
    assert blockiness(steps + rough) > 4
    assert blockiness(np.roll(steps + rough, 3, axis=1)) < 1
    assert blockiness(np.zeros((64, 64), np.float32)) == 1


def test_harder_jpeg_is_blockier(scene):
    ratios = [blockiness(luma_of(jpeg(scene(1, 256), quality))) for quality in (95, 40, 10)]
    assert ratios == sorted(ratios)
    assert ratios[2] > 1.5


def test_the_hash_survives_resizing_and_jpeg_but_not_another_picture(scene):
    def of(pixels):
        return f"{perceptual_hash(luma_of(pixels)):016x}"

    one = scene(1, 128)
    smaller = np.asarray(Image.fromarray(one).resize((70, 70), Image.Resampling.BICUBIC))
    worse = jpeg(one, 40)
    assert hash_distance(of(one), of(smaller)) <= 4
    assert hash_distance(of(one), of(worse)) <= 4
    assert min(hash_distance(of(one), of(scene(seed, 128))) for seed in range(2, 12)) > 12
    assert hash_distance("0000000000000000", "ffffffffffffffff") == 64


def test_a_row_holds_what_the_file_is(folder):
    Image.fromarray(np.zeros((5, 9), np.uint8)).save(folder / "train" / "photo0.png")
    row = gather_facts(list_photographs(folder))[0]
    assert (row.mode, row.width, row.height, row.short_side, row.long_side) == ("L", 9, 5, 5, 9)
    assert (row.decodable, row.sharpness, row.noise, row.blockiness) == (True, 0, 0, 1)


def test_neighbours_are_found_within_and_across_splits(folder):
    original = Image.open(folder / "test" / "photo1.png")
    original.save(folder / "train" / "twin.jpg", quality=80)
    rows = {row.file: row for row in gather_facts(list_photographs(folder))}
    assert rows["train/twin.jpg"].nearest_across == "test/photo1.png"
    assert rows["test/photo1.png"].nearest_across == "train/twin.jpg"
    assert rows["train/twin.jpg"].bits_across <= 4
    assert rows["train/twin.jpg"].bits_within > 4


def test_damaged_files_become_rows_with_a_reason(folder):
    (folder / "val" / "photo0.png").write_text("text")
    (row,) = [r for r in gather_facts(list_photographs(folder)) if not r.decodable]
    assert row.reason == "val/photo0.png is not an image in a known format"
    assert row.width is row.sharpness is row.phash is None


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (8, 8), (3, 40)])
def test_tiny_pictures_are_measured(folder, size):
    path = folder / "train" / "photo0.png"
    Image.new("RGB", size, "red").save(path)
    row = measure(list_photographs(folder)[0])
    assert row.decodable
    assert row.short_side == min(size)
    assert np.isfinite([row.sharpness, row.noise, row.blockiness]).all()


def test_the_manifest_is_compared(folder):
    good = list_photographs(folder)[0].sha256
    (folder / "manifest.csv").write_text(
        f"file,sha256\ntrain/photo0.png,{good}\ntrain/photo1.png,{good}\n"
    )
    rows = gather_facts(list_photographs(folder))
    assert [row.manifest for row in rows[:3]] == ["agrees", "differs", "absent"]


def test_the_table_comes_back_as_it_was_written(folder, tmp_path):
    (folder / "val" / "photo0.png").write_text('text, "quoted"\n')
    rows = gather_facts(list_photographs(folder))
    write_facts(tmp_path / "facts.csv", rows)
    assert read_facts(tmp_path / "facts.csv") == rows


def test_another_table_is_refused(tmp_path):
    path = tmp_path / "facts.csv"
    with pytest.raises(DataError, match="tudsr data facts"):
        read_facts(path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="not a facts table"):
        read_facts(path)
    assert len(asdict(Facts("train", "train/a", "", "absent", False, ""))) == 19
