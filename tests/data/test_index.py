import resource
import time

import numpy as np
import pytest
from PIL import Image

from tests.data import s3_server
from tests.data.bigset import encoded, picture, write_shards, write_tar
from tudsr.data.index import Names, build_index, ensure_index, load_index, save_index
from tudsr.data.sets import photographs_of, set_version, training_photos, training_sample
from tudsr.data.sources import StoredFile, list_sources
from tudsr.errors import DataError
from tudsr.profile import DataSettings


def test_names_are_packed_and_come_back():
    words = ["", "a", "über/x.png", "", "z" * 300]
    packed = Names.of(words)
    assert [packed[i] for i in range(5)] == words
    assert Names.of([]).text.size == 0


def test_shards_and_loose_pictures_are_one_numbered_set(tmp_path):
    write_shards(tmp_path / "lsdir", 3, 4)
    (tmp_path / "ffhq" / "0").mkdir(parents=True)
    for number in (12, 13):
        (tmp_path / "ffhq" / "0" / f"{number:05d}.png").write_bytes(picture(number))
    index = load_index(ensure_index([str(tmp_path / "lsdir"), str(tmp_path / "ffhq")]))
    assert len(index) == 14
    assert [index[i].read() for i in range(14)] == [picture(i) for i in range(14)]
    assert index[5].label == "0001.tar/00005.png"
    assert index[13].label == "0/00013.png"


def test_an_index_is_built_once_for_each_state_of_the_set(tmp_path, monkeypatch):
    shards = write_shards(tmp_path / "set", 2, 3)
    path = ensure_index([str(shards)])
    before = path.stat().st_mtime_ns
    monkeypatch.setattr("tudsr.data.index.build_index", None)  # a call would fail
    assert ensure_index([str(shards)]) == path
    assert path.stat().st_mtime_ns == before


def test_a_changed_set_gets_an_index_of_its_own_and_is_not_the_validated_one(tmp_path):
    shards = write_shards(tmp_path / "set", 2, 3)
    path = ensure_index([str(shards)])
    version = load_index(path).version
    write_tar(shards / "0002.tar", {"x.png": picture(6)})
    other = ensure_index([str(shards)])
    assert other != path
    assert len(load_index(other)) == 7
    with pytest.raises(DataError, match="changed since it was validated"):
        ensure_index([str(shards)], version)


def test_the_same_index_is_the_same_bytes(tmp_path):
    files = list_sources([str(write_shards(tmp_path / "set", 2, 3))])
    for name in ("a", "b"):
        save_index(build_index(["set"], files), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_one_unreadable_shard_stops_with_its_name(tmp_path):
    shards = write_shards(tmp_path / "set", 3, 2)
    bad = shards / "0001.tar"
    bad.write_bytes(bad.read_bytes()[:1500])
    with pytest.raises(DataError, match=r"shard .*0001\.tar is not a whole tar"):
        ensure_index([str(shards)])
    assert not list(tmp_path.rglob("*.safetensors"))


def test_tars_without_pictures_and_broken_indices_are_refused(tmp_path):
    write_tar(tmp_path / "set" / "x.tar", {"a.txt": b"1"})
    with pytest.raises(DataError, match="hold no pictures"):
        ensure_index([str(tmp_path / "set")])
    (tmp_path / "x.index.safetensors").write_bytes(b"broken")
    with pytest.raises(DataError, match="remove it"):
        load_index(tmp_path / "x.index.safetensors")


def test_a_bucket_is_indexed_by_headers_alone(tmp_path, monkeypatch):
    big = encoded(Image.effect_noise((256, 256), 80).convert("RGB"))
    members = {f"{n}.png": big for n in range(6)}
    with s3_server.bucket(tmp_path / "s3", monkeypatch) as (folder, requests):
        path = write_tar(folder / "lsdir" / "0.tar", members)
        index = load_index(ensure_index(["s3://sets/lsdir/*.tar"]))
        ranges = [r.removeprefix("bytes=").split("-") for _, _, r in requests if r]
        assert len(index) == 6
        assert sum(int(b) - int(a) + 1 for a, b in ranges) < 0.2 * path.stat().st_size
        assert index[4].read() == big


def test_a_profile_without_big_sets_trains_on_its_folder(folder):
    settings = DataSettings(root=str(folder))
    assert training_sample(settings) == []
    assert [p.name for p in training_photos(settings)] == [f"photo{i}.png" for i in range(3)]
    assert len(photographs_of(settings)) == 7
    assert set_version(settings).endswith(".dir")


def test_a_profile_with_big_sets_trains_on_them_alone(folder, tmp_path):
    shards = write_shards(tmp_path / "set", 2, 5)
    settings = DataSettings(root=str(folder), train_sources=(str(shards),), sample=4)
    assert {p.split for p in photographs_of(settings)} == {"val", "test"}
    assert [p.label[-9:] for p in training_sample(settings)] == [
        "00000.png", "00003.png", "00006.png", "00009.png",
    ]  # fmt: skip
    (path,) = training_photos(settings)
    assert len(load_index(path)) == 10
    before = set_version(settings)
    write_tar(shards / "0002.tar", {"x.png": picture(6)})
    assert set_version(settings) != before
    assert set_version(settings).split("+")[0] == before.split("+")[0]


def test_eighty_five_thousand_pictures_are_listed_in_little_memory(tmp_path):
    """Names alone: what is measured is the index, not the disk."""
    files = [
        StoredFile(0, f"{n // 1000:03d}/{n:06d}.png", "", 1_700_000, "0") for n in range(85_000)
    ]
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    index = build_index(["set"], files)
    path = tmp_path / "x.index.safetensors"
    save_index(index, path)
    assert len(load_index(path)) == 85_000
    assert load_index(path)[84_999].label == "084/084999.png"
    assert path.stat().st_size < 85_000 * 60
    assert time.perf_counter() - started < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150 * 1024
    assert np.all(index.size == 1_700_000)
