"""NeuroBehaviorVAE: what it promises of identities, missing data, generation and its scores."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from test_estimator_contract import small

from skneurovae import NeuroBehaviorVAE, Recording
from skneurovae.baselines import MissingFactorAnalysis
from skneurovae.common.randomness import seeded
from skneurovae.metrics import co_smoothing_bits, co_smoothing_score

# Some of the worms have neurons that the models have not met.
pytestmark = pytest.mark.filterwarnings("ignore:Unknown to the model")
# The linear part is fitted in no time, and what is trained stays, be it better or not.
QUICK = {"shrinkage": 100.0, "prior": "normal"}
TRAINED = {"early_stopping": False, "max_iter": 4, "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def models(worms):
    """Trained models of two worms by name."""
    return {
        "precision": small(**TRAINED).fit(worms[:2]),
        "pooled": small(neuron_encoder="pooled", **TRAINED).fit(worms[:2]),
    }


@pytest.fixture(params=["precision", "pooled"])
def model(request, models):
    return models[request.param]


@pytest.fixture(scope="module")
def plain(array):
    """Model of one array without behavior, as good as the linear one."""
    return small(shrinkage=1.0, prior="normal").set_params(n_components=3).fit(array)


@pytest.fixture(scope="module")
def counts(array):
    """Spike counts with the latents of the array in their rates."""
    standard = (array - array.mean(0)) / array.std(0)
    return np.random.RandomState(1).poisson(np.exp(0.7 * standard)).astype(float)


def with_gaps(recording, share, seed=0, **changes):
    hidden = np.random.RandomState(seed).random_sample(recording.traces.shape) < share
    return recording.replace(traces=np.where(hidden, np.nan, recording.traces), **changes)


def blank(array):
    return np.full_like(array, np.nan)


def all_finite(*results):
    return all(np.isfinite(a).all() for r in results for a in (r if isinstance(r, list) else [r]))


# -- identities --------------------------------------------------------------------------------


def test_columns_may_be_permuted_with_their_identities_only(models, worms):
    worm = worms[3]
    order = np.random.RandomState(0).permutation(worm.n_neurons)
    both = worm.replace(traces=worm.traces[:, order], identities=worm.identities[order])
    alone = worm.replace(traces=worm.traces[:, order])
    for model in models.values():
        latents = model.transform([worm])[0]
        np.testing.assert_allclose(model.transform([both])[0], latents, atol=1e-9)
        np.testing.assert_allclose(
            model.predict([both])[0], model.predict([worm])[0][:, order], atol=1e-9
        )
    latents = models["precision"].transform([worm])[0]
    assert np.abs(models["precision"].transform([alone])[0] - latents).mean() > 0.1


def test_unknown_neurons_are_predicted_by_their_own_mean_and_move_nothing(model, worms):
    worm = worms[3]
    identities = worm.identities.copy()
    identities[[2, 5]] = "never seen"
    strange = worm.replace(identities=identities, traces=worm.traces.copy())
    with pytest.warns(UserWarning, match="never seen"):
        traces, std = model.predict([strange], return_std=True)
    for column in (2, 5):
        own = worm.traces[:, column]
        np.testing.assert_allclose(traces[0][:, column], np.nanmean(own))
        np.testing.assert_allclose(std[0][:, column], np.nanstd(own))
    strange.traces[:, 2] = 50.0
    missing = worm.replace(traces=np.where(np.isin(np.arange(16), [2, 5]), np.nan, worm.traces))
    with pytest.warns(UserWarning, match="never seen"):
        np.testing.assert_allclose(
            model.transform([strange])[0], model.transform([missing])[0], atol=1e-9
        )


@pytest.mark.parametrize("name", ["precision", "pooled"])
def test_partial_fit_adds_identities(name, models, worms):
    known = list(models[name].identities_)
    grown = copy.deepcopy(models[name]).partial_fit(worms[3:])
    assert list(grown.identities_[: len(known)]) == known
    new = set(grown.identities_) - set(known)
    assert new == set(np.concatenate([r.identities for r in worms[3:]])) - set(known)
    assert new
    assert all_finite(grown.predict(worms), grown.transform(worms))


def test_a_stored_model_learns_what_the_original_learns(worms):
    model = small(prior="normal").fit(worms[:2])
    loaded = pickle.loads(pickle.dumps(model))
    for m in (model, loaded):
        m.partial_fit(worms[3:])
        assert m.network_.shrinkage == m.linear_choice_.shrinkage > 0
    np.testing.assert_array_equal(loaded.predict(worms)[4], model.predict(worms)[4])


def test_new_identities_get_loadings_of_their_own(models, worms):
    before = models["precision"]
    grown = copy.deepcopy(before).partial_fit(worms[3:])
    n_known, n_all = len(before.identities_), len(grown.identities_)
    loadings = grown.network_.loadings
    assert (loadings[n_known:n_all].abs().amax(1) > 1e-3).all()
    torch.testing.assert_close(loadings[:n_known], before.network_.loadings[:n_known])
    torch.testing.assert_close(  # those of behavior moved behind the new rows
        loadings[n_all:], before.network_.loadings[n_known:]
    )


# -- missing data ------------------------------------------------------------------------------


def test_nan_is_mask(model, worms):
    worm = worms[3]
    mask = np.random.RandomState(0).random_sample(worm.traces.shape) > 0.3
    inputs = {"identities": [worm.identities], "behavior": [worm.behavior]}
    absent = np.where(mask, worm.traces, np.nan)
    wild = np.where(mask, worm.traces, 1e3)
    for method in (model.transform, model.predict, model.impute, model.score_samples):
        np.testing.assert_array_equal(
            method([wild], mask=[mask], **inputs)[0], method([absent], **inputs)[0]
        )


@pytest.mark.parametrize("case", [
    "half missing", "behavior all NaN", "no behavior", "behavior only", "nothing at all",
])  # fmt: skip
def test_everything_is_finite_whatever_is_missing(case, model, worms):
    worm = worms[3]
    given = {
        "half missing": with_gaps(worm, 0.5),
        "behavior all NaN": worm.replace(behavior=blank(worm.behavior)),
        "no behavior": worm.replace(behavior=None),
        "behavior only": worm.replace(traces=blank(worm.traces)),
        "nothing at all": worm.replace(traces=blank(worm.traces), behavior=None),
    }[case]
    X = [given]
    results = [
        *model.transform(X, return_std=True), *model.predict(X, return_std=True),
        *model.impute(X, return_std=True), model.score_samples(X),
    ]  # fmt: skip
    assert all_finite(*results)
    if np.isfinite(given.traces).any():
        assert np.isfinite(model.score(X))


def test_absent_behavior_is_behavior_of_nan(model, worms):
    """Also where no recording has any."""
    absent = [worms[3].replace(behavior=None)]
    unseen = [worms[3].replace(behavior=blank(worms[3].behavior))]
    np.testing.assert_allclose(model.predict(absent)[0], model.predict(unseen)[0], atol=1e-12)
    latents = model.transform(worms[3:4])[0]
    assert np.abs(model.transform(absent)[0] - latents).max() > 1e-3
    mixed = model.transform([absent[0], worms[4]])
    np.testing.assert_allclose(mixed[0], model.transform(absent)[0], atol=1e-9)


def test_fits_what_is_mostly_missing(worms):
    gappy = [with_gaps(r, 0.5, seed=i) for i, r in enumerate(worms[:3])]
    gappy[1] = gappy[1].replace(behavior=None)
    gappy[2] = gappy[2].replace(behavior=blank(gappy[2].behavior))
    for encoder in ("precision", "pooled"):
        options = QUICK if encoder == "precision" else {}
        model = small(neuron_encoder=encoder, **options).fit(gappy)
        assert all_finite(model.predict(worms), model.transform(worms))


def test_imputing_keeps_what_was_observed(model, worms):
    traces, std = model.impute(worms[3:], return_std=True)
    for worm, filled, spread, predicted in zip(
        worms[3:], traces, std, model.predict(worms[3:]), strict=True
    ):
        seen = ~np.isnan(worm.traces)
        assert 0 < seen.mean() < 1
        np.testing.assert_array_equal(filled[seen], worm.traces[seen])
        np.testing.assert_array_equal(filled[~seen], predicted[~seen])
        assert (spread[seen] == 0).all()
        assert (spread[~seen] > 0).all()


def test_spread_of_predictions_and_latents_grows_with_what_is_missing(plain, array):
    gaps = with_gaps(Recording(array), 0.8).traces
    for method in (plain.transform, plain.predict):
        (_, few), (_, many) = method(gaps, return_std=True), method(array, return_std=True)
        assert few.mean() > 1.05 * many.mean()


def test_batch_size_does_not_matter(model, worms):
    """Nor does the order of recordings, nor what else is in the list."""
    forward = model.transform(worms), model.predict(worms), model.score_samples(worms)
    backward = model.predict(worms[::-1])[::-1]
    one = copy.deepcopy(model).set_params(batch_size=1)
    for i, worm in enumerate(worms):
        alone = one.transform([worm]), one.predict([worm]), one.score_samples([worm])
        for ours, theirs in zip(alone, forward):
            np.testing.assert_allclose(ours[0], theirs[i], atol=1e-9)
        np.testing.assert_allclose(backward[i], forward[1][i], atol=1e-9)


# -- likelihoods, training, scores -------------------------------------------------------------


CASES = [
    (likelihood, noise)
    for likelihood in ("gaussian", "huber", "student_t", "negative_binomial")
    for noise in ("neuron", "heteroscedastic", "fixed")
    if (likelihood, noise) != ("negative_binomial", "fixed")
]


@pytest.mark.parametrize(("likelihood", "noise"), CASES)
def test_every_likelihood_and_noise(likelihood, noise, array, counts):
    is_count = likelihood == "negative_binomial"
    X = np.array(counts if is_count else array)
    X[20:60, 3] = np.nan
    model = small(likelihood=likelihood, noise=noise, **QUICK).fit(X)
    traces, std = model.predict(X, return_std=True)
    assert all_finite(traces, std, model.score_samples(X), model.sample(30, random_state=0))
    assert (std > 0).all()
    assert (traces >= 0).all() or not is_count
    expected = (co_smoothing_bits if is_count else co_smoothing_score)(model, X)
    assert model.score(X) == pytest.approx(expected)


def test_counts_are_scored_in_bits_per_spike(counts):
    model = small(likelihood="poisson", early_stopping=False, **QUICK).fit(counts)
    assert (model.predict(counts) >= 0).all()
    drawn = model.sample(200, random_state=0)
    assert (drawn == np.round(drawn)).all()
    assert model.score(counts) == pytest.approx(co_smoothing_bits(model, counts))
    assert model.score(counts) > 0.05
    silent = counts.copy()
    silent[:, 4] = 0
    assert all_finite(small(likelihood="poisson", **QUICK).fit(silent).predict(silent))


def test_score_is_co_smoothing(model, worms):
    assert model.score(worms[3:]) == pytest.approx(co_smoothing_score(model, worms[3:]))


def test_training_that_makes_worse_leaves_the_start(worms):
    model = small(learning_rate=3.0, max_iter=3, **QUICK).fit(worms[:3])
    assert model.best_loss_ == model.validation_scores_[0] == min(model.validation_scores_)
    assert not model.network_.refine.weight.any()
    assert not model.network_.read_out.any()
    # It is then the linear model of all recordings, not only of those that were not held out.
    linear = MissingFactorAnalysis(2, shrinkage=100.0, random_state=0)
    plain = [r.replace(behavior=None) for r in worms[:3]]
    model = small(learning_rate=3.0, max_iter=3, **QUICK).fit(plain)
    assert model.start_kept_
    for ours, theirs in zip(model.predict(plain), linear.fit(plain).predict(plain)):
        np.testing.assert_allclose(ours, theirs, atol=1e-3)


@pytest.mark.parametrize("options", [
    {"max_iter": 6, "learning_rate": 1e-2}, {"max_iter": 2, "learning_rate": 3.0},
    {"max_iter": 6, "learning_rate": 2e-3, "n_layers": 2},
])  # fmt: skip
def test_validation_never_ends_worse_than_the_start(options, worms, monkeypatch):
    monkeypatch.setattr(NeuroBehaviorVAE, "_finish_network", lambda *arguments: None)
    model = small(**QUICK, **options).fit(worms[:3])
    assert len(model.validation_scores_) == 1 + len(model.loss_curve_) == 1 + model.n_iter_
    rows = model._vocabulary.rows(worms[:3])
    _, held_out = model._split(worms[:3], rows)
    seed = np.random.RandomState(0).randint(2**31 - 1)
    device = torch.device("cpu")
    with seeded(seed):
        final = model._validation(model.network_, held_out, device, seed)()
    assert float(final.sum()) == pytest.approx(model.best_loss_, rel=1e-5)
    if model.start_kept_:
        assert model.best_loss_ == model.validation_scores_[0]
    else:
        assert model.best_loss_ <= min(model.validation_scores_)


def test_beta_warms_up_in_the_fit(worms):
    options = {"early_stopping": False, "max_iter": 10, "beta": 0.5, "free_bits": 0.0}
    for elbo_weight, given in [(0.1, {}), (0.6, {"elbo_weight": 0.6})]:
        model = small(**options, **given, **QUICK).fit(worms[:2])
        for epoch, (loss, parts) in enumerate(zip(model.loss_curve_, model.history_, strict=True)):
            fit = elbo_weight * parts["shown"] + parts["hidden"] + parts["penalty"]
            assert parts["kl"] > 0
            charged = 0.5 * min(epoch / 3, 1) * parts["kl"]
            assert loss - fit == pytest.approx(elbo_weight * charged, abs=1e-5)


def test_free_bits_hold_in_the_fit(worms):
    options = {"early_stopping": False, "max_iter": 5, "free_bits": 50.0, "elbo_weight": 1.0}
    model = small(**options, **QUICK).fit(worms[:1])
    parts = model.history_
    n_steps_per_entry = 1 / np.mean((~np.isnan(worms[0].traces)).sum(1))
    for epoch in (3, 4):
        charged = model.loss_curve_[epoch] - sum(
            parts[epoch][name] for name in ("shown", "hidden", "penalty")
        )
        assert charged == pytest.approx(50.0 * 2 * n_steps_per_entry, rel=0.05)


# -- generation --------------------------------------------------------------------------------


def test_latents_decode_to_traces_of_all_identities(model, worms):
    latents = model.transform(worms[:2])
    decoded = model.inverse_transform(latents)
    assert isinstance(decoded, list)
    for z, traces in zip(latents, decoded, strict=True):
        assert traces.shape == (len(z), len(model.identities_))
        np.testing.assert_array_equal(traces, model.inverse_transform(z))
    assert all_finite(decoded)
    short = [z[:50] for z in latents]
    stack = model.inverse_transform(np.stack(short))
    np.testing.assert_allclose(stack[1], model.inverse_transform(short[1]), atol=1e-12)
    assert stack.shape == (2, 50, len(model.identities_))
    behavior = [r.behavior for r in worms[:2]]
    steered = model.inverse_transform(latents, behavior=behavior)
    np.testing.assert_array_equal(
        steered[1], model.inverse_transform(latents[1], behavior=behavior[1])
    )
    assert np.abs(steered[0] - decoded[0]).max() > 1e-6
    assert model.inverse_transform(latents[0].astype(np.float32)).dtype == np.float32


def test_decoded_latents_resemble_the_traces(plain, array):
    decoded = plain.inverse_transform(plain.transform(array))
    assert 1 - np.var(array - decoded) / np.var(array) > 0.5


def test_activity_driven_by_behavior(models, worms):
    model, behavior = models["precision"], worms[3].behavior
    everyone = model.predict_from_behavior(behavior)
    mean, std = model.predict_from_behavior(behavior, return_std=True)
    np.testing.assert_array_equal(mean, everyone)
    assert mean.shape == std.shape == (len(behavior), len(model.identities_))
    assert all_finite(mean, std)
    assert (std > 0).all()
    assert mean.std(0).max() > 0.05  # behavior does drive
    chosen = model.identities_[[5, 0]]
    np.testing.assert_array_equal(
        model.predict_from_behavior(behavior, identities=chosen), everyone[:, [5, 0]]
    )
    draws = model.predict_from_behavior(behavior, n_samples=400, random_state=0)
    assert draws.shape == (400, *mean.shape)
    np.testing.assert_allclose((draws.mean(0) - mean) / std, 0, atol=0.25)
    np.testing.assert_allclose(draws.std(0) / std, 1, atol=0.25)
    some = model.predict_from_behavior(behavior, identities=chosen, n_samples=400, random_state=0)
    np.testing.assert_array_equal(some, draws[:, :, [5, 0]])
    gaps = behavior.copy()
    gaps[10:30, 0] = np.nan
    assert all_finite(model.predict_from_behavior(gaps))
    as_recording = Recording(np.full_like(everyone, np.nan), behavior, identities=model.identities_)
    np.testing.assert_allclose(model.predict([as_recording])[0], everyone)


def test_draws_are_those_of_the_seed(model, worms):
    first = model.sample(20, n_samples=3, random_state=1)
    assert first.shape == (3, 20, len(model.identities_))
    np.testing.assert_array_equal(first, model.sample(20, n_samples=3, random_state=1))
    assert np.abs(first - model.sample(20, n_samples=3, random_state=2)).min() > 0
    behavior = worms[0].behavior
    steered = model.sample(behavior=behavior, n_samples=2, identities=["N001"], random_state=0)
    assert steered.shape == (2, len(behavior), 1)
    torch.manual_seed(4)
    expected = torch.rand(1)
    torch.manual_seed(4)
    model.sample(5, random_state=0)
    assert torch.equal(torch.rand(1), expected)


def test_samples_have_the_moments_of_the_training_data(plain, array):
    # Of all of it: a walk has another mean in the tail that would validate.
    model = clone(plain).set_params(early_stopping=False).fit(array)
    drawn = model.sample(300, n_samples=40, random_state=0)
    np.testing.assert_allclose(drawn.mean((0, 1)) - array.mean(0), 0, atol=0.2 * array.std())
    np.testing.assert_allclose(drawn.std((0, 1)) / array.std(0), 1, atol=0.25)
    correlation = np.corrcoef(drawn.reshape(-1, array.shape[1]).T)
    assert np.abs(correlation - np.corrcoef(array.T)).mean() < 0.15


def test_bound_prefers_the_data_of_the_model(plain, array):
    drawn = plain.sample(150, random_state=0)[0].astype(float)
    shuffled = np.random.default_rng(0).permuted(drawn, axis=0)  # each neuron by itself
    bound = plain.score_samples(drawn)
    assert bound.shape == (150,)
    assert bound.mean() > plain.score_samples(shuffled).mean() + 0.5
    assert plain.score_samples(array).mean() > plain.score_samples(array[:, ::-1]).mean()
    assert all_finite(bound)
