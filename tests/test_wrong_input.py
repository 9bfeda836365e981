"""Wrong calls: one line that names the argument, never a trace from inside."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from published import PublishedNetwork
from sklearn.exceptions import NotFittedError
from test_estimator_contract import small

from skneurovae import NeuroBehaviorVAE, Recording
from skneurovae.baselines import MissingFactorAnalysis

QUICK = {"shrinkage": 100.0, "prior": "normal", "max_iter": 1}


@pytest.fixture(scope="module")
def given(worms, array, tmp_path_factory):
    """Data, fitted models and checkpoints that are right in themselves."""
    counts = np.random.RandomState(0).poisson(1.0, (60, 5)).astype(float)
    folder = tmp_path_factory.mktemp("checkpoints")
    (folder / "notes.pt").write_text("not weights")
    published = PublishedNetwork(5, 2, 3, model_dim=8, hidden=8, n_layers=1, n_heads=2)
    narrow = PublishedNetwork(5, 2, 3, token_dim=16, model_dim=8, hidden=8, n_layers=1, n_heads=2)
    traces = [r.traces for r in worms]
    return SimpleNamespace(
        worms=worms, array=array, counts=counts, traces=traces, folder=folder,
        state=published.state_dict(), narrow=narrow.state_dict(),
        model=small(**QUICK).fit(worms[:2]),
        plain=small(**QUICK).fit(array),
        spikes=small(likelihood="poisson", **QUICK).fit(counts),
        factors=MissingFactorAnalysis(2, shrinkage=100.0, random_state=0).fit(array),
        labelled=MissingFactorAnalysis(2, shrinkage=100.0, random_state=0).fit(worms[:2]),
    )  # fmt: skip


def changed(recording, **fields):
    return [recording.replace(**fields)]


def spoiled(array, value):
    array = np.array(array)
    array[3, 0] = value
    return array


def load(checkpoint, **parameters):
    return NeuroBehaviorVAE.from_ceneurovae(checkpoint, **{"n_heads": 2, **parameters})


PARAMETERS = {
    "no components": ({"n_components": 0}, "n_components"),
    "empty windows": ({"window_length": 0}, "window_length"),
    "no batch": ({"batch_size": 0}, "batch_size"),
    "no epochs": ({"max_iter": 0}, "max_iter"),
    "frames dropped": ({"stride": 33}, "stride must be at most window_length=32, got 33"),
    "heads that do not divide": ({"n_heads": 3}, "n_heads=3 must divide model_dim=8"),
    "heads of odd size": ({"n_heads": 8}, "n_heads=8 .* even"),
    "odd width": (
        {"neuron_encoder": "pooled", "model_dim": 9, "n_heads": 3}, "model_dim must be even",
    ),
    "encoder": ({"neuron_encoder": "mean"}, "neuron_encoder"),
    "likelihood": ({"likelihood": "poison"}, "likelihood"),
    "noise of spikes": ({"likelihood": "poisson", "noise": "neuron"}, "noise='neuron' .*poisson"),
    "fixed noise of counts": (
        {"likelihood": "negative_binomial", "noise": "fixed"}, "noise='fixed' has no meaning",
    ),
    "noise of pooled": (
        {"neuron_encoder": "pooled", "noise": "fixed"}, "noise='fixed' needs neuron_encoder",
    ),
    "prior of pooled": (
        {"neuron_encoder": "pooled", "prior": "ar1"}, "prior='ar1' needs neuron_encoder",
    ),
    "shrinkage of pooled": (
        {"neuron_encoder": "pooled", "shrinkage": 1.0}, "shrinkage=1.0 needs neuron_encoder",
    ),
    "lags of pooled": (
        {"neuron_encoder": "pooled", "behavior_lags": (0,)}, "behavior_lags=.* needs neuron_enc",
    ),
    "dynamics of one step": ({"prior": "ar1", "window_length": 1}, "prior='ar1' .*window_length"),
    "lag beyond the window": ({"behavior_lags": (0, -32)}, "behavior_lags .*window_length.*-32"),
    "lag of half a step": ({"behavior_lags": (0, 1.5)}, "behavior_lags .*integers.*1.5"),
    "lag twice": ({"behavior_lags": (1, 1)}, "behavior_lags must be different"),
    "lag of words": ({"behavior_lags": ["one"]}, "behavior_lags .*integers.*one"),
    "future of a filter": ({"behavior_lags": (-2,), "causal": True}, "behavior_lags .*causal.* -2"),
    "bounds reversed": ({"hide_neurons": (0.6, 0.1)}, "hide_neurons must be .*low.*high"),
    "bounds of words": ({"hide_spans": ("a", "b")}, "hide_spans must be .*low.*high"),
    "three bounds": ({"hide_neurons": (0.1, 0.2, 0.3)}, "hide_neurons must be .*low.*high"),
    "probability": ({"hide_behavior": 1.5}, "hide_behavior"),
    "all dropped out": ({"dropout": 1.0}, "dropout"),
    "negative weight": ({"beta": -1.0}, "beta"),
    "everything held out": ({"validation_fraction": 1.0}, "validation_fraction"),
    "no steps": ({"learning_rate": 0.0}, "learning_rate"),
    "device": ({"device": "abacus"}, "device"),
    "precision": ({"precision": "float8"}, "precision"),
    "seed": ({"random_state": "seed"}, "random_state"),
    "counts expected": ({"likelihood": "poisson"}, "likelihood='poisson' .*traces of recording 0"),
}  # fmt: skip


@pytest.mark.parametrize(("parameters", "message"), PARAMETERS.values(), ids=PARAMETERS)
def test_wrong_parameters(parameters, message, given):
    model = small().set_params(**parameters)
    refuses(lambda: model.fit(given.worms[:2]), message)
    refuses(lambda: small().set_params(**parameters).partial_fit(given.worms[:2]), message)


FITS = {
    "lags without behavior": (
        lambda g: small(behavior_lags=(0,)).fit(g.array), "behavior_lags=.*without behavior",
    ),
    "a stimulus": (
        lambda g: small().fit(g.array, stimulus=np.zeros(160)), "stimulus is not used",
    ),
    "negative counts": (
        lambda g: small(likelihood="negative_binomial").fit([g.counts, -g.counts]),
        "likelihood=.*traces of recording 1",
    ),
    "fractions of counts": (
        lambda g: g.spikes.partial_fit(g.counts + 0.5), "likelihood='poisson' .*recording 0 hold",
    ),
    "nothing": (lambda g: small().fit([]), "X holds no recordings"),
    "tuple": (lambda g: small().fit((g.array, g.array)), "X must be .*tuple.*list"),
    "bare recording": (lambda g: small().fit(g.worms[0]), r"X must be .*\[recording\]"),
    "infinity": (lambda g: small().fit(spoiled(g.array, np.inf)), "X contains infinity"),
    "infinity in a list": (
        lambda g: small().fit([g.array, spoiled(g.array, np.inf)]), "traces of recording 1 .*infin",
    ),
    "all NaN": (
        lambda g: small().fit([g.array, np.full_like(g.array, np.nan)]),
        "traces of recording 1 are all NaN",
    ),
    "4-D": (lambda g: small().fit([g.array[None]]), "traces of recording 0 must have shape"),
    "empty": (lambda g: small().fit([g.array[:0]]), "traces of recording 0 must have shape"),
    "neurons that are not told apart": (
        lambda g: small().fit([g.array, g.array[:, :4]]), "recording 1 .*identities or session",
    ),
    "mask": (
        lambda g: small().fit(g.array, mask=np.ones((3, 3), bool)), "mask of recording 0 .*shape",
    ),
    "mask of numbers": (lambda g: small().fit(g.array, mask=g.array), "mask of recording 0"),
    "behavior of another length": (
        lambda g: small().fit(g.array, behavior=np.zeros((159, 2))), "behavior of recording 0",
    ),
    "infinite behavior": (
        lambda g: small().fit(g.array, behavior=spoiled(np.zeros((160, 1)), -np.inf)),
        "behavior of recording 0 holds infinity",
    ),
    "behaviors of two widths": (
        lambda g: small().fit([g.array, g.array], behavior=[np.zeros((160, 3)), np.zeros(160)]),
        "behavior of recording 1 has 1 channels",
    ),
    "one behavior for many": (
        lambda g: small().fit([g.array, g.array], behavior=np.zeros((160, 2))),
        "behavior must be a list",
    ),
    "behaviors missing": (
        lambda g: small().fit([g.array, g.array], behavior=[None]), "behavior has 1 entries",
    ),
    "behavior given twice": (
        lambda g: small().fit(g.worms[:1], behavior=[np.zeros((91, 3))]), "behavior is given twice",
    ),
    "too few identities": (
        lambda g: small().fit(g.array, identities=["a"] * 9), "identities of recording 0",
    ),
    "negative identity": (
        lambda g: small().fit(g.array, identities=np.arange(-1, 9)), "identities of recording 0",
    ),
    "names and numbers": (
        lambda g: small().fit(g.array, identities=["a", *range(9)]), "identities of recording 0",
    ),
    "behavior that grew": (
        lambda g: g.model.partial_fit(changed(g.worms[0], behavior=np.zeros((91, 4)))),
        "behavior of recording 0 has 4 channels",
    ),
}  # fmt: skip

USES = {
    "not fitted": (lambda g: small().transform(g.array), "not fitted"),
    "not fitted, sample": (lambda g: small().sample(5), "not fitted"),
    "not fitted, decode": (lambda g: small().inverse_transform(np.zeros((4, 2))), "not fitted"),
    "other columns": (lambda g: g.plain.transform(g.array[:, :9]), "X has 9 features"),
    "other columns in a list": (
        lambda g: g.plain.predict([g.array[:, :9]]), "recording 0 has 9 neurons",
    ),
    "strangers": (
        lambda g: g.model.transform(changed(g.worms[0], identities=np.array(["x"] * 16))),
        "no neuron of recording 0 .*identities are x",
    ),
    "numbers for names": (
        lambda g: g.model.transform(changed(g.worms[0], identities=np.arange(1, 17))),
        "identities of recording 0 are of type int",
    ),
    "behavior of another width": (
        lambda g: g.model.impute(changed(g.worms[0], behavior=np.zeros((91, 2)))),
        "behavior of recording 0 has 2 channels.*fitted with 3",
    ),
    "stimulus that fit did not see": (
        lambda g: g.plain.predict(g.array, stimulus=np.zeros(160)), "stimulus of recording 0",
    ),
    "infinite traces": (
        lambda g: g.model.transform(changed(g.worms[0], traces=spoiled(g.traces[0], np.inf))),
        "traces of recording 0 hold infinity",
    ),
    "score of one neuron": (
        lambda g: g.model.score(changed(g.worms[0], traces=g.traces[0][:, :1],
                                        identities=g.worms[0].identities[:1])),
        "two or more different neurons",
    ),
    "score of silence": (lambda g: g.spikes.score(np.zeros((20, 5))), "counts hold no spike"),
    "too many latents": (
        lambda g: g.model.inverse_transform(np.zeros((9, 3))),
        r"Z of recording 0 must have shape \(n_timesteps, 2\), got \(9, 3\)",
    ),
    "latents without time": (
        lambda g: g.model.inverse_transform([np.zeros((9, 2)), np.zeros(2)]), "Z of recording 1",
    ),
    "NaN latents": (
        lambda g: g.model.inverse_transform(np.full((9, 2), np.nan)), "Z of recording 0 .*finite",
    ),
    "decoding with behavior of another length": (
        lambda g: g.model.inverse_transform(np.zeros((9, 2)), behavior=np.zeros((8, 3))),
        r"behavior must have shape \(9, 3\), got \(8, 3\)",
    ),
    "decoding with behavior of fewer recordings": (
        lambda g: g.model.inverse_transform([np.zeros((9, 2))] * 2, behavior=[np.zeros((9, 3))]),
        "behavior has 1 entries",
    ),
    "driven by nothing": (
        lambda g: g.plain.predict_from_behavior(np.zeros((9, 1))), "fitted with behavior",
    ),
    "sampled with behavior that fit did not see": (
        lambda g: g.plain.sample(behavior=np.zeros((9, 1))), "fitted with behavior",
    ),
    "driven by too little": (
        lambda g: g.model.predict_from_behavior(np.zeros((9, 2))), "behavior must have shape",
    ),
    "driven by a number": (
        lambda g: g.model.predict_from_behavior(1.0), "behavior must have shape",
    ),
    "driven by infinity": (
        lambda g: g.model.predict_from_behavior(np.full((9, 3), np.inf)), "behavior holds infinity",
    ),
    "driven strangers": (
        lambda g: g.model.predict_from_behavior(np.zeros((9, 3)), identities=["N001", "x"]),
        r"identities .*not know: \['x'\]",
    ),
    "spread of draws": (
        lambda g: g.model.predict_from_behavior(np.zeros((9, 3)), n_samples=2, return_std=True),
        "return_std .*n_samples",
    ),
    "no draws": (
        lambda g: g.model.predict_from_behavior(np.zeros((9, 3)), n_samples=0), "n_samples must be",
    ),
    "no samples": (lambda g: g.model.sample(9, n_samples=0), "n_samples must be"),
    "no time": (lambda g: g.model.sample(0), "n_timesteps must be"),
    "half a step": (lambda g: g.model.sample(1.5), "n_timesteps must be"),
    "sampled strangers": (lambda g: g.model.sample(9, identities=["x"]), "identities .*'x'"),
    "sampling seed": (lambda g: g.model.sample(9, random_state="seed"), "seed"),
}  # fmt: skip

CHECKPOINTS = {
    "file of something else": (lambda g: load(g.folder / "notes.pt"), "checkpoint is not .*notes"),
    "no file": (lambda g: load(g.folder / "missing.pt"), "missing.pt"),
    "dict of something else": (lambda g: load({"weights": 1}), "checkpoint is not a CeNeuroVAE"),
    "list": (lambda g: load([1, 2]), "checkpoint"),
    "layers of other sizes": (lambda g: load(g.narrow), "checkpoint .*neuron_scalar_mlp"),
    "names missing": (
        lambda g: load(g.state, identities=["a"]), "identities has 1 names; .* knows 4",
    ),
    "name twice": (lambda g: load(g.state, identities=["a", "a", "b", "c"]), "identities .*twice"),
    "units missing": (lambda g: load(g.state, behavior_scale=[1.0]), "behavior_scale must be 2"),
    "units of zero": (lambda g: load(g.state, behavior_scale=[1, 0]), "behavior_scale must be 2"),
    "other encoder": (lambda g: load(g.state, neuron_encoder="precision"), "neuron_encoder"),
    "heads": (lambda g: load(g.state, n_heads=3), "n_heads=3 must divide"),
    "frames dropped": (lambda g: load(g.state, stride=200), "stride must be at most"),
}  # fmt: skip

FACTORS = {
    "components": (lambda g: MissingFactorAnalysis(0).fit(g.array), "n_components"),
    "shrinkage": (lambda g: MissingFactorAnalysis(shrinkage=-1).fit(g.array), "shrinkage"),
    "smoothing": (lambda g: MissingFactorAnalysis(smoothing="rts").fit(g.array), "smoothing"),
    "seed": (lambda g: MissingFactorAnalysis(random_state="s").fit(g.array), "random_state"),
    "infinity": (lambda g: MissingFactorAnalysis().fit(spoiled(g.array, np.inf)), "X contains inf"),
    "all NaN": (
        lambda g: MissingFactorAnalysis().fit([np.full((5, 2), np.nan)]), "traces of recording 0",
    ),
    "not fitted": (lambda g: MissingFactorAnalysis().transform(g.array), "not fitted"),
    "other columns": (lambda g: g.factors.predict(g.array[:, 1:]), "X has 9 features"),
    "strangers": (
        lambda g: g.labelled.transform(changed(g.worms[0], identities=np.array(["x"] * 16))),
        "no neuron of recording 0 .*identities are x",
    ),
    "too many latents": (
        lambda g: g.factors.inverse_transform(np.zeros((9, 3))), "Z of recording 0 must have shape",
    ),
    "latents without time": (
        lambda g: g.factors.inverse_transform([np.zeros((9, 2)), np.zeros(2)]), "Z of recording 1",
    ),
}  # fmt: skip

CALLS = {
    f"{kind}: {name}": case
    for kind, cases in [
        ("fit", FITS), ("use", USES), ("checkpoint", CHECKPOINTS), ("factors", FACTORS),
    ]
    for name, case in cases.items()
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), CALLS.values(), ids=CALLS)
def test_wrong_calls(call, message, given):
    refuses(lambda: call(given), message)


def refuses(call, message):
    with pytest.raises((ValueError, TypeError, OSError, NotFittedError), match=message) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text, text
    assert len(text) < 400


def test_cuda_that_is_not_there_is_said_so(array):
    if not torch.cuda.is_available():
        refuses(lambda: small(device="cuda", **QUICK).fit(array), "device")


def test_what_was_wrong_leaves_the_model_as_it_was(given):
    worm = given.worms[0]
    before = given.model.transform([worm])[0]
    with pytest.raises(ValueError, match="behavior"):
        given.model.partial_fit([Recording(worm.traces, np.zeros((91, 4)))])
    np.testing.assert_array_equal(given.model.transform([worm])[0], before)
