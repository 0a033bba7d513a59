"""Embeddings in two dimensions."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.decomposition import PCA

from viscy_train.errors import UserError
from viscy_train.evaluation import projection
from viscy_train.evaluation.projection import principal_components, project


def test_principal_components_are_those_of_scikit_learn_up_to_their_signs():
    embeddings = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32) * np.arange(1, 9)
    ours, theirs = principal_components(embeddings), PCA(2).fit(embeddings)
    assert np.abs(ours.points) == pytest.approx(np.abs(theirs.transform(embeddings)), abs=1e-3)
    first, second = theirs.explained_variance_ratio_
    assert ours.axes == (f"PC 1 ({first:.0%} of the variance)", f"PC 2 ({second:.0%})")


@pytest.mark.parametrize("embeddings", [np.ones((5, 3)), np.arange(4.0)[:, None], np.ones((1, 2))])
def test_embeddings_without_two_directions_have_two_components(embeddings):
    found = principal_components(embeddings)
    assert found.points.shape == (len(embeddings), 2)
    assert np.isfinite(found.points).all()


def test_umap_that_is_not_installed_is_refused_with_how_to_install_it(monkeypatch):
    monkeypatch.setattr(projection, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"needs the package umap-learn; install viscy-train\[umap\]"):
        project(np.ones((5, 3)), "umap", 0)


@pytest.mark.parametrize(("n", "neighbors"), [(100, 15), (5, 4), (2, 2)])
def test_umap_gets_the_seed_and_no_more_neighbors_than_there_are(monkeypatch, n, neighbors):
    """The package itself is large, so a stand-in takes its place."""
    options = {}

    class Reducer:
        def __init__(self, **given):
            options.update(given)

        def fit_transform(self, embeddings):
            return embeddings[:, :2] + 1

    monkeypatch.setattr(projection, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Reducer))
    found = project(np.zeros((n, 3)), "umap", 7)
    assert found.axes == ("UMAP 1", "UMAP 2")
    assert (found.points == 1).all()
    assert options == {"n_neighbors": neighbors, "metric": "cosine", "random_state": 7, "n_jobs": 1}
