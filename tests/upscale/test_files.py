"""Files and folders at the keyboard: kept whole and gone on with."""

import json
import shutil
import tracemalloc

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.conftest import random_bundle, scene
from tests.upscale.idle import SETTINGS, Chosen, Same, run
from tudsr.errors import ImageError, SettingsError
from tudsr.images import canvas
from tudsr.images.read import read_image
from tudsr.images.resize import bicubic_resize
from tudsr.upscale.chosen import ChosenModel
from tudsr.upscale.files import FolderRun, Job, upscale_one
from tudsr.upscale.manifest import NAME, Manifest
from tudsr.upscale.target import Target
from tudsr.upscale.upscaler import Upscaler


def test_a_folder_keeps_its_shape_and_a_second_run_skips_what_is_done(folder, tmp_path):
    outcomes = run(folder, tmp_path / "out")
    assert [(o.job.source.name, o.error is None) for o in outcomes] == [
        ("a.png", True), ("b.jpg", True), ("broken.png", False), ("c.webp", True),
    ]  # fmt: skip
    assert (tmp_path / "out" / "deep" / "c.webp").is_file()
    lines = (tmp_path / "out" / NAME).read_text("utf-8").splitlines()
    assert [json.loads(line)["source"] for line in lines] == [
        "a.png", "b.jpg", "broken.png", "deep/c.webp",
    ]  # fmt: skip
    assert "damaged" in json.loads(lines[2])["error"]
    again = run(folder, tmp_path / "out")
    assert [o.skipped for o in again] == [True, True, False, True]


def test_a_source_that_has_changed_is_made_anew(folder, tmp_path):
    run(folder, tmp_path / "out")
    old = (tmp_path / "out" / "a.png").read_bytes()
    Image.fromarray(scene(9, 50)).save(folder / "a.png")
    outcomes = run(folder, tmp_path / "out")
    assert [o.skipped for o in outcomes] == [False, True, False, True]
    assert (tmp_path / "out" / "a.png").read_bytes() != old


def test_a_picture_that_goes_meanwhile_fails_and_the_rest_is_made(folder, tmp_path):
    going = FolderRun(folder, tmp_path / "out", Chosen(None, Target(scale=2.0)))
    first, second, *_ = going.jobs
    first.source.unlink()
    assert "No such file" in (going.make(first).error or "")
    assert going.make(second).error is None


def test_what_another_scale_made_is_left_alone(folder, tmp_path):
    run(folder, tmp_path / "out")
    outcomes = run(folder, tmp_path / "out", scale=3)
    assert all("remove it first" in o.error for o in outcomes if o.job.source.name != "broken.png")


def test_skipping_heeds_stripping_but_not_where_the_model_runs(tmp_path):
    bundle = str(random_bundle(tmp_path))

    def signature(**how):
        return ChosenModel(bundle, Target(scale=2), **how).signature()

    assert signature(strip=True) != signature()
    assert signature(device="cpu") == signature(device="auto")


def test_a_manifest_that_was_cut_off_is_gone_on_with(folder, tmp_path):
    run(folder, tmp_path / "out")
    path = tmp_path / "out" / NAME
    path.write_bytes(path.read_bytes()[:-20])
    assert "deep/c.webp" not in Manifest(tmp_path / "out").entries
    Image.fromarray(scene(9, 50)).save(folder / "a.png")
    run(folder, tmp_path / "out")
    assert len(Manifest(tmp_path / "out").entries) == 4


def test_a_result_whose_line_a_kill_prevented_is_noted_by_the_next_run(folder, tmp_path):
    """Without a line, a changed source would go unnoticed."""
    run(folder, tmp_path / "out")
    path = tmp_path / "out" / NAME
    path.write_text("".join(path.read_text("utf-8").splitlines(True)[:-1]), "utf-8")
    assert run(folder, tmp_path / "out")[-1].skipped
    Image.fromarray(scene(9, 50)).save(folder / "deep" / "c.webp")
    assert run(folder, tmp_path / "out")[-1].sizes == ((50, 50), (100, 100))


