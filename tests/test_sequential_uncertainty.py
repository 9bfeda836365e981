"""Standard deviations that sequential models tell, against draws made by hand."""

import numpy as np
import pytest
import torch
from sequential_cases import MODELS, rates_of, spikes, stirred

from skneurovae.recordings import check_recordings

TRIALS = spikes(3, (10, 10))
NAMES = ["lfads", "lfads causal", "lfads without controller", "dsae full", "dsae ar1", "fhvae"]


@pytest.fixture(scope="module", params=NAMES)
def told(request):
    """A model whose spreads are far from 1, what it tells, its network, and a function that runs
    the network with noise of f and z given."""
    model = MODELS[request.param](max_iter=1, n_samples=4000).fit(TRIALS)
    stirred(model, 0.2)
    recordings, _ = check_recordings(TRIALS)
    rows = model._vocabulary.rows(recordings)
    named = model.infer(TRIALS)
    network = model.network_.double()
    store = model._store(recordings, rows, torch.device("cpu"), torch.float64)
    batch = store.batch([(i, 0, 10) for i in range(3)])

    def run(f, z):
        each = len(f) // 3 if f is not None else len(z) // 3 if z is not None else 1
        values, valid, stimulus = (
            v.repeat_interleave(each, 0)
            for v in (network.inputs(batch)[0], batch.valid, network.stimulus(batch))
        )
        with torch.no_grad():
            return network.run(values, valid, stimulus, f, z)

    return model, {k: np.array(v) for k, v in named.items()}, network, batch, run


def test_spreads_of_latents_are_what_unit_noise_moves_them_by(told):
    model, named, network, batch, run = told
    static, dynamic = model._names["static"], model._names["dynamic"]
    mean = run(None, None)
    f = run(torch.ones(3, 2, dtype=torch.float64), None)
    moved = f.static_sample - mean.static_sample
    np.testing.assert_allclose(named[f"{static}_std"], moved)
    np.testing.assert_allclose(named[f"{static}_mean"], mean.static_sample)
    assert (moved.log().abs() > 0.1).any()  # where a root or a square would show
    n_steps = network._steps(batch.valid).shape[1]
    for t in range(n_steps):  # alone, since what a controller infers follows from what it inferred
        noise = torch.zeros(3, n_steps, model.dynamic_dim, dtype=torch.float64)
        noise[:, t] = 1
        moved = (run(None, noise).sample - mean.sample)[:, t]
        steps = slice(None) if n_steps == 1 else slice(t, t + 1)
        found = named[f"{dynamic}_std"][:, steps]
        np.testing.assert_allclose(found, moved[:, None].expand(*found.shape))
        assert not model.dynamic_dim or t < network.first_dynamic or (moved.log().abs() > 0.1).any()


def test_spreads_of_rates_and_factors_are_those_of_draws(told):
    _, named, network, batch, run = told
    torch.manual_seed(1)
    n, steps = 4000, network._steps(batch.valid).shape[1]
    f = torch.randn(3 * n, 2, dtype=torch.float64)
    z = torch.randn(3 * n, steps, network.dynamic_dim, dtype=torch.float64)
    factors = run(f, z).factors.unflatten(0, (3, n))
    log_rates = (factors @ network.read_out.T + network.bias).detach()
    rates = torch.from_numpy(rates_of(log_rates.numpy(), TRIALS))
    around = factors - run(None, None).factors[:, None]
    for name, found in [
        ("rates", rates.mean(1)), ("rates_std", rates.std(1)),
        ("factors_std", around.square().mean(1).sqrt()),
    ]:  # fmt: skip
        np.testing.assert_allclose(named[name], found, rtol=0.15)
        assert abs(named[name] / found.numpy() - 1).mean() < 0.03


def test_the_same_spreads_are_told_by_transform_and_predict(told):
    model, named, *_ = told
    factors, spread = model.transform(TRIALS, return_std=True)
    np.testing.assert_allclose(factors, named["factors"])
    np.testing.assert_allclose(spread, named["factors_std"])
    rates, spread = model.predict(TRIALS, return_std=True)
    np.testing.assert_allclose(rates, named["rates"])
    # A Poisson count varies by its rate, which varies over samples of the posterior.
    np.testing.assert_allclose(np.square(spread), named["rates"] + named["rates_std"] ** 2)
