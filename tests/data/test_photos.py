import hashlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tudsr.data.photos import data_version, list_photographs, read_photo
from tudsr.errors import DataError

ONE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def test_lists_every_split_by_name_and_hashes_the_files(folder):
    photos = list_photographs(folder)
    assert [p.file for p in photos] == [
        *(f"train/photo{i}.png" for i in range(3)),
        *(f"val/photo{i}.png" for i in range(2)),
        *(f"test/photo{i}.png" for i in range(2)),
    ]
    first = photos[0]
    assert first.sha256 == hashlib.sha256(first.path.read_bytes()).hexdigest()
    assert (first.author, first.licence, first.manifest_sha256) == ("unknown", "unknown", "")


def test_the_manifest_names_authors(folder):
    (folder / "manifest.csv").write_text(
        "file,author,licence,sha256\nval/photo0.png,Zoë,CC0-1.0,abc\n", encoding="utf-8"
    )
    (named,) = [p for p in list_photographs(folder) if p.author != "unknown"]
    assert (named.file, named.author, named.licence, named.manifest_sha256) == (
        "val/photo0.png", "Zoë", "CC0-1.0", "abc",
    )  # fmt: skip


def test_missing_and_empty_folders_are_named(folder):
    with pytest.raises(DataError, match="dvc pull"):
        list_photographs(folder / "nowhere")
    for path in (folder / "val").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"val is empty"):
        list_photographs(folder)
    (folder / "val").rmdir()
    with pytest.raises(DataError, match=r"no folder val/"):
        list_photographs(folder)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"name,author\na.png,me\n"])
def test_a_manifest_that_is_no_table_is_refused(folder, content):
    (folder / "manifest.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"manifest\.csv"):
        list_photographs(folder)


def test_reads_rgb_and_grey_in_unit_range(tmp_path):
    Image.fromarray(ONE).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_photo(tmp_path / "a.png"), ONE / np.float32(255))
    Image.fromarray(ONE[..., 0]).save(tmp_path / "grey.png")
    grey = read_photo(tmp_path / "grey.png")
    assert grey.shape == (40, 60, 3)
    assert np.array_equal(grey[..., 0], grey[..., 2])


def test_an_orientation_tag_is_obeyed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(ONE).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_allclose(read_photo(tmp_path / "turned.png") * 255, np.rot90(ONE, -1), atol=1)


def test_bad_files_are_refused_with_their_reason(tmp_path):
    image, path = Image.fromarray(ONE), tmp_path / "a.jpg"
    image.save(path)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DataError, match="damaged"):
        read_photo(path)
    text = tmp_path / "text.png"
    text.write_text("not an image")
    with pytest.raises(DataError, match="not an image"):
        read_photo(text)
    image.convert("CMYK").save(tmp_path / "cmyk.jpg")
    with pytest.raises(DataError, match="CMYK"):
        read_photo(tmp_path / "cmyk.jpg")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "avif"])
def test_damaged_bytes_never_raise_anything_else(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(ONE).save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        bad = np.frombuffer(whole, np.uint8)[: rng.integers(1, len(whole) + 1)].copy()
        bad[rng.integers(0, len(bad), 5)] = rng.integers(0, 256, 5)
        path.write_bytes(bad.tobytes())
        try:
            read_photo(path)
        except DataError:
            refused += 1
    assert refused > 20


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_animations_are_refused(tmp_path, suffix):
    path = tmp_path / f"moving.{suffix}"
    frames = [Image.fromarray(np.roll(ONE, shift, axis=1)) for shift in (0, 20)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
    with pytest.raises(DataError, match="animated: 2 frames"):
        read_photo(path)


def test_any_changed_byte_or_name_changes_the_version(folder):
    versions = {data_version(folder)}
    photo = folder / "test" / "photo1.png"
    photo.write_bytes(photo.read_bytes() + b"\0")
    versions.add(data_version(folder))
    photo.rename(photo.with_name("other.png"))
    versions.add(data_version(folder))
    assert len(versions) == 3
    with pytest.raises(DataError, match="no data folder"):
        data_version(folder / "nowhere")


@pytest.mark.slow
def test_the_version_is_the_hash_that_dvc_records(tmp_path, folder):
    pytest.importorskip("dvc")
    (folder / "train" / "übung.png").write_bytes(b"1")
    (folder / "manifest.csv").write_text("file\n")
    (folder / "empty").mkdir()
    work = tmp_path / "project"
    work.mkdir()
    shutil.move(folder, work / "data")
    for arguments in (["init", "--no-scm", "-q"], ["add", "-q", "data"]):
        subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=work, check=True)
    recorded = (work / "data.dvc").read_text()
    assert f"md5: {data_version(work / 'data')}\n" in recorded
