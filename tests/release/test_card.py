"""The card says what the model was made from and how it did, and survives odd names."""

from __future__ import annotations

import csv
import re

import numpy as np
import pytest
from PIL import Image

from tests.release.conftest import provenance, verdict
from tudsr.profile import PROJECT_ROOT, load_profile
from tudsr.release.assemble import assemble
from tudsr.release.card import model_card
from tudsr.release.gate import Verdict

ROWS = [
    {"file": "train/a.webp", "author": "Ada", "licence": "CC0-1.0"},
    {"file": "train/b.webp", "author": "Ada", "licence": "CC0-1.0"},
    {"file": "train/c.webp", "author": "Bob | <b>x</b>\ny", "licence": "CC-BY-4.0"},
    {"file": "test/d.webp", "author": "Nobody Trained", "licence": "CC0-1.0"},
]


def card(rows=ROWS, **gate):
    return model_card(load_profile("tiny"), verdict(**gate), provenance(), rows)


def tables(text):
    """Every Markdown table as rows of cells; all rows of one have as many cells as its head."""
    found = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            found[-1].append([c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif found[-1]:
            found.append([])
    return [t for t in found if t]


def test_authors_and_licences_are_counted_over_the_training_photographs():
    sources = tables(card())[0]
    assert sources[2:] == [["Bob \\| &lt;b>x&lt;/b> y", "CC-BY-4.0", "1"], ["Ada", "CC0-1.0", "2"]]
    assert "Nobody Trained" not in card() and "3 photographs" in card()


def test_the_tables_are_whole_tables():
    for table in tables(card()):
        assert len({len(row) for row in table}) == 1, table
    sources, measured, provenance_table = tables(card())
    assert measured[0][2:] == ["lpips_hed ↓", "PSNR-Y, dB ↑", "SSIM-Y ↑", "DISTS ↓", "NIQE ↓"]
    assert ["x8", "bicubic", "0.3000", "27.50", "0.8000", "0.1000", "4.00"] in measured
    assert len(measured) == 2 + 4 and len(sources) == 2 + 2
    assert ["seed", "0"] in provenance_table


def test_limits_licence_and_purpose_are_named():
    text = card()
    for phrase in ("Intended use", "Faces", "Text and signs", "Heavy JPEG", "Apache-2.0"):
        assert phrase in text
    assert "31.0 % below bicubic" in text and "edges: its numbers" in text
    assert provenance().created not in text


def test_the_mesh_is_explained_where_it_was_measured():
    assert "at 0.1 a dotted pattern" not in card()
    assert "at 0.1 a dotted pattern" in card(means={"model": {"x4": {"mesh": 0.02}}})


def test_a_metric_that_is_missing_on_one_side_is_a_dash():
    means = {"model": {"x4": {"seam_ratio": 1.01}}, "bicubic": {"x4": {"psnr_y": 27.0}}}
    measured = tables(card(means=means))[1]
    dash = "\N{EN DASH}"
    assert measured[2:] == [["x4", "model", dash, "1.010"], ["x4", "bicubic", "27.00", dash]]


def test_the_real_manifest_fits():
    with (PROJECT_ROOT / "data" / "manifest.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    sources = tables(card(rows))[0]
    assert sum(int(row[2]) for row in sources[2:]) == sum(
        r["file"].startswith("train/") for r in rows
    )


def test_a_model_that_needs_one_stage_up_to_x4_says_so():
    told = "Up to 4 times the first stage does it alone."
    paper = model_card(load_profile("sd21"), verdict(), provenance(), ROWS)
    assert told in card() and "does it alone" not in paper


def test_photographs_that_validation_set_aside_are_not_counted(parts, tmp_path):
    photos = [f"{split}/{name}.png" for split in ("train", "val", "test") for name in "abc"]
    for photo in photos:
        (tmp_path / photo).parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / photo)
    base = {"base": {"source": str(parts.base)}, "data": {"root": str(tmp_path)}}
    profile = type(parts.profile)(name="smoke", **base)
    adapters = {stage: parts.weights(tmp_path / f"{stage}.safetensors", stage) for stage in (1, 2)}
    said = Verdict.model_validate(verdict())
    accepted = [photo for photo in photos if photo != "train/b.png"]
    assemble(tmp_path / "out", profile, adapters, said, accepted, "data", "base")
    assert "\n2 photographs," in (tmp_path / "out" / "MODEL_CARD.md").read_text("utf-8")


def test_big_sets_are_named_instead_of_counted():
    sets = {"train_sources": ("s3://bucket/set", "more/*.tar")}
    profile = load_profile("sd21")
    profile = profile.model_copy(update={"data": profile.data.model_copy(update=sets)})
    told = model_card(profile, verdict(), provenance(), [])
    assert "The pictures of `s3://bucket/set`, `more/*.tar`, reduced" in told
    assert "0 photographs" not in told and len(tables(told)) == 2


@pytest.mark.parametrize("metric_trunk", ["vgg16", "hed_vgg16"])
def test_a_metric_on_the_losses_own_trunk_is_named_as_such(metric_trunk):
    """`sd21` trains on torchvision's VGG16."""
    profile = load_profile("sd21")
    gate = profile.gate.model_copy(update={"metric_trunk": metric_trunk})
    told = model_card(profile.model_copy(update={"gate": gate}), verdict(), provenance(), ROWS)
    assert ("the trunk that the training loss used" in told) is (metric_trunk == "vgg16")
