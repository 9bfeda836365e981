"""Random numbers of one's own: the streams of PyTorch, which nobody else's numbers move."""

import ast
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from skneurovae.common import randomness
from skneurovae.common.randomness import own_defaults, seeded

PACKAGE = Path(randomness.__file__).parents[1]
LIKE = torch.ones(4, 9)


def dropped():
    """Dropout of `LIKE` at 0.3: four entries share a draw, uniform over all 64 bits."""
    draws = torch.empty(9, dtype=torch.int64).random_(-(2**63), None).numpy()
    uniform = (draws.view(np.int16).astype(float) + 2**15) / 2**16
    rate = round(0.3 * 2**16) / 2**16
    return torch.tensor(np.where(uniform < rate, 0, 1 / (1 - rate)).reshape(4, 9)).float()


# What is drawn here, and what PyTorch draws from its global generator.
DRAWS = {
    "rand": (lambda: randomness.rand(4, 9), lambda: torch.rand(4, 9)),
    "rand_like": (lambda: randomness.rand_like(LIKE), lambda: torch.rand_like(LIKE)),
    "uniform": (
        lambda: randomness.uniform(4, 9, low=-2, high=3),
        lambda: torch.empty(4, 9).uniform_(-2, 3),
    ),
    "randn": (
        lambda: randomness.randn(4, 9, dtype=torch.float64),
        lambda: torch.randn(4, 9, dtype=torch.float64),
    ),
    "randn_like": (lambda: randomness.randn_like(LIKE), lambda: torch.randn_like(LIKE)),
    "exponential_like": (
        lambda: randomness.exponential_like(LIKE),
        lambda: torch.empty_like(LIKE).exponential_(),
    ),
    "randint": (lambda: randomness.randint(-3, 8, (5,)), lambda: torch.randint(-3, 8, (5,))),
    "randperm": (lambda: randomness.randperm(50), lambda: torch.randperm(50)),
    "poisson": (lambda: randomness.poisson(5 * LIKE), lambda: torch.poisson(5 * LIKE)),
    "standard_gamma": (
        lambda: randomness.standard_gamma(0.5 * LIKE),
        lambda: torch.distributions.Gamma(0.5 * LIKE, LIKE).sample(),
    ),
    "dropout": (lambda: randomness.dropout(LIKE, 0.3), dropped),
    "Dropout": (lambda: randomness.Dropout(0.3)(LIKE), dropped),
}


@pytest.mark.parametrize("name", DRAWS)
def test_a_seed_gives_the_stream_of_manual_seed_and_leaves_the_global_one(name):
    ours, theirs = DRAWS[name]
    torch.manual_seed(8)
    before = torch.get_rng_state()
    with seeded(3):
        found = [ours(), ours()]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(3)
    for value in found:
        assert torch.equal(value, theirs())


@pytest.mark.parametrize("name", DRAWS)
def test_without_a_seed_the_global_generator_is_drawn_from(name):
    ours, theirs = DRAWS[name]
    torch.manual_seed(3)
    found = ours()
    torch.manual_seed(3)
    assert torch.equal(found, theirs())


def test_every_draw_of_randomness_is_tested_here():
    others = {"generator_on", "own_defaults", "seeded"}
    assert set(DRAWS) == set(randomness.__all__) - others


def test_dropout_of_none_and_of_all():
    with seeded(0):
        assert randomness.dropout(LIKE, 0.3, training=False) is LIKE
        assert randomness.dropout(LIKE, 0.0) is LIKE
        assert not randomness.dropout(LIKE, 1.0).any()
        assert randomness.Dropout(0.3).eval()(LIKE) is LIKE
        assert torch.isfinite(randomness.dropout(LIKE, 1 - 1e-9)).all()


