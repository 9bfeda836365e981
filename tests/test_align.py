"""AlignNeurons and RowWise: the same columns for every recording, then any transformer."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA, FastICA
from sklearn.manifold import TSNE, Isomap
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from skneurovae.baselines import AlignNeurons, Pooled, RowWise
from skneurovae.recordings import Recording


def recording(names, n_timesteps=30, seed=0):
    rng = np.random.default_rng(seed)
    return Recording(rng.standard_normal((n_timesteps, len(names))), identities=np.array(names))


@parametrize_with_checks([AlignNeurons(), RowWise(PCA(1)), RowWise(PCA(1), fill="mean")])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_columns_are_those_of_the_training_set():
    one, two = recording(["a", "b", "c"]), recording(["c", "d", "a"], 20, seed=1)
    model = AlignNeurons().fit([one, two])
    assert list(model.get_feature_names_out()) == ["a", "b", "c", "d"]
    first, second = model.transform([one, two])
    np.testing.assert_array_equal(first[:, :3], one.traces)
    assert np.isnan(first[:, 3]).all()
    np.testing.assert_array_equal(second[:, [2, 3, 0]], two.traces)
    assert np.isnan(second[:, 1]).all()
    with pytest.warns(UserWarning, match="zz"):
        other = model.transform([recording(["zz", "d"])])[0]
    np.testing.assert_array_equal(np.isnan(other).all(0), [True, True, True, False])


def test_twins_are_averaged_over_what_is_observed():
    traces = np.array([[1.0, 3.0, 7.0], [np.nan, 3.0, 7.0], [np.nan, np.nan, 7.0]])
    twins = Recording(traces, identities=np.array(["a", "a", "b"]))
    table = AlignNeurons().fit_transform([twins])[0]
    np.testing.assert_array_equal(table, [[2.0, 7.0], [3.0, 7.0], [np.nan, 7.0]])


def test_output_has_the_form_and_dtype_of_the_input():
    X = np.random.default_rng(0).standard_normal((2, 10, 3)).astype(np.float32)
    model = AlignNeurons().fit(X)
    np.testing.assert_array_equal(model.transform(X), X)
    assert model.transform(X).dtype == np.float32
    assert isinstance(model.transform(list(X)), list)
    np.testing.assert_array_equal(model.transform(X[0]), X[0])
    masked = model.transform(X[0], mask=np.eye(10, 3, dtype=bool))
    assert np.isfinite(masked).sum() == 3


def test_back_to_the_columns_of_a_recording():
    one, two = recording(["a", "b"]), recording(["c", "a"], seed=1)
    model = AlignNeurons().fit([one, two])
    tables = model.transform([one, two])
    for own, back in zip([one, two], model.inverse_transform(tables, [one, two])):
        np.testing.assert_array_equal(back, own.traces)
    with pytest.raises(ValueError, match="Z must hold 2 tables of 3 columns; got 1"):
        model.inverse_transform(tables[:1], [one, two])


def test_errors_are_one_line():
    with pytest.raises(ValueError, match="give identities or session") as error:
        AlignNeurons().fit([np.ones((5, 3)), np.ones((5, 2))])
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="no neuron of recording 0 is known"):
        AlignNeurons().fit([recording(["a"])]).transform([recording(["b"])])


@pytest.mark.parametrize(
    "transformer", [PCA(2), FastICA(2, random_state=0), Isomap(n_neighbors=8, n_components=2)]
)
def test_a_row_wise_transformer_behind_alignment(transformer):
    names = ["a", "b", "c", "d"]
    one, two = recording(names), recording(names[::-1], 20, seed=1)
    pipeline = Pipeline([("align", AlignNeurons()), ("embed", RowWise(transformer))])
    latents = pipeline.fit([one, two]).transform([one, two])
    tables = [one.traces, two.traces[:, ::-1]]
    alone = clone(transformer).fit(np.concatenate(tables))
    for mine, table in zip(latents, tables):
        np.testing.assert_allclose(mine, alone.transform(table), atol=1e-6)
    # Alignment is done by RowWise too.
    direct = RowWise(transformer).fit([one, two])
    np.testing.assert_allclose(direct.transform([two])[0], latents[1], atol=1e-6)
    assert list(direct.get_feature_names_out()) == list(alone.get_feature_names_out())


def test_missing_entries_are_refused_or_filled_by_the_training_mean():
    one, two = recording(["a", "b", "c"]), recording(["b", "c"], seed=1)
    with pytest.raises(ValueError, match="recording 1 has NaN in 1 of 3 columns, first 'a'"):
        RowWise(PCA(2)).fit([one, two])
    model = RowWise(PCA(2), fill="mean").fit([one, two])
    mean = one.traces[:, 0].mean()
    tables = [one.traces, np.column_stack([np.full(30, mean), two.traces])]
    alone = PCA(2).fit(np.concatenate(tables))
    for mine, table in zip(model.transform([one, two]), tables):
        np.testing.assert_allclose(mine, alone.transform(table), atol=1e-6)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.transform([two])[0], model.transform([two])[0])


def test_wrong_transformers():
    X = np.random.default_rng(0).standard_normal((20, 3))
    with pytest.raises(TypeError, match=r"make_pipeline\(AlignNeurons\(\), RowWise\(Isomap"):
        Pooled(Isomap()).fit(X)
    with pytest.raises(TypeError, match="TSNE has no transform"):
        RowWise(TSNE()).fit(X)
    with pytest.raises(ValueError, match="fill must be"):
        make_pipeline(RowWise(PCA(), fill="zero")).fit(X)
