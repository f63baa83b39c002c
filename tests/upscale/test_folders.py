"""Folders that are run again, and what goes wrong in them."""

import numpy as np
import pytest
from PIL import Image

from tests.conftest import scene
from tests.upscale.idle import SETTINGS, Chosen, Same, run
from tudsr.errors import ModelError
from tudsr.upscale.chosen import ChosenModel
from tudsr.upscale.files import FolderRun
from tudsr.upscale.manifest import Manifest
from tudsr.upscale.target import Target
from tudsr.upscale.upscaler import Upscaler


def test_a_source_that_breaks_keeps_its_old_result_until_it_is_whole_again(folder, tmp_path):
    out = tmp_path / "out"
    run(folder, out)
    old = (out / "a.png").read_bytes()
    (folder / "a.png").write_bytes(b"\x89PNG and nothing more")
    for _ in range(2):
        assert "damaged" in (run(folder, out)[0].error or "")
        assert (out / "a.png").read_bytes() == old
    Image.fromarray(scene(9, 50)).save(folder / "a.png")
    assert run(folder, out)[0].sizes == ((50, 50), (100, 100))
    assert run(folder, out)[0].skipped
    assert Manifest(out).entries["a.png"].error is None


def test_a_result_that_was_edited_since_is_left_alone_though_its_source_has_changed(
    folder, tmp_path
):
    out = tmp_path / "out"
    run(folder, out)
    Image.fromarray(scene(7, 20)).save(out / "a.png")
    edited = (out / "a.png").read_bytes()
    Image.fromarray(scene(9, 50)).save(folder / "a.png")
    assert "remove it first" in (run(folder, out)[0].error or "")
    assert (out / "a.png").read_bytes() == edited
    (out / "a.png").unlink()
    assert run(folder, out)[0].sizes == ((50, 50), (100, 100))


def test_a_changed_source_is_made_anew_at_another_scale_too(folder, tmp_path):
    run(folder, tmp_path / "out")
    Image.fromarray(scene(9, 50)).save(folder / "a.png")
    assert run(folder, tmp_path / "out", scale=3)[0].sizes == ((50, 50), (150, 150))


def test_of_two_sources_with_one_result_the_later_fails(folder, tmp_path):
    Image.fromarray(scene(5, 20)).save(folder / "a.gif")
    Image.fromarray(scene(6, 30)).save(folder / "a.gif.png")
    for _ in range(2):
        first, second, *rest = run(folder, tmp_path / "out")
        assert first.error is None and first.job.source.name == "a.gif"
        assert second.error == "a.gif and a.gif.png both give a.gif.png: rename one of them"
        assert [o.error is None for o in rest] == [True, True, False, True]
    with Image.open(tmp_path / "out" / "a.gif.png") as made:
        assert made.size == (40, 40)
    # Renamed, the first leaves its result where the second's belongs.
    (folder / "a.gif").rename(folder / "z.gif")
    assert [o.error for o in run(folder, tmp_path / "out") if "a.gif" in str(o.job.source)] == [
        None
    ]
    with Image.open(tmp_path / "out" / "a.gif.png") as made:
        assert made.size == (60, 60)


class Fails(Same):
    """In what it does with a picture; ``what`` None gives values that are not finite."""

    def __init__(self, what):
        self.what = what

    def restore(self, image, stage, full_precision=False):
        if self.what is None:
            return np.full_like(image, np.nan)
        raise self.what


@pytest.mark.parametrize(
    ("what", "told"),
    [
        (MemoryError(), "the memory ran out"),
        (OSError(5, "Input/output error"), "a.png: Input/output error"),
        (OSError(5, "Input/output error", "/there"), "/there: Input/output error"),
        (None, "not finite"),
    ],
)
def test_what_goes_wrong_with_one_picture_is_that_pictures_failure(folder, tmp_path, what, told):
    class FailsOnce(Chosen):
        made = 0

        def upscaler(self):
            self.made += 1
            return Upscaler(Fails(what) if self.made == 1 else Same(), SETTINGS)

    folder_run = FolderRun(folder, tmp_path / "out", FailsOnce(None, Target(scale=2)))
    outcomes = [folder_run.make(job) for job in folder_run.jobs]
    assert told in (outcomes[0].error or "")
    assert [o.error is None for o in outcomes] == [False, True, False, True]
    assert not list((tmp_path / "out").glob(".*")), "nothing half written is left"


def test_a_model_that_cannot_be_opened_ends_the_run(folder, tmp_path):
    chosen = ChosenModel(str(tmp_path / "none"), Target(scale=2))
    folder_run = FolderRun(folder, tmp_path / "out", chosen)
    with pytest.raises(ModelError):
        folder_run.make(folder_run.jobs[0])
    assert not (tmp_path / "out").exists()
