import numpy as np
import pandas as pd

from viscy_train.viewer.features import as_numbers, principal_components, track_features

OBSERVATIONS = pd.DataFrame(
    {
        "experiment": pd.Categorical(["a", "a", "a"]),
        "track_id": [4, 4, 4],
        "t": [0, 1, 2],
        "condition": pd.Categorical(["mock", "mock", "mock"]),
        "hours_post_infection": [3.0, 3.5, 4.0],
        "state": pd.Categorical(["round", None, "flat"]),
        "dose": [0.5, np.nan, 1.5],
        "is_alive": [True, True, False],
        "temperature": [37.0, 37.0, 37.0],
    }
)


def test_text_becomes_the_number_of_its_value_and_missing_values_are_lowest():
    assert as_numbers(OBSERVATIONS["state"]).tolist() == [1.0, -0.1, 0.0]
    assert as_numbers(OBSERVATIONS["dose"]).tolist() == [0.5, 0.4, 1.5]
    assert as_numbers(OBSERVATIONS["is_alive"]).tolist() == [1.0, 1.0, 0.0]
    assert as_numbers(pd.Series([None, None], dtype="category")).tolist() == [0.0, 0.0]


def test_columns_that_color_nothing_are_left_out():
    components = np.arange(6, dtype=np.float32).reshape(3, 2)
    features = track_features(OBSERVATIONS, components)
    own = ["track_id", "t", "condition", "hours_post_infection", "state", "dose", "is_alive"]
    assert list(features) == [*own, "embedding PC1", "embedding PC2"]
    assert features["embedding PC2"].tolist() == [1.0, 3.0, 5.0]
    assert set(features.dtypes) == {np.dtype(np.float64)}
    assert np.isfinite(features.to_numpy()).all()


def test_principal_components_are_those_of_most_variance_whatever_their_sign():
    rng = np.random.default_rng(0)
    scores = (rng.normal(size=(200, 3)) * [9.0, 3.0, 1.0]).astype(np.float32)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    found = principal_components(scores @ rotation.astype(np.float32) + 5, 2)
    assert found.shape == (200, 2)
    for k in range(2):
        assert abs(np.corrcoef(found[:, k], scores[:, k])[0, 1]) > 0.98
    assert principal_components(scores[:, :1]).shape == (200, 1)