def test_half_written_files_of_a_killed_run_are_removed(folder, tmp_path):
    (tmp_path / "out").mkdir()
    left = tmp_path / "out" / f".a.{'0' * 32}.png"
    left.write_bytes(b"half")
    run(folder, tmp_path / "out")
    assert not left.exists()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
def test_the_same_bytes_whether_in_memory_or_in_files(folder, tmp_path, monkeypatch, suffix):
    jobs = [Job(folder / "a.png", tmp_path / f"{where}{suffix}") for where in "ab"]
    upscale_one(jobs[0], Chosen(None, Target(width=150)))
    monkeypatch.setattr(canvas, "IN_MEMORY_BYTES", 0)
    upscale_one(jobs[1], Chosen(None, Target(width=150)))
    assert jobs[0].target.read_bytes() == jobs[1].target.read_bytes()
    assert read_image(jobs[0].target).size == (150, 150)


def test_what_belongs_to_a_picture_goes_with_it_or_is_stripped(tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    picture = np.dstack([scene(0, 32), np.full((32, 32), 128, np.uint8)])
    Image.fromarray(picture).save(tmp_path / "in.png", exif=exif, dpi=(300, 300))
    for strip in (False, True):
        job = Job(tmp_path / "in.png", tmp_path / f"{strip}.png")
        upscale_one(job, Chosen(None, Target(scale=2), strip=strip))
        with Image.open(job.target) as made:
            assert made.mode == "RGBA"
            assert made.getexif()[0x0131] == "idle x2"
            assert (0x010F in made.getexif(), "dpi" in made.info) == (not strip, not strip)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_go_through_whole(tmp_path, suffix):
    """A ramp of 2,000 levels, eight of an 8-bit picture, comes out as one."""
    ramp = np.linspace(30_000, 32_000, 64 * 64).astype(np.uint16).reshape(64, 64)
    colours = np.dstack([ramp, ramp + 1000, ramp + 2000])
    job = Job(tmp_path / f"in{suffix}", tmp_path / f"out{suffix}")
    assert cv2.imwrite(str(job.source), colours)
    upscale_one(job, Chosen(None, Target(scale=2)))
    made = cv2.imread(str(job.target), cv2.IMREAD_UNCHANGED)
    assert (made.dtype, made.shape) == (np.uint16, (128, 128, 3))
    assert [len(np.unique(made[:, :, c])) > 1500 for c in range(3)] == [True] * 3
    wanted = bicubic_resize(colours.astype(np.float32), 128, 128)
    assert np.abs(made - wanted).max() < 8


class Tints(Same):
    def restore(self, image, stage, full_precision=False):
        return np.asarray(image + np.array([0.04, 0, -0.04], np.float32), np.float32)


class ChosenTints(Chosen):
    def upscaler(self):
        return Upscaler(Tints(), SETTINGS.model_copy(update={"colour": "none"}))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16"])
def test_a_grey_picture_stays_grey(tmp_path, mode, suffix):
    grey = Image.fromarray(scene(0, 48)).convert("LA" if mode == "LA" else "L")
    if mode == "I;16":
        grey = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    job = Job(tmp_path / "in.png", tmp_path / f"out{suffix}")
    (grey.convert("1") if mode == "1" else grey).save(job.source)
    upscale_one(job, ChosenTints(None, Target(scale=2)))
    with Image.open(job.target) as made:
        if suffix == ".webp":  # has no grey, and rounds
            assert np.ptp(np.asarray(made.convert("RGB")).astype(int), axis=2).max() <= 1
        else:
            kept = suffix != ".jpg" and mode != "1"
            assert made.mode == (mode if kept else "L")


def test_what_does_not_fit_the_memory_is_refused_before_any_work(tmp_path):
    """Only what cannot be read or written in parts counts."""
    picture = Image.fromarray(scene(0, 200)).resize((2000, 3200))
    picture.save(tmp_path / "a.png")
    picture.save(tmp_path / "b.bmp")

    def make(source, target, mib):
        chosen = Chosen(None, Target(scale=8), memory_bytes=mib * 2**20)
        upscale_one(Job(tmp_path / source, tmp_path / target), chosen)

    with pytest.raises(ImageError, match=r"410 megapixels as JPEG take 1,953 MiB.*write PNG"):
        make("a.png", "out.jpg", 300)
    with pytest.raises(ImageError, match=r"49 MiB, over the limit of 48.*--memory") as caught:
        make("b.bmp", "out.png", 96)
    assert caught.value.code == "too_large"
    with pytest.raises(SettingsError, match="give at least 96"):
        make("a.png", "out.png", 95)
    Image.new("L", (16_400, 8)).save(tmp_path / "thread.png")
    with pytest.raises(ImageError, match=r"a side of 131,200 pixels, over the limit of 131,072"):
        make("thread.png", "out.png", 300)


def test_tiles_shrink_to_fit_the_memory_and_a_wanted_one_that_does_not_is_refused(tmp_path):
    bundle = random_bundle(tmp_path, tile_px=544, overlap_px=64)

    def chosen(mib, **changes):
        return ChosenModel(str(bundle), Target(scale=2), memory_bytes=mib * 2**20, changes=changes)

    assert "tile 544/64" in chosen(1024).signature()
    assert chosen(1024).smaller_tile() is None
    assert "tile 128/32" in chosen(96).signature()
    assert "128 pixels, not the model's 544" in chosen(96).smaller_tile()
    with pytest.raises(SettingsError, match=r"a tile of 256 does not fit .* --tile 128"):
        chosen(96, tile_px=256).signature()


def test_bars_count_the_work_that_is_left(folder, tmp_path):
    from rich.progress import Progress

    from tudsr.upscale.bars import Bars

    folder_run = FolderRun(folder, tmp_path / "out", Chosen(None, Target(scale=2)))
    shown = Bars(Progress(disable=True), folder_run.jobs, Target(scale=2))
    assert shown.left == 3 * 96 * 96  # the broken one counts nothing
    for job in folder_run.jobs:
        shown.begin(job)
        shown.end(folder_run.make(job, shown.tile))
    assert shown.done == shown.left == 3 * 96 * 96
    assert shown.bar.tasks[-1].percentage == 100
    shutil.rmtree(tmp_path / "out")


def test_bars_name_what_follows_the_tiles(folder, tmp_path):
    from rich.progress import Progress

    from tudsr.upscale.bars import Bars

    folder_run = FolderRun(folder, tmp_path / "out", Chosen(None, Target(scale=4)))
    job, *_ = folder_run.jobs
    shown, seen = Bars(Progress(disable=True), folder_run.jobs, Target(scale=4)), set()

    def tile(done, total):
        shown.tile(done, total)
        picture, folders = [t for t in shown.bar.tasks if t.visible]
        assert folders.completed < shown.weights[job.source]
        seen.add((picture.description, picture.total is None, done == total))

    shown.begin(job)
    shown.end(folder_run.make(job, tile))
    assert seen == {("a.png", False, False), ("finishing a.png", True, True)}
    assert shown.bar.tasks[-1].completed == shown.weights[job.source]


def test_memory_does_not_grow_with_the_height_of_the_result(tmp_path):
    """What Python and NumPy hold at most; a float32 canvas of the larger result takes 13 MB."""
    peaks = []
    for height in (64, 544):
        Image.fromarray(scene(0, 64)).resize((64, height)).save(tmp_path / "in.png")
        tracemalloc.start()
        upscale_one(Job(tmp_path / "in.png", tmp_path / "out.png"), Chosen(None, Target(scale=8)))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 4e6, peaks
