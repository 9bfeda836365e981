"""How the caller has set PyTorch up changes no number, and nothing of it is changed."""

import copy
import pickle
import warnings
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import torch
from isolation_cases import BASELINES, COUNTS, NETWORKS, answers, same_bits
from published import PublishedNetwork
from sklearn.base import clone

from skneurovae import DSAE, FHVAE, LFADS, ContrastiveEmbedding, NeuroBehaviorVAE
from skneurovae.common.isolation import isolated, isolation
from skneurovae.inspection import attribution


@contextmanager
def caller_who(*contexts, dtype=torch.float32, device=None):
    """Somebody who has set all of this."""
    torch.set_default_dtype(dtype)
    torch.set_default_device(device)
    try:
        with ExitStack() as stack:
            for context in contexts:
                stack.enter_context(context())
            yield
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)


def half():
    return torch.autocast("cpu", torch.bfloat16)


# Each of them is seen alone in the test of `isolation` itself.
CALLERS = {
    "no_grad, float64": lambda: caller_who(torch.no_grad, dtype=torch.float64),
    "inference_mode, default device": lambda: caller_who(torch.inference_mode, device="meta"),
    "autocast, float16, with device": lambda: caller_who(
        half, lambda: torch.device("meta"), dtype=torch.float16
    ),
}


def state():
    """All that a fit might change for others; what cannot be compared is shown as text."""
    return {
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": [torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda")],
        "autocast dtype": torch.get_autocast_dtype("cpu"),
        "dtype": torch.get_default_dtype(),
        "device": str(torch.get_default_device()),
        "threads": torch.get_num_threads(),
        "numbers": torch.get_rng_state().tolist(),
        "numpy numbers": np.random.get_state()[1].tolist(),
        "numpy errors": np.geterr(),
        "filters": list(warnings.filters),
        "attention": [
            torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.math_sdp_enabled(),
            torch.backends.cuda.mem_efficient_sdp_enabled(),
        ],
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _loaded():
    """PyTorch imports some of its parts at the first training, and these add filters."""
    NETWORKS["contrastive, time"]().fit(COUNTS)


def fit_and_ask(model):
    model = clone(model).fit(COUNTS)
    found = [model.loss_curve_, model.validation_scores_, answers(model, COUNTS[:1])]
    if hasattr(model, "jacobian"):
        found.append(attribution(model, COUNTS[:1], absolute=False))
    return [*found, model.partial_fit(COUNTS[:2]).transform(COUNTS)]


@pytest.fixture(scope="module", params=NETWORKS)
def case(request):
    """A model, and what a fit of it gives to a caller who has set nothing."""
    model = NETWORKS[request.param]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model, fit_and_ask(model)


@pytest.mark.filterwarnings("ignore")  # of small data
@pytest.mark.parametrize("caller", CALLERS)
def test_what_the_caller_has_set_neither_matters_nor_changes(case, caller):
    model, expected = case
    with CALLERS[caller]():
        before = state()
        found = fit_and_ask(model)
        assert state() == before
    same_bits(found, expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*NETWORKS, *BASELINES])
def test_nothing_that_all_threads_share_is_touched_on_the_way(name, monkeypatch):
    model = {**NETWORKS, **BASELINES}[name]()

    def refuse(name):
        def refused(*args, **kwargs):
            raise AssertionError(f"{name} is for the whole process")

        return refused

    shared = {
        torch: ("manual_seed", "set_rng_state", "seed", "set_default_dtype", "set_default_device",
                "set_num_threads", "use_deterministic_algorithms"),
        np.random: ("seed", "set_state", "rand", "randn", "random"),
        torch.nn.attention: ("sdpa_kernel",),
        np: ("seterr",),
    }  # fmt: skip
    before = state()
    with monkeypatch.context() as patch:
        for module, names in shared.items():
            for attribute in names:
                patch.setattr(module, attribute, refuse(attribute))
        fitted = clone(model).fit(COUNTS)
        answers(fitted, COUNTS[:1])
        copy.deepcopy(pickle.loads(pickle.dumps(fitted)))
    assert state() == before


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", ["precision", "pooled", "contrastive, attention", "lfads", "fhvae"]
)
def test_a_pickle_loads_as_the_same_model_for_every_caller(name):
    model = NETWORKS[name]().fit(COUNTS)
    expected, stored = model.transform(COUNTS), pickle.dumps(model)
    kinds = {name: value.dtype for name, value in model.network_.state_dict().items()}
    for caller in CALLERS.values():
        with caller():
            before = state()
            loaded = [pickle.loads(stored), copy.deepcopy(model)]
            assert state() == before
        for other in loaded:
            same_bits(other.transform(COUNTS), expected)
            weights = other.network_.state_dict()
            assert {name: value.dtype for name, value in weights.items()} == kinds
            assert not any(value.is_inference() for value in weights.values())
    other.partial_fit(COUNTS[:2])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("caller", CALLERS)
