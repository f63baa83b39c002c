import io
import tarfile

import pytest

from tests.data.bigset import picture, write_tar
from tudsr.data.shards import scan_shard
from tudsr.data.sources import list_sources
from tudsr.errors import DataError

FORMATS = [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT]


def scan(path):
    (file,) = list_sources([str(path)])
    return scan_shard(file)


@pytest.mark.parametrize("form", FORMATS)
def test_every_picture_is_found_where_tarfile_reads_it(tmp_path, form):
    long = "folder/" * (20 if form != tarfile.USTAR_FORMAT else 8) + "long.jpg"
    members = {
        "a.png": picture(1),
        "b.json": b"{}",
        long: picture(2),
        "c/._d.png": b"mac",
        "e.PNG": b"",
    }
    path = write_tar(tmp_path / "x.tar", members, form)
    found = scan(path)
    assert [m.name for m in found] == ["a.png", long, "e.PNG"]
    data = path.read_bytes()
    for member in found:
        assert data[member.offset : member.offset + member.size] == members[member.name]


def test_links_and_folders_are_no_pictures(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, kind in (("d.png", tarfile.DIRTYPE), ("l.png", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "elsewhere"
            tar.addfile(info)
        info = tarfile.TarInfo("a.png")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    assert [m.name for m in scan(tmp_path / "x.tar")] == ["a.png"]


def test_a_tar_cut_anywhere_is_refused_by_name(tmp_path):
    """Also at a border between members, which tarfile itself takes for the end."""
    path = write_tar(tmp_path / "whole.tar", {f"{n}.png": picture(n) for n in range(3)})
    data = path.read_bytes()
    content = len(data.rstrip(b"\0"))
    cuts = [0, 100, 512, 600, 1024, content - 600, content // 512 * 512 + 512]
    for cut in cuts:
        short = tmp_path / f"cut{cut}.tar"
        short.write_bytes(data[:cut])
        with pytest.raises(DataError, match=rf"shard .*cut{cut}\.tar is not a whole tar.*again"):
            scan(short)


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path):
    path = write_tar(tmp_path / "x.tar", {f"{n}.png": picture(n) for n in range(3)})
    data = bytearray(path.read_bytes())
    second = data.find(b"1.png")
    data[second : second + 100] = b"\xff" * 100
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"no header at byte {second}"):
        scan(path)


def test_something_else_under_the_name_is_refused(tmp_path):
    (tmp_path / "x.tar").write_bytes(picture(0) * 20)
    with pytest.raises(DataError, match="not a whole tar"):
        scan(tmp_path / "x.tar")