def test_seeds_nest_and_are_put_back_after_an_error():
    with pytest.raises(ZeroDivisionError), seeded(0):
        randomness.rand(int(randomness.rand(3).sum()) // 0)
    assert randomness.generator_on("cpu") is None
    with seeded(0):
        expected = randomness.rand(4)
    with seeded(0):
        parts = [randomness.rand(2)]
        with seeded(1):
            randomness.rand(7)
        parts.append(randomness.rand(2))
    assert torch.equal(torch.cat(parts), expected)


def test_each_thread_has_its_own_seed():
    found, barrier = {}, threading.Barrier(3)

    def draw(seed):
        with seeded(seed):
            barrier.wait()  # all have begun before one draws
            found[seed] = torch.cat([randomness.rand(2) for _ in range(50)])

    threads = [threading.Thread(target=draw, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, value in found.items():
        generator = torch.Generator().manual_seed(seed)
        expected = torch.cat([torch.rand(2, generator=generator) for _ in range(50)])
        assert torch.equal(value, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_seed_on_cuda_is_one_stream_by_any_name():
    state = torch.cuda.get_rng_state()
    generator = torch.Generator("cuda").manual_seed(0)
    expected = [torch.rand(3, device="cuda", generator=generator) for _ in range(2)]
    with seeded(0):
        found = [randomness.rand(3, device="cuda")]
        found.append(randomness.rand_like(found[0]))  # of a tensor on "cuda:0"
    assert torch.equal(torch.stack(found), torch.stack(expected))
    assert torch.equal(torch.cuda.get_rng_state(), state)


# -- layers ------------------------------------------------------------------------------------


def layers():
    return nn.ModuleList([
        nn.Linear(3, 4), nn.Embedding(5, 2), nn.GRU(2, 3), nn.LSTM(2, 3, 2), nn.RNN(2, 3),
        nn.LayerNorm(3), nn.MultiheadAttention(4, 2), nn.TransformerEncoderLayer(4, 2, 8),
        nn.ParameterList([torch.full((2,), 0.1), torch.tensor([0.1, 1]), torch.arange(0, 1, 0.3)]),
    ])  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_layers_are_made_in_float32_on_the_cpu_from_the_seed(dtype, device):
    torch.manual_seed(4)
    expected = layers().state_dict()
    state = torch.get_rng_state()
    try:
        torch.set_default_dtype(dtype)
        with torch.device(device), seeded(4), own_defaults():
            made = layers().state_dict()
            number = torch.tensor(3)
            double = torch.as_tensor(LIKE.double())
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(torch.float32)
    for name, value in made.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, expected[name]), name
    assert (number.dtype, number.device.type) == (torch.int64, "cpu")
    assert (double.dtype, double.device.type) == (torch.float64, "cpu")
    assert torch.equal(torch.get_rng_state(), state)


# -- no other draws ----------------------------------------------------------------------------

FOREIGN = {
    "torch": {
        "rand", "randn", "rand_like", "randn_like", "randint", "randint_like", "randperm",
        "normal", "poisson", "bernoulli", "multinomial", "manual_seed", "seed", "set_rng_state",
        "set_default_dtype", "set_default_device", "set_num_threads", "distributions",
    },
    "F": {"dropout", "alpha_dropout", "gumbel_softmax", "rrelu"},
    "nn": {"Dropout", "AlphaDropout", "RReLU"},
    "warnings": {"catch_warnings", "simplefilter", "filterwarnings", "resetwarnings"},
    None: {
        "normal_", "uniform_", "exponential_", "bernoulli_", "random_", "geometric_", "cauchy_",
        "log_normal_", "threadpool_limits", "sdpa_kernel", "set_rng_state", "manual_seed",
    },
}  # fmt: skip
ALLOWED = {
    "networks/recurrent.py": {"normal_"},  # layers are made under `own_defaults`
    "model_selection/own_warnings.py": {"simplefilter"},  # one filter for all that record
}


@pytest.mark.parametrize(
    "path",
    [p for p in PACKAGE.rglob("*.py") if p.name != "randomness.py"],
    ids=lambda p: str(p.relative_to(PACKAGE)),
)
def test_nothing_else_draws_or_changes_what_all_threads_share(path):
    allowed = ALLOWED.get(str(path.relative_to(PACKAGE)), set())
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else None
            found = {node.attr} & (FOREIGN.get(owner, set()) | FOREIGN[None])
        elif isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
            root = (node.module or "").split(".")[0]
            found = names & (FOREIGN.get(root, set()) | FOREIGN[None])
        else:
            continue
        assert found <= allowed, f"{path.name}:{node.lineno} uses {found}"
