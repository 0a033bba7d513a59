"""Fixtures of the tests of remote files: an object store with the project of two experiments."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from .servers import KEYS, Faults, object_store, proxy, upload


@pytest.fixture(scope="session")
def store_address(data_folder: Path) -> Generator[str]:
    """The address of an object store, with the data of two experiments in the bucket ``project``."""
    with object_store() as address:
        upload(data_folder, address, "project")
        yield address


@pytest.fixture
def faults() -> Faults:
    """What the proxy of a test disturbs: nothing, until the test says so."""
    return Faults()


@pytest.fixture
def bucket(store_address: str, faults: Faults, monkeypatch: pytest.MonkeyPatch) -> Generator[str]:
    """The URL of the bucket; its requests go through a proxy, so that a test can count and disturb them."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with proxy(store_address, faults) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        yield "s3://project"
