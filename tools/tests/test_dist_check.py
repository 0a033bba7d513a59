"""Dist check: a distribution that must not be released is reported."""

import tarfile
import tomllib
import zipfile
from email.message import Message
from io import BytesIO
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from dist_check import PACKAGES, check_files, check_metadata

ROOT = Path(__file__).parents[2]
VERSION = "0.2.0+g1a2b3c4d5"
SIBLING = f"viscy-data=={VERSION}"


def make_metadata(package, *, version=VERSION, requires=("numpy>=1.26", SIBLING), **changes):
    """Return metadata without problems, but for the changes; None leaves a field out."""
    metadata = Message()
    fields = {
        "Name": package,
        "Version": version,
        "Author": "viscy-sampling contributors",
        "License-Expression": "BSD-3-Clause",
        "License-File": "LICENSE",
        "Classifier": "Typing :: Typed",
        "Requires-Python": ">=3.12",
        "Description-Content-Type": "text/markdown",
    }
    for name, value in {**fields, **changes}.items():
        if value is not None:
            metadata[name] = value
    for requirement in requires:
        metadata["Requires-Dist"] = requirement
    metadata.set_payload(f"# {package}\n\nA description.\n")
    return metadata


def write_distributions(folder, *, left_out=(), **changes):
    """Write a wheel and a source distribution of each package, and the sources; `changes` is metadata by module."""
    for package in PACKAGES:
        module = package.replace("-", "_")
        source = folder / "packages" / package / "src" / module
        source.mkdir(parents=True)
        metadata = changes.get(module, make_metadata(package))
        version, text = metadata["Version"], metadata.as_string().encode()
        files = {
            f"{module}/py.typed": b"",
            f"{module}/core.py": b"",
            f"{module}/napari.yaml": b"",
            f"{module}-{version}.dist-info/METADATA": text,
            f"{module}-{version}.dist-info/licenses/LICENSE": b"",
        }
        (source / "core.py").touch()
        (source / "napari.yaml").touch()
        (source / "py.typed").touch()
        with zipfile.ZipFile(folder / f"{module}-{version}-py3-none-any.whl", "w") as wheel:
            for name in files.keys() - left_out:
                wheel.writestr(name, files[name])
        with tarfile.open(folder / f"{module}-{version}.tar.gz", "w:gz") as archive:
            info = tarfile.TarInfo(f"{module}-{version}/PKG-INFO")
            info.size = len(text)
            archive.addfile(info, BytesIO(text))
    return folder


def problems_of(folder):
    return check_files(folder, folder / "packages")


def test_distributions_that_may_be_released_have_no_problem(tmp_path):
    assert problems_of(write_distributions(tmp_path)) == []


@pytest.mark.parametrize("requirement", ["viscy-data", "viscy-data>=0.2", "viscy-data==0.2.0", "viscy-data==0.2.*"])
def test_a_sibling_that_is_not_required_by_its_exact_version_is_reported(requirement):
    (problem,) = check_metadata(make_metadata("viscy-train", requires=[requirement]))
    assert problem.startswith(f"viscy-data must be required as =={VERSION}, got ")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"Author": None}, "Author must be 'viscy-sampling contributors', got None"),
        ({"License-Expression": "MIT"}, "License-Expression must be 'BSD-3-Clause', got 'MIT'"),
        ({"License-File": None}, "License-File must be 'LICENSE', got None"),
        ({"Requires-Python": ">=3.10"}, "Requires-Python must be '>=3.12', got '>=3.10'"),
        ({"Classifier": None}, "the classifiers must have 'Typing :: Typed'"),
        ({"Name": "viscy"}, "the description must be the README of the package"),
    ],
)
def test_metadata_that_is_wrong_is_reported(changes, problem):
    metadata = make_metadata("viscy-train", **{name: value for name, value in changes.items() if name != "Name"})
    if "Name" in changes:
        metadata.replace_header("Name", changes["Name"])
    assert check_metadata(metadata) == [problem]


@pytest.mark.parametrize(
    ("left_out", "problem"),
    [
        ("viscy_data/core.py", "viscy_data/core.py is missing"),
        ("viscy_data/napari.yaml", "viscy_data/napari.yaml is missing"),
        (f"viscy_data-{VERSION}.dist-info/licenses/LICENSE", "the license is missing"),
    ],
)
def test_a_file_that_a_wheel_lacks_is_reported(tmp_path, left_out, problem):
    write_distributions(tmp_path, left_out={left_out})
    assert problems_of(tmp_path) == [f"viscy_data-{VERSION}-py3-none-any.whl: {problem}"]


def test_packages_of_different_versions_are_reported(tmp_path):
    write_distributions(tmp_path, viscy_data=make_metadata("viscy-data", version="0.3.0", requires=()))
    assert problems_of(tmp_path) == [f"all packages must have one version, got {VERSION}, 0.3.0"]


def test_a_second_or_a_missing_distribution_is_reported(tmp_path):
    write_distributions(tmp_path)
    (tmp_path / "viscy_data-0.1.0.tar.gz").touch()
    (tmp_path / f"viscy_train-{VERSION}-py3-none-any.whl").unlink()
    assert problems_of(tmp_path) == [
        "viscy-data must have 1 wheel and 1 source distribution, got 1, 2",
        "viscy-train must have 1 wheel and 1 source distribution, got 0, 1",
    ]


def read_project(package):
    return tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text())


def test_all_packages_have_one_version_that_always_ends_in_the_commit():
    tools = [read_project(package)["tool"] for package in PACKAGES]
    versioning = tools[0]["uv-dynamic-versioning"]
    assert versioning["metadata"]
    assert "+" in versioning["fallback-version"]
    for tool in tools:
        assert tool["uv-dynamic-versioning"] == versioning
        assert tool["uv"] == tools[0]["uv"]


def test_no_version_on_a_public_index_is_that_of_a_sibling():
    """A version without a commit does not match one with a commit, whoever uploads it."""
    hooks = read_project("viscy-train")["tool"]["hatch"]["metadata"]["hooks"]
    dependencies = hooks["uv-dynamic-versioning"]["dependencies"]
    (sibling,) = (text for text in dependencies if text.startswith("viscy-"))
    requirement = Requirement(sibling.replace("{{ version }}", VERSION))
    assert not requirement.specifier.contains("0.2.0")
    assert requirement.specifier.contains(VERSION)
