"""Dist check: reports what is wrong with built distributions, and uses those that are installed.

`make test-dist` runs it with the Python of an environment that holds the wheels and their dependencies and nothing
else.
"""

import argparse
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from email.message import Message
from email.parser import Parser
from importlib import import_module
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

PACKAGES = ("viscy-data", "viscy-sampling-testkit", "viscy-train")
# The examples of a sampler, and of the conformance suite with a table to check it on.
_SAMPLER = "README.md"
_CONFORMANCE = "packages/viscy-sampling-testkit/README.md"
# What a package needs at run time: its code, the marker of its types, templates, the plugin of napari and arms.
_FILES = (".py", ".typed", ".j2", ".yaml")
_TABLE = "from viscy_sampling_testkit import make_anchors\nanchors = make_anchors(400)\n"


def check_files(folder: Path, sources: Path) -> list[str]:
    """Return one line for each problem of the wheels and source distributions in a folder.

    Parameters
    ----------
    folder : Path
        What `make dist` wrote.
    sources : Path
        The folder of the packages, whose files the wheels must contain.
    """
    problems, versions = [], set()
    for package in PACKAGES:
        stem = package.replace("-", "_")
        wheels, archives = sorted(folder.glob(f"{stem}-*.whl")), sorted(folder.glob(f"{stem}-*.tar.gz"))
        if (len(wheels), len(archives)) != (1, 1):
            problems.append(
                f"{package} must have 1 wheel and 1 source distribution, got {len(wheels)}, {len(archives)}"
            )
            continue
        metadata, names = _read_wheel(wheels[0])
        of_archive = _read_archive(archives[0])
        if of_archive.items() != metadata.items():
            problems.append(f"{archives[0].name} must have the metadata of {wheels[0].name}")
        versions.add(metadata["Version"])
        found = check_metadata(metadata) + check_names(names, sources / package / "src")
        problems += [f"{wheels[0].name}: {problem}" for problem in found]
    if len(versions) > 1:
        problems.append(f"all packages must have one version, got {', '.join(sorted(versions))}")
    return problems


def check_metadata(metadata: Message) -> list[str]:
    """Return one line for each problem of the metadata of a wheel."""
    version, problems = Version(metadata["Version"]), []
    for text in metadata.get_all("Requires-Dist") or []:
        requirement = Requirement(text)
        if requirement.name in PACKAGES and str(requirement.specifier) != f"=={version}":
            problems.append(f"{requirement.name} must be required as =={version}, got {str(requirement.specifier)!r}")
    expected = {
        "Author": "viscy-sampling contributors",
        "License-Expression": "BSD-3-Clause",
        "License-File": "LICENSE",
        "Description-Content-Type": "text/markdown",
        "Requires-Python": ">=3.12",
    }
    for field, value in expected.items():
        if metadata[field] != value:
            problems.append(f"{field} must be {value!r}, got {metadata[field]!r}")
    if "Typing :: Typed" not in (metadata.get_all("Classifier") or []):
        problems.append("the classifiers must have 'Typing :: Typed'")
    if not str(metadata.get_payload()).startswith(f"# {metadata['Name']}\n"):
        problems.append("the description must be the README of the package")
    return problems


def check_names(names: set[str], source: Path) -> list[str]:
    """Return one line for each file of a package, or its license, that is not among the files of its wheel."""
    files = {str(path.relative_to(source)) for path in source.rglob("*") if path.suffix in _FILES}
    problems = [f"{name} is missing" for name in sorted(files - names)]
    if not any(name.endswith("/py.typed") for name in names):
        problems.append("py.typed is missing")
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in names):
        problems.append("the license is missing")
    return problems


def check_installed(folder: Path) -> list[str]:
    """Return one line for each package that is not installed in this environment from a wheel in `folder`."""
    problems = []
    for package in PACKAGES:
        module, installed = import_module(package.replace("-", "_")), distribution(package)
        if not Path(str(module.__file__)).is_relative_to(sys.prefix):
            problems.append(f"{package} must be imported from {sys.prefix}, got {module.__file__}")
        if module.__version__ != installed.version:
            problems.append(f"{package}: __version__ must be {installed.version}, got {module.__version__}")
        wheel = folder / f"{package.replace('-', '_')}-{installed.version}-py3-none-any.whl"
        record = set((installed.read_text("RECORD") or "").splitlines())
        if not wheel.exists() or not _record(wheel) <= record:
            problems.append(f"{package} {installed.version} must be installed from {folder}")
    return problems


def use_installed(root: Path) -> None:
    """Run the example of a sampler, that of the conformance suite and the demo, in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        for name, before in ((_SAMPLER, ""), (_CONFORMANCE, _TABLE)):
            # Both start no processes, so they need no file to import from.
            subprocess.run([sys.executable, "-c", before + _last_example(root / name)], cwd=folder, check=True)
            print(f"{name}: its example runs")
        command = Path(sys.executable).with_name("viscy-train")
        subprocess.run([command, "demo", "--out", "demo"], cwd=folder, check=True)
        if not (Path(folder) / "demo" / "run" / "report.html").stat().st_size:
            raise RuntimeError("the demo must write a report")


def _read_wheel(path: Path) -> tuple[Message, set[str]]:
    """Return the metadata of a wheel and the names of its files."""
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        (name,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(wheel.read(name).decode()), names


def _read_archive(path: Path) -> Message:
    """Return the metadata of a source distribution."""
    with tarfile.open(path) as archive:
        file = archive.extractfile(f"{path.name.removesuffix('.tar.gz')}/PKG-INFO")
        assert file is not None
        return Parser().parsestr(file.read().decode())


def _record(path: Path) -> set[str]:
    """Return the lines of a wheel's record that have a hash; the installed package has them, too."""
    with zipfile.ZipFile(path) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/RECORD"))
        return {line for line in wheel.read(name).decode().splitlines() if "sha256=" in line}


def _last_example(page: Path) -> str:
    """Return the last block of Python on a page."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)[-1]


def main() -> int:
    """Check the distributions in a folder, then those installed in this environment."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of wheels and source distributions")
    folder, root = parser.parse_args().folder.resolve(), Path(__file__).resolve().parents[1]
    problems = check_files(folder, root / "packages") + check_installed(folder)
    print(*problems, sep="\n", end="\n" if problems else "")
    if problems:
        return 1
    use_installed(root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
