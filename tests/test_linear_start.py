"""The start of PrecisionNetwork is the linear-Gaussian model, exactly."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.decomposition import FactorAnalysis
from test_posterior import prior_covariance, same
from test_precision_network import KINDS, LAGS, B, K, T, V, make, make_batch
from torch.distributions import MultivariateNormal

from skneurovae.baselines import MissingFactorAnalysis
from skneurovae.baselines.linear_gaussian import infer
from skneurovae.common.moments import standardization
from skneurovae.estimators.linear_start import channels, linear_model, start_linear
from skneurovae.networks.precision import PrecisionNetwork
from skneurovae.recordings import NeuronVocabulary, Recording
from skneurovae.recordings.batches import RecordingStore


@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("prior", ["normal", "ar1"])
def test_bound_is_the_exact_log_likelihood_of_the_linear_model(prior, missing):
    network, batch = make(prior, n_behaviors=0), make_batch(n_behaviors=0, missing=missing)
    with torch.no_grad():
        bound = network.bound(batch).sum(1)
    covariance = prior_covariance(network.phi, T)
    for b in range(B):
        rows, seen = batch.neurons[b], batch.observed[b].flatten()
        loadings = torch.kron(
            torch.eye(T).double(), network.output_scale[rows, None] * network.loadings[rows]
        )
        noise = (network.output_scale[rows].square() * network.psi[rows]).repeat(T)
        full = loadings @ covariance @ loadings.T + torch.diag(noise)
        mean = network.output_offset[rows].repeat(T)
        exact = MultivariateNormal(mean[seen], full[seen][:, seen])
        same(bound[b], exact.log_prob(batch.traces[b].flatten()[seen]), 1e-4)


def test_bound_is_that_of_scikit_learns_factor_analysis():
    rng = np.random.default_rng(0)
    z = rng.standard_normal((60, K))
    traces = z @ rng.standard_normal((K, V)) + rng.normal(1, 0.5, (60, V))
    model = FactorAnalysis(K, random_state=0).fit(traces)
    network = make("normal", n_behaviors=0)
    loadings = torch.from_numpy(model.components_.T)
    with torch.no_grad():
        for name, value in {
            "loadings": loadings, "center": torch.from_numpy(model.mean_), "input_offset": 0.0,
            "input_scale": 1.0, "psi": torch.from_numpy(model.noise_variance_),
            "decoder_loadings": loadings, "output_offset": torch.from_numpy(model.mean_),
            "output_scale": 1.0, "log_scale": 0.5 * torch.from_numpy(model.noise_variance_).log(),
        }.items():  # fmt: skip
            getattr(network, name).copy_(torch.as_tensor(value).expand_as(getattr(network, name)))
        store = RecordingStore(
            [Recording(traces)], [np.arange(V)], device="cpu", dtype=torch.float64
        )
        batch = store.batch([(0, 0, 60)])
        np.testing.assert_allclose(network.bound(batch)[0], model.score_samples(traces), atol=1e-4)
        np.testing.assert_allclose(network.encode(batch)[0][0], model.transform(traces), atol=1e-8)


def test_bound_with_behavior_as_evidence_is_below_that_without():
    """q(z) from traces and behavior is not the posterior of the traces alone."""
    network, batch = make("normal"), make_batch()
    blind = replace(batch, behavior_shown=torch.zeros_like(batch.behavior_observed))
    with torch.no_grad():
        assert (network.bound(batch).sum(1) < network.bound(blind).sum(1)).all()


def started(recordings, prior, kinds=(), shrinkage="auto"):
    vocabulary = NeuronVocabulary()
    rows = vocabulary.extend(recordings)
    torch.manual_seed(0)
    network = PrecisionNetwork(
        len(vocabulary), kinds, n_components=2, lags=LAGS if kinds else (), prior=prior,
        likelihood="gaussian", noise="neuron", elbo_weight=1.0, beta=1.0, free_bits=0.0,
        shrinkage=0.0, model_dim=8, n_layers=1, n_heads=2, hidden_dim=6, dropout=0.1, causal=False,
    )  # fmt: skip
    start_linear(
        network, recordings, rows, shrinkage=shrinkage, dynamics=prior == "ar1",
        random_state=np.random.RandomState(0),
    )  # fmt: skip
    return network.double().eval(), rows


@pytest.mark.parametrize(("prior", "smoothing"), [("normal", 0.0), ("ar1", "ar1")])
def test_fresh_network_predicts_what_the_linear_model_predicts(prior, smoothing, worms):
    recordings = [r.replace(behavior=None) for r in worms[:3]]
    network, rows = started(recordings, prior, shrinkage=100.0)
    linear = MissingFactorAnalysis(2, shrinkage=100.0, smoothing=smoothing, random_state=0)
    linear.fit(recordings)
    store = RecordingStore(recordings, rows, device="cpu", dtype=torch.float64)
    predictions, latents = linear.predict(recordings), linear.transform(recordings)
    for i, (expected, z) in enumerate(zip(predictions, latents)):
        batch = store.batch([(i, 0, store.lengths[i])])
        with torch.no_grad():
            np.testing.assert_allclose(network.encode(batch)[0][0], z, atol=1e-4)
            np.testing.assert_allclose(network.predictive(batch)[0][0], expected, atol=1e-4)


def test_fresh_network_believes_what_the_linear_model_with_behavior_believes(worms):
    recordings = worms[:3]
    network, rows = started(recordings, "normal", (*KINDS, "angle"), shrinkage=100.0)
    model = linear_model(network)
    assert np.abs(model.loadings[network.n_neurons :]).max() > 0.05  # behavior is evidence
    store = RecordingStore(recordings, rows, device="cpu", dtype=torch.float64)
    offset, scale = standardization([r.traces for r in recordings], rows, network.n_neurons)
    for i, (recording, row) in enumerate(zip(recordings, rows)):
        mean, covariance, _ = infer([channels(network, recording, row)], model)[0]
        batch = store.batch([(i, 0, store.lengths[i])])
        with torch.no_grad():
            z, log_variance = network.encode(batch)
            traces, std = network.predictive(batch)
        np.testing.assert_allclose(z[0], mean, atol=1e-6)
        np.testing.assert_allclose(log_variance[0].exp(), np.einsum("tkk->tk", covariance), 1e-5)
        loadings = scale[row, None] * model.loadings[row]
        expected = mean @ loadings.T + offset[row] + scale[row] * model.offset[row]
        np.testing.assert_allclose(traces[0], expected, atol=1e-4)
        spread = np.einsum("nk,tkl,nl->tn", loadings, covariance, loadings)
        expected = spread + scale[row] ** 2 * model.noise[row]
        np.testing.assert_allclose(std[0] ** 2, expected, rtol=1e-3)
