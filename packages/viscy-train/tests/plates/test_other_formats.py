import json
import shlex
import zipfile

import pytest

from viscy_train.errors import UserError
from viscy_train.plates.other_formats import advice_for
from viscy_train.plates.plate import open_plate


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("a.tif", "uvx --from 'ngff-zarr[cli]' ngff-zarr -i a.tif -o a.ome.zarr --ome-zarr-version 0.5"),
        ("a.ome.tiff", "uvx --from 'ngff-zarr[cli]' ngff-zarr -i a.ome.tiff -o a.ome.zarr --ome-zarr-version 0.5"),
        ("A.TIF", "ngff-zarr -i A.TIF -o A.ome.zarr"),
        ("a.czi", "uvx --from bioio-conversion --with bioio-czi bioio-convert a.czi --destination ."),
        ("a.nd2", "--with bioio-nd2 bioio-convert a.nd2"),
        ("a.lif", "--with bioio-lif bioio-convert a.lif"),
        ("a.ims", "for example with bioformats2raw"),
    ],
)
def test_a_file_of_a_microscope_is_refused_with_the_command_that_converts_it(tmp_path, name, command):
    (tmp_path / name).touch()
    with pytest.raises(
        UserError, match=rf"plate must be a directory, got a file: .*{name}; convert {name} to"
    ) as error:
        open_plate(tmp_path / name)
    assert command in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".czi", ".ozx"])
@pytest.mark.parametrize("name", ["a b", "day 1 (2)", "it's", "a;b", "$HOME", "-a", "&", "é*"])
def test_a_command_works_in_a_shell_whatever_the_name_of_the_file(tmp_path, name, suffix):
    (tmp_path / f"{name}{suffix}").touch()
    advice = advice_for(tmp_path / f"{name}{suffix}")
    assert advice is not None
    _, _, command = advice.partition(": ")
    words = shlex.split(command)
    read = f"./{name}{suffix}" if name.startswith("-") else f"{name}{suffix}"
    assert read in words
    if suffix != ".czi":
        written = f"{name}.ome.zarr"
        assert (f"./{written}" if name.startswith("-") else written) in words
    assert all(words)


@pytest.mark.parametrize("name", ["a.txt", "a", "a.png"])
def test_other_files_are_refused_without_advice(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(UserError, match=rf"plate must be a directory, got a file: .*{name}$"):
        open_plate(tmp_path / name)


@pytest.mark.parametrize("version", ["0.5", "0.6.dev1"])
def test_a_single_file_ome_zarr_is_refused_with_its_version(tmp_path, version):
    with zipfile.ZipFile(tmp_path / "a.ozx", "w") as archive:
        archive.comment = json.dumps({"ome": {"version": version}}).encode()
    with pytest.raises(
        UserError, match=rf"single-file OME-Zarr \(version {version} of OME-NGFF\) is not supported"
    ) as error:
        open_plate(tmp_path / "a.ozx")
    assert "ngff-zarr -i a.ozx -o a.ome.zarr --ome-zarr-version 0.5" in str(error.value)


@pytest.mark.parametrize("comment", [b"", b"{", b"[]", b'{"ome": 3}', b"\xff"])
def test_a_single_file_ome_zarr_without_version_is_refused(tmp_path, comment):
    with zipfile.ZipFile(tmp_path / "a.ozx", "w") as archive:
        archive.comment = comment
    assert "single-file OME-Zarr (unknown version)" in str(advice_for(tmp_path / "a.ozx"))
    (tmp_path / "b.ozx").write_bytes(b"no archive")
    assert "single-file OME-Zarr (unknown version)" in str(advice_for(tmp_path / "b.ozx"))


@pytest.mark.parametrize("name", ["a.zarr", "a.ome.zarr", "a"])
@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (
            b"II*\0\x08\0",
            r"a \.tif file; rename it to a\.tif, and convert a\.tif to OME-Zarr: .* -i a\.tif -o a\.ome\.zarr",
        ),
        (b"ZISRAWFILE\0", r"a \.czi file; rename it to a\.czi, and convert a\.czi to OME-Zarr: .*bioio-convert a\.czi"),
        (b"PK\x03\x04\x14", r"a \.zip file; rename it to a\.zip, and unpack an archive first"),
    ],
)
def test_a_file_with_the_name_of_something_else_is_recognized_by_its_content(tmp_path, name, content, advice):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"got a file: .*; its content is that of {advice}"):
        open_plate(tmp_path / name)
