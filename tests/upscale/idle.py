"""A model that changes nothing, so that what happens to files is what is tested."""

from pathlib import Path

from tudsr.profile import UpscaleSettings
from tudsr.upscale.chosen import ChosenModel
from tudsr.upscale.files import FolderRun
from tudsr.upscale.target import Target
from tudsr.upscale.upscaler import Upscaler

SETTINGS = UpscaleSettings(tile_px=64, overlap_px=16)


class Same:
    size_multiple = 16
    side_by_side = 1

    def restore(self, image, stage, full_precision=False):
        return image


class Chosen(ChosenModel):
    """Needs no bundle."""

    def upscaler(self):
        return Upscaler(Same(), SETTINGS)

    def signature(self):
        return f"idle {self.target}"


def run(source: Path, target: Path, scale=2.0):
    folder_run = FolderRun(source, target, Chosen(None, Target(scale=scale)))
    return [folder_run.make(job) for job in folder_run.jobs]