def test_a_checkpoint_loads_as_the_same_model_for_every_caller(caller, tmp_path):
    torch.manual_seed(0)
    network = PublishedNetwork(7, 2, 3, model_dim=8, hidden=8, n_layers=2, n_heads=2)
    torch.save({"model_state": network.state_dict()}, tmp_path / "checkpoint.pt")
    named = [r.replace(identities=np.arange(1, 7)) for r in COUNTS]

    def loaded():
        parameters = {"n_heads": 2, "window_length": 8, "behavior_scale": [2.0, 0.5]}
        path = tmp_path / "checkpoint.pt"
        return NeuroBehaviorVAE.from_ceneurovae(path, **parameters)

    expected = answers(loaded(), named)
    with CALLERS[caller]():
        before = state()
        model = loaded()
        found = answers(model, named)
        assert state() == before
    same_bits(found, expected)
    for name, value in network.state_dict().items():
        if name != "pos_encoder.pe":
            assert torch.equal(model.network_.state_dict()[name], value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("caller", CALLERS)
def test_adapting_is_the_same_for_every_caller(caller):
    named = [r.replace(identities=np.array(list("abcdef"))) for r in COUNTS]
    other = [r.replace(identities=np.array(list("uvwxyz"))) for r in COUNTS]
    model = NETWORKS["contrastive, behavior"]().fit(named)

    def adapted():
        return copy.deepcopy(model).adapt(other, max_iter=1).transform(other)

    expected = adapted()
    with CALLERS[caller]():
        same_bits(adapted(), expected)


def is_isolated(method):
    """Whether the decorator is among those of a method."""
    while hasattr(method, "__wrapped__"):
        if method.__code__.co_filename == isolated.__code__.co_filename:
            return True
        method = method.__wrapped__
    return False


@pytest.mark.parametrize("estimator", [NeuroBehaviorVAE, ContrastiveEmbedding, LFADS, DSAE, FHVAE])
def test_every_public_method_is_isolated(estimator):
    free = {  # which compute nothing with PyTorch
        "get_feature_names_out", "get_metadata_routing", "get_params", "paper", "set_callbacks",
        "set_output", "set_params",
    }  # fmt: skip
    for name in dir(estimator):
        method = getattr(estimator, name)
        request = name.startswith("set_") and name.endswith("_request")
        if name.startswith("_") or not callable(method) or request or name in free:
            continue
        assert is_isolated(method), name
    assert is_isolated(estimator.__setstate__)


@pytest.mark.parametrize(
    "context",
    [
        lambda: caller_who(torch.no_grad),
        lambda: caller_who(torch.inference_mode),
        lambda: caller_who(half),
        lambda: caller_who(dtype=torch.float64),
        lambda: caller_who(device="meta"),
        lambda: caller_who(lambda: torch.device("meta")),
        caller_who,
    ],
)
def test_isolation_undoes_each_setting_and_is_put_back_after_an_error(context):
    def fail():
        with isolation():
            weight = torch.tensor([0.5, 2], requires_grad=True)
            product = weight @ weight
            assert (product.dtype, product.device.type) == (torch.float32, "cpu")
            product.backward()
            assert weight.grad.tolist() == [1, 4]
            raise KeyboardInterrupt

    with context():
        before = state()
        with pytest.raises(KeyboardInterrupt):
            fail()
        assert state() == before


@pytest.mark.parametrize("method", ["transform", "predict", "impute"])
def test_a_warning_names_the_line_of_the_caller(method):
    named = [r.replace(identities=np.array(list("abcdef"))) for r in COUNTS]
    model = NETWORKS["pooled"]().fit(named)
    other = [named[0].replace(identities=np.array(list("abcdez")))]
    with pytest.warns(UserWarning, match="Unknown to the model and left out: identities z") as told:
        getattr(model, method)(other)
    assert told[0].filename == __file__
