import json

import numpy as np
import pytest
from PIL import Image

from tudsr.data.degrade import degrade, sample_rng
from tudsr.data.pairs import crop_positions, load_pairs, make_pairs, read_pair
from tudsr.data.photos import list_photographs
from tudsr.data.preview import write_preview
from tudsr.errors import DataError
from tudsr.images.resize import bicubic_resize
from tudsr.profile import PairSettings

SETTINGS = PairSettings(hr_crop_px=32, crops_per_photo=2, scales=(4, 8))


@pytest.fixture
def made(folder, tmp_path):
    return make_pairs(list_photographs(folder), SETTINGS, 0, tmp_path / "pairs")


def tree(path):
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_every_val_and_test_photograph_has_its_pairs(made, tmp_path):
    assert len(made.pairs) == 4 * 2 * 2
    assert {(p.split, p.preset) for p in made.pairs} == {("val", "mild"), ("test", "clean")}
    assert len(made.select("test", 8)) == 4
    assert load_pairs(tmp_path / "pairs") == made
    recipe = json.loads((tmp_path / "pairs" / "recipe.json").read_text())
    assert recipe["settings"] == SETTINGS.model_dump(mode="json")
    assert recipe["seed"] == 0
    assert {"numpy", "tudsr"} <= set(recipe["versions"])


def test_only_lr_images_are_stored(made, tmp_path):
    sizes = {}
    for path in (tmp_path / "pairs").rglob("*.png"):
        with Image.open(path) as image:
            sizes.setdefault(path.parent.name, set()).add(image.size)
    assert sizes == {"x4": {(8, 8)}, "x8": {(4, 4)}}


def test_crops_are_the_same_at_each_scale_and_lie_inside(made):
    for four, eight in zip(made.select("val", 4), made.select("val", 8), strict=True):
        assert (four.photo, four.x, four.y, four.index) == (
            eight.photo, eight.x, eight.y, eight.index,
        )  # fmt: skip
        assert 0 <= min(four.x, four.y) <= max(four.x, four.y) <= 96 - 32


def test_a_pair_reads_back_as_crop_and_reduction(made, folder, tmp_path):
    pair = made.select("test", 4)[1]
    lr, hr = read_pair(pair, tmp_path / "pairs", folder)
    photo = np.asarray(Image.open(folder / pair.photo), np.float32) / 255
    np.testing.assert_array_equal(hr, photo[pair.y : pair.y + 32, pair.x : pair.x + 32])
    np.testing.assert_allclose(lr, np.clip(bicubic_resize(hr, 8, 8), 0, 1), atol=0.51 / 255)


def test_a_mild_pair_is_the_degradation_of_its_own_sample(made, folder, tmp_path):
    pair = made.select("val", 4)[0]
    lr, hr = read_pair(pair, tmp_path / "pairs", folder)
    expected = degrade(hr, 4, "mild", sample_rng(0, f"{pair.photo}@x4", pair.index))
    np.testing.assert_allclose(lr, expected, atol=0.51 / 255)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(made, folder, tmp_path):
    photos = list_photographs(folder)
    make_pairs(photos, SETTINGS, 0, tmp_path / "again")
    make_pairs(photos, SETTINGS, 1, tmp_path / "other")
    assert tree(tmp_path / "again") == tree(tmp_path / "pairs")
    assert tree(tmp_path / "other") != tree(tmp_path / "pairs")


def test_a_pair_does_not_depend_on_the_other_photographs(made, folder, tmp_path):
    last = list_photographs(folder)[-1:]
    alone = make_pairs(last, SETTINGS, 0, tmp_path / "alone")
    assert alone.pairs == tuple(p for p in made.pairs if p.photo == last[0].file)


def test_crops_go_where_the_detail_is_and_keep_apart():
    luma = np.zeros((400, 400), np.float32)
    luma[:, 200:] = np.random.default_rng(0).normal(0, 20, (400, 200))
    positions = [crop_positions(luma, 100, 2, seed, "a") for seed in range(10)]
    assert sum(first[0] >= 190 for first, _ in positions) >= 9
    for (x0, y0), (x1, y1) in positions:
        assert abs(x0 - x1) >= 100 or abs(y0 - y1) >= 100


def test_changed_files_are_noticed(made, folder, tmp_path):
    pair = made.pairs[0]
    lr_path, photo = tmp_path / "pairs" / pair.lr, folder / pair.photo
    stored = lr_path.read_bytes()
    lr_path.write_bytes(stored + b"\0")
    with pytest.raises(DataError, match="not the file its pair was made from"):
        read_pair(pair, tmp_path / "pairs", folder)
    lr_path.unlink()
    with pytest.raises(DataError, match="no LR image"):
        read_pair(pair, tmp_path / "pairs", folder)
    lr_path.write_bytes(stored)
    photo.write_bytes(photo.read_bytes() + b"\0")
    with pytest.raises(DataError, match=r"photo0\.png is not the file"):
        read_pair(pair, tmp_path / "pairs", folder)
    photo.unlink()
    with pytest.raises(DataError, match="no photograph val/photo0"):
        read_pair(pair, tmp_path / "pairs", folder)


def test_photographs_of_one_stem_do_not_overwrite_each_other(folder, tmp_path):
    Image.open(folder / "val" / "photo0.png").rotate(90).save(folder / "val" / "photo0.webp")
    made = make_pairs(list_photographs(folder), SETTINGS, 0, tmp_path / "pairs")
    assert len({p.lr for p in made.pairs}) == len(made.pairs) == 5 * 2 * 2


def test_what_cannot_be_cut_is_refused_and_the_old_pairs_stay(made, folder, tmp_path):
    before = tree(tmp_path / "pairs")
    photos = list_photographs(folder)
    with pytest.raises(DataError, match="smaller than a crop of 128"):
        make_pairs(photos, PairSettings(hr_crop_px=128), 0, tmp_path / "pairs")
    with pytest.raises(DataError, match="multiples of the scale"):
        make_pairs(photos, PairSettings(hr_crop_px=32, scales=(5,)), 0, tmp_path / "pairs")
    with pytest.raises(DataError, match="val or test"):
        make_pairs([p for p in photos if p.split == "train"], SETTINGS, 0, tmp_path / "pairs")
    assert tree(tmp_path / "pairs") == before


def test_a_list_of_pairs_that_is_missing_or_broken_is_refused(tmp_path):
    with pytest.raises(DataError, match="tudsr data pairs"):
        load_pairs(tmp_path)
    (tmp_path / "pairs.json").write_text('{"seed": 0}')
    with pytest.raises(DataError, match="not readable"):
        load_pairs(tmp_path)


def test_the_preview_shows_each_preset(folder, tmp_path):
    photos = list_photographs(folder)
    write_preview(photos, tmp_path / "preview.png", 0, crop_px=32, rows=2)
    with Image.open(tmp_path / "preview.png") as image:
        assert image.size == (4 * 36 - 4, 2 * 36 - 4 + 18)
        cell = np.asarray(image)[18:50, :32]
    train = np.asarray(Image.open(folder / "train" / "photo0.png"))
    windows = np.lib.stride_tricks.sliding_window_view(train, (32, 32, 3))[:, :, 0]
    assert (windows == cell).all(axis=(-1, -2, -3)).any()
    write_preview(photos[3:], tmp_path / "val.png", 0, crop_px=32)
    with pytest.raises(DataError, match="train or val"):
        write_preview(photos[5:], tmp_path / "preview.png", 0)
