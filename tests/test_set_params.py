"""What was fitted answers, whatever the parameters are set to afterwards."""

import pickle

import numpy as np
import pytest
from estimator_cases import CASES, NETWORKS, answers, assert_same, other_values
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline

from skneurovae.baselines import GaussianSmoother, MissingFactorAnalysis, RowWise
from skneurovae.decoding import BehaviorDecoder, decoding_errors

# How a call is run, and not what was fitted.
RUN = {"batch_size": 1e-9, "n_samples": None}  # how much each may move what comes out; None: freely


@pytest.mark.parametrize("name", CASES)
def test_parameters_set_after_a_fit_do_not_reach_the_answers(name):
    case = CASES[name]
    data = case.data("first")
    model = case.make().fit(*data)
    before, changes = answers(model, data), other_values(model)
    assert changes.keys() == model.get_params(deep=False).keys()
    assert all(not np.array_equal(v, getattr(model, n)) for n, v in changes.items())
    fixed = {name: value for name, value in changes.items() if name not in RUN}
    model.set_params(**fixed)
    assert_same(answers(model, data), before)
    assert_same(answers(pickle.loads(pickle.dumps(model)), data), before)
    for name, tolerance in RUN.items():
        if name in changes and tolerance is not None:
            assert_same(answers(model.set_params(**{name: changes[name]}), data), before, tolerance)


def test_every_parameter_alone_does_not_reach_the_answers_of_a_baseline():
    for case in (CASES[name] for name in CASES.keys() - NETWORKS.keys()):
        data = case.data("first")
        model = case.make().fit(*data)
        before = answers(model, data)
        for name, value in other_values(model).items():
            kept = getattr(model, name)
            assert_same(answers(model.set_params(**{name: value}), data), before)
            model.set_params(**{name: kept})


def test_samples_of_the_posterior_are_as_many_as_the_parameter_says():
    case = NETWORKS["lfads"]
    data = case.data("first")
    model = case.make().fit(*data)
    few = model.predict(*data)[0]
    assert not np.array_equal(model.set_params(n_samples=30).predict(*data)[0], few)


def test_a_changed_parameter_counts_from_the_next_fit_on():
    data = NETWORKS["precision"].data("first")
    model = NETWORKS["precision"].make().fit(*data)
    causal = model.set_params(causal=True, n_components=3).fit(*data).transform(*data)[0]
    again = NETWORKS["precision"].make(causal=True, n_components=3).fit(*data).transform(*data)[0]
    np.testing.assert_array_equal(causal, again)


def test_a_failed_fit_with_other_parameters_leaves_the_fitted_ones():
    case = NETWORKS["fhvae"]
    data = case.data("first")
    model = case.make().fit(*data)
    before = answers(model, data)
    model.set_params(window_length=3, sequences="recording", likelihood="gaussian")
    with pytest.raises(ValueError, match="stride must be at most window_length=3"):
        model.set_params(stride=5).fit(*data)
    assert_same(answers(model, data), before)


def test_factor_analysis_decodes_and_names_the_components_that_it_has():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 2)) @ rng.standard_normal((2, 5)) + rng.standard_normal((60, 5))
    model = MissingFactorAnalysis(2, shrinkage=10.0, random_state=0).fit(X)
    model.set_params(n_components=4)
    latents = model.transform(X)
    np.testing.assert_allclose(model.inverse_transform(latents), model.predict(X))
    assert len(model.get_feature_names_out()) == 2
    with pytest.raises(ValueError, match=r"must have shape \(n_timesteps, 2\), got \(3, 4\)"):
        model.inverse_transform(np.zeros((3, 4)))


def test_a_smoother_and_a_filler_keep_what_they_were_fitted_with():
    X = np.array([[0.0], [1.0], [0.0]])
    smoother = GaussianSmoother(0.5).fit(X).set_params(width=0.0)
    np.testing.assert_allclose(smoother.transform(X).round(3), [[0.119], [0.787], [0.119]])
    rows = np.random.default_rng(0).standard_normal((20, 3))
    rows[3, 1] = np.nan
    model = RowWise(PCA(1), fill="mean").fit(rows)
    assert np.isfinite(model.set_params(fill=None).transform(rows)).all()


def test_labels_are_those_of_the_fit():
    case = NETWORKS["contrastive"]
    (made,) = case.data("first")
    named = [r.replace(behavior=np.where(r.behavior[:, :1] > 0, "up", "down")) for r in made]
    model = case.make(discrete="all").fit(named)
    before = model.score(named)
    assert model.set_params(discrete=None, conditional="time").score(named) == before


def test_errors_of_a_pipeline_are_of_the_kind_that_it_was_fitted_to():
    case = CASES["decoder"]
    (Z, y) = case.data("first")
    pipeline = make_pipeline(MissingFactorAnalysis(2, random_state=0), BehaviorDecoder())
    pipeline.fit(Z, y)
    before = decoding_errors(pipeline, Z, y)
    pipeline[-1].set_params(kind="circular")
    np.testing.assert_array_equal(decoding_errors(pipeline, Z, y), before)
    # A decoder that is yet to be fitted is what its parameters say.
    latents = pipeline[:-1]
    decoder = BehaviorDecoder(kind="categorical").fit(latents.transform(Z), [b > 3 for b in y])
    errors = decoding_errors(latents, Z, y, decoder=decoder.set_params(kind="circular"))
    assert (errors < np.pi).all()
    with pytest.raises(ValueError, match="kind is 'categorical', but that of the decoder is 'circ"):
        decoding_errors(latents, Z, y, decoder=decoder, kind="categorical")
