import io
import json
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import numpy as np
import pytest
from PIL import Image

from tests.conftest import scene
from tests.data.bigset import encoded, number_of, picture, write_shards, write_tar
from tudsr.data.index import ensure_index
from tudsr.data.pictures import HeldPictures, StoredPictures, open_pictures
from tudsr.data.skipped import SkipLog
from tudsr.errors import DataError
from tudsr.profile import CropSettings, DataSettings

RNG = np.random.default_rng(0)


def opened(folder, crop_px=40, seed=0, max_bad_share=0.5):
    data = DataSettings(max_bad_share=max_bad_share)
    return StoredPictures(ensure_index([str(folder)]), crop_px, seed, data)


def numbers(pictures, places):
    return [number_of(pictures.picture(place, RNG)) for place in places]


def test_each_epoch_shows_each_picture_once_in_an_order_of_its_own(tmp_path):
    pictures = opened(write_shards(tmp_path / "set", 3, 10))
    shown = numbers(pictures, range(90))
    epochs = [shown[:30], shown[30:60], shown[60:]]
    assert all(sorted(epoch) == list(range(30)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_place_is_a_picture_whoever_asks_and_when(tmp_path):
    folder = write_shards(tmp_path / "set", 3, 10)
    whole = numbers(opened(folder), range(70))
    assert numbers(opened(folder), reversed(range(70))) == whole[::-1]
    assert numbers(opened(folder), range(37, 70)) == whole[37:]
    by_rank = [numbers(opened(folder), range(rank, 70, 4)) for rank in range(4)]
    assert sorted(chain(*by_rank)) == sorted(whole)
    assert all(by_rank[rank] == whole[rank::4] for rank in range(4))
    assert numbers(opened(folder, seed=1), range(30)) != whole[:30]


def test_only_sources_of_the_named_pattern_are_reduced_to_the_crop(tmp_path):
    for name in ("lsdir", "FFHQ"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (96, 80)).save(tmp_path / name / "0.png")
    index = ensure_index([str(tmp_path / "lsdir"), str(tmp_path / "FFHQ")])
    for patterns, sizes in ((("*ffhq*",), {(96, 80), (48, 40)}), ((), {(96, 80)})):
        crops = CropSettings(resize_sources=patterns)
        pictures = StoredPictures(index, 40, 0, DataSettings(crops=crops))
        assert {pictures.picture(place, RNG).size for place in range(2)} == sizes


def broken(data, how):
    return {
        "cut": data[: len(data) // 2],
        "text": b"not a picture",
        "empty": b"",
        "bits": data[:60] + b"\xff" * 40 + data[100:],
        "cmyk": encoded(Image.new("CMYK", (64, 64)), "JPEG"),
        "tiny": picture(0, (19, 64)),
        "bomb": encoded(Image.new("1", (20_000, 6_000))),
    }[how]


@pytest.mark.parametrize("how", ["cut", "text", "empty", "bits", "cmyk", "tiny", "bomb"])
def test_an_unusable_picture_gives_its_place_to_the_next_and_is_named(tmp_path, how):
    whole = numbers(opened(write_shards(tmp_path / "whole", 2, 5)), range(21))
    members = {f"{n:05d}.png": picture(n) for n in range(10)}
    members["00007.png"] = broken(encoded(Image.fromarray(scene(7, 64))), how)
    halves = [dict(list(members.items())[:5]), dict(list(members.items())[5:])]
    for number, half in enumerate(halves):
        write_tar(tmp_path / "set" / f"{number:04d}.tar", half)
    pictures = opened(tmp_path / "set")
    expected = [whole[i + 1] if whole[i] == 7 else whole[i] for i in range(20)]
    assert numbers(pictures, range(20)) == expected
    assert pictures.figures() == {"pictures": 10, "pictures_skipped": 1}
    (line,) = pictures.log.path.read_text().splitlines()
    row = json.loads(line)
    assert row["picture"] == "0001.tar/00007.png"
    assert row["reason"] and "00007" not in row["reason"]


def test_too_many_unusable_pictures_are_an_error_that_names_the_share(tmp_path):
    members = {f"{n}.png": picture(n) if n % 2 else b"broken" for n in range(10)}
    write_tar(tmp_path / "set" / "0.tar", members)
    assert len(numbers(opened(tmp_path / "set", max_bad_share=0.5), range(10))) == 10
    for log in (tmp_path / "outputs").rglob("*.jsonl"):
        log.unlink()
    with pytest.raises(DataError, match=r"5 of 10 pictures .*data\.max_bad_share = 0\.4"):
        numbers(opened(tmp_path / "set", max_bad_share=0.4), range(10))


def test_a_set_of_rubbish_ends_with_an_error_even_where_all_may_be_bad(tmp_path):
    write_tar(tmp_path / "set" / "0.tar", {f"{n}.png": b"broken" for n in range(5)})
    with pytest.raises(DataError, match="none of the 5 pictures"):
        numbers(opened(tmp_path / "set", max_bad_share=1.0), [0])


def test_a_shard_that_goes_missing_or_shrinks_stops_instead_of_being_skipped(tmp_path):
    folder = write_shards(tmp_path / "set", 1, 4)
    pictures, shard = opened(folder), folder / "0000.tar"
    data = shard.read_bytes()
    shard.write_bytes(data[:700])
    with pytest.raises(DataError, match=r"0000\.tar ends at byte"):
        numbers(pictures, range(4))
    shard.unlink()
    with pytest.raises(DataError, match=r"0000\.tar cannot be read"):
        numbers(pictures, range(4))
    assert pictures.figures()["pictures_skipped"] == 0


def test_a_picture_a_little_smaller_than_a_crop_is_mirrored_at_its_edges(tmp_path):
    photo = scene(3, 64)
    write_tar(tmp_path / "set" / "0.tar", {"0.png": encoded(Image.fromarray(photo[:, :50]))})
    found = np.asarray(opened(tmp_path / "set", crop_px=64).picture(0, RNG))
    assert found.shape == (64, 64, 3)
    np.testing.assert_array_equal(found[:, :50], photo[:, :50])
    np.testing.assert_array_equal(found[:, 50:], photo[:, 48:34:-1])


def test_a_camera_that_was_turned_is_turned_back(tmp_path):
    stream, exif = io.BytesIO(), Image.Exif()
    exif[274] = 6
    Image.new("RGB", (60, 44)).save(stream, "JPEG", exif=exif)
    write_tar(tmp_path / "set" / "0.tar", {"0.jpg": stream.getvalue()})
    assert opened(tmp_path / "set").picture(0, RNG).size == (44, 60)


def test_a_list_of_photographs_is_held_in_memory(photos):
    held = open_pictures(photos, 64, 0, DataSettings())
    assert isinstance(held, HeldPictures)
    assert held.figures() == {}
    drawn = {held.picture(i, np.random.default_rng(i)).tobytes() for i in range(40)}
    assert len(drawn) == 4
    with pytest.raises(DataError, match="a crop needs 1000"):
        open_pictures(photos, 1000, 0, DataSettings())


def test_the_skip_log_counts_each_picture_once_whoever_writes(tmp_path):
    logs = [SkipLog(tmp_path / "x.jsonl", 1000, 1.0) for _ in range(8)]

    def write(worker):
        for number in range(50):
            logs[worker].add(f"{number}.png", "broken")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert set(logs[0].read()) == {f"{n}.png" for n in range(50)}
    with (tmp_path / "x.jsonl").open("a") as file:
        file.write('{"picture": "cut')
    assert len(logs[0].read()) == 50
