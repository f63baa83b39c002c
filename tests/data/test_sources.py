import os
import shutil

import pytest

from tests.data import s3_server
from tests.data.bigset import picture, write_shards, write_tar
from tudsr.data.sources import list_sources, read_range, root_of, sources_version
from tudsr.errors import DataError


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    with s3_server.bucket(tmp_path / "s3", monkeypatch) as served:
        yield served


def names(*sources):
    return [file.name for file in list_sources(sources)]


def test_pictures_and_shards_are_found_below_and_by_name(tmp_path):
    for name in ("b/2.PNG", "b/1.jpg", "a.webp", "notes.txt", ".hidden.png", "c/x.tar", "d.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert names(str(tmp_path)) == ["a.webp", "b/1.jpg", "b/2.PNG", "c/x.tar"]
    assert names(f"{tmp_path}/*/*.jpg") == ["b/1.jpg"]
    assert names(f"{tmp_path}/[bc]") == ["b/1.jpg", "b/2.PNG", "c/x.tar"]
    assert names(f"{tmp_path}/c/x.tar") == ["x.tar"]
    two = list_sources([f"{tmp_path}/b", f"{tmp_path}/c"])
    assert [(file.source, file.name) for file in two] == [(0, "1.jpg"), (0, "2.PNG"), (1, "x.tar")]
    assert [read_range(file.url, 0, 1) for file in two] == [b"x"] * 3


@pytest.mark.parametrize(
    ("source", "root"),
    [
        ("data/lsdir", "data/lsdir"),
        ("data/lsdir/", "data/lsdir"),
        ("data/0*/x?.tar", "data"),
        ("s3://b/p/one.tar", "s3://b/p"),
        ("s3://b/p/*.tar", "s3://b/p"),
        ("*.tar", "."),
    ],
)
def test_names_are_relative_to_the_folder_before_any_pattern(source, root):
    assert root_of(source) == root


def test_a_relative_source_is_read_from_the_working_folder(tmp_path, monkeypatch):
    write_shards(tmp_path / "sets", 1, 1)
    monkeypatch.chdir(tmp_path)
    (file,) = list_sources(["sets"])
    assert file.url == "sets/0000.tar"
    assert read_range(file.url, 0, 9) == b"00000.png"
    assert [f.name for f in list_sources(["sets/*.tar"])] == ["0000.tar"]


def test_the_version_changes_with_names_sizes_and_times_alone(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / "one" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "one" / name).write_bytes(b"12")
    version = sources_version(list_sources([str(tmp_path / "one")]))
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert sources_version(list_sources([str(tmp_path / "two")])) == version
    changed = {version}
    os.utime(tmp_path / "two" / "a.png", (1, 1))
    changed.add(sources_version(list_sources([str(tmp_path / "two")])))
    (tmp_path / "two" / "b.png").write_bytes(b"123")
    changed.add(sources_version(list_sources([str(tmp_path / "two")])))
    (tmp_path / "two" / "b.png").rename(tmp_path / "two" / "c.png")
    changed.add(sources_version(list_sources([str(tmp_path / "two")])))
    assert len(changed) == 4


def test_what_cannot_be_a_source_is_refused_with_a_remedy(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no pictures and no \.tar shards"):
        list_sources([str(tmp_path / "empty")])
    with pytest.raises(DataError, match=r"data\.train_sources"):
        list_sources([str(tmp_path / "nowhere")])
    with pytest.raises(DataError, match="not https://"):
        list_sources(["https://example.org/lsdir"])
    (tmp_path / "empty" / "x.tar.gz").write_bytes(b"")
    with pytest.raises(DataError, match="unpack it"):
        list_sources([str(tmp_path / "empty")])


def test_a_file_that_is_shorter_than_it_was_is_named(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"12345")
    assert read_range(str(tmp_path / "x.tar"), 1, 4) == b"2345"
    with pytest.raises(DataError, match=r"x\.tar ends at byte 5, before byte 9"):
        read_range(str(tmp_path / "x.tar"), 1, 8)
    with pytest.raises(DataError, match=r"gone\.tar cannot be read"):
        read_range(str(tmp_path / "gone.tar"), 0, 1)


def test_a_bucket_is_listed_and_read_by_range(bucket):
    folder, requests = bucket
    write_tar(folder / "lsdir" / "0.tar", {"0.png": picture(0)})
    (folder / "lsdir" / "more").mkdir()
    (folder / "lsdir" / "more" / "1.png").write_bytes(picture(1))
    (folder / "other.png").write_bytes(b"not below the prefix")
    files = list_sources(["s3://sets/lsdir"])
    assert [file.url for file in files] == ["s3://sets/lsdir/0.tar", "s3://sets/lsdir/more/1.png"]
    assert names("s3://sets/lsdir/*.tar") == ["0.tar"]
    whole = (folder / "lsdir" / "0.tar").read_bytes()
    requests.clear()
    assert read_range(files[0].url, 512, 100) == whole[512:612]
    assert ("GET", "/sets/lsdir/0.tar", "bytes=512-611") in requests
    before = sources_version(files)
    (folder / "lsdir" / "more" / "1.png").write_bytes(picture(2))
    assert files[1].size == len(picture(2))
    assert sources_version(list_sources(["s3://sets/lsdir"])) != before


def test_what_is_missing_in_a_bucket_is_named(bucket):
    for source in ("s3://nowhere/lsdir", "s3://sets/nothing"):
        with pytest.raises(DataError, match=source):
            list_sources([source])
    with pytest.raises(DataError, match=r"s3://sets/gone\.tar .*AWS_ENDPOINT_URL"):
        read_range("s3://sets/gone.tar", 0, 10)
