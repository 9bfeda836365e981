"""Wrong calls of ContrastiveEmbedding: one line that names the argument."""

import numpy as np
import pytest

from skneurovae import ContrastiveEmbedding, Recording
from skneurovae.inspection import attribution

X = np.random.default_rng(0).standard_normal((80, 5))
B = np.random.default_rng(1).random((80, 2))
PART = {"conditional": "time", "components": (0, 2)}


def model(**parameters):
    return ContrastiveEmbedding(2, max_iter=1, steps_per_epoch=1, batch_size=16, **parameters)


WRONG = {
    "conditional": ({"conditional": "bogus"}, "conditional must be one of .*'bogus'"),
    "no delta": ({"conditional": "delta"}, "conditional='delta' needs delta"),
    "delta in vain": ({"delta": 0.1}, "delta=0.1 needs conditional='delta'"),
    "offset in vain": (
        {"conditional": "delta", "delta": 1.0, "time_offset": 2}, "time_offset has no meaning",
    ),
    "offset of 0": ({"time_offset": [0, 1]}, "time_offset must be positive"),
    "channel": ({"discrete": (2,)}, "discrete must be 'all' or channels below 2"),
    "negative channel": ({"discrete": (-1,)}, "discrete must be"),
    "period": ({"circular": {0: 0.0}}, "circular must be .* positive periods"),
    "both": ({"circular": {0: 1.0}, "discrete": [0]}, "channel 0 is in discrete and in circular"),
    "labels of time": ({"conditional": "time", "discrete": [0]}, "discrete=.*no part uses"),
    "circle of time": ({"conditional": "time", "circular": {0: 1.0}}, "circular=.*no part uses"),
    "prior in vain": ({"prior": "uniform"}, "prior='uniform' needs .*discrete"),
    "not all labels": ({"conditional": "discrete", "discrete": [0]}, "needs all its channels"),
    "no numbers": (
        {"conditional": "time_delta", "discrete": "all"}, "needs a channel that is not in discrete",
    ),
    "gamma in vain": ({"gamma": 1.0}, "gamma=1.0 has no meaning"),
    "floor in vain": ({"min_temperature": 0.2}, "min_temperature has no meaning"),
    "below the floor": (
        {"learn_temperature": True, "temperature": 0.05}, "temperature=0.05 is below",
    ),
    "heads in vain": ({"n_heads": 2}, "n_heads=2 has no meaning for network='offset10'"),
    "dropout in vain": ({"dropout": 0.1}, "dropout=0.1 has no meaning"),
    "width in vain": ({"network": "linear", "hidden_dim": 8}, "hidden_dim=8 has no meaning"),
    "odd heads": ({"network": "attention", "n_heads": 3}, "n_heads=3 must divide hidden_dim=32"),
    "no parts": ({"conditional": []}, "conditional is an empty list"),
    "no dict": ({"conditional": ["time"]}, "part 0 of conditional must be a dict"),
    "odd key": ({"conditional": [{**PART, "colour": 1}]}, "part 0 of conditional must be a dict"),
    "components": ({"conditional": [{**PART, "components": (0, 3)}]}, "components of part 0"),
    "idle component": (
        {"conditional": [{**PART, "components": (0, 1)}]}, "leave out component 1",
    ),
    "weight": ({"conditional": [{**PART, "weight": 0}]}, "weight of part 0"),
    "channels of time": ({"conditional": [{**PART, "channels": (0,)}]}, "channels of part 0"),
    "delta of time": ({"conditional": [{**PART, "delta": 1.0}]}, "delta of part 0 has no meaning"),
    "too long an offset": ({"conditional": "time", "time_offset": 200}, "time_offset=200 needs"),
    "temperature": ({"temperature": 0.0}, "temperature"),
    "network": ({"network": "offset11"}, "network"),
}  # fmt: skip


@pytest.mark.parametrize(("parameters", "message"), WRONG.values(), ids=WRONG)
def test_wrong_parameters(parameters, message):
    with pytest.raises(ValueError, match=message) as error:
        model(**parameters).fit(X, behavior=B)
    assert "\n" not in str(error.value)


CALLS = {
    "no behavior": (lambda: model(conditional="time_delta").fit(X), "needs behavior"),
    "hybrid without": (lambda: model(conditional="hybrid").fit(X), "needs behavior"),
    "hybrid of one": (
        lambda: ContrastiveEmbedding(1, conditional="hybrid").fit(X, behavior=B), "n_components",
    ),
    "stimulus": (lambda: model().fit(X, stimulus=B), "stimulus is not used"),
    "labels without discrete": (
        lambda: model().fit(X, behavior=np.array(["a", "b"] * 40)), "channel 0 holds the label 'a'",
    ),
    "score without behavior": (
        lambda: model().fit(X, behavior=B).score(X), "needs behavior, and no recording has it",
    ),
    "behavior of other width": (
        lambda: model().fit(X, behavior=B).transform(X, behavior=B[:, 0]), "1 channels",
    ),
    "all behavior missing": (lambda: model().fit(X, behavior=B * np.nan), "finds no pair"),
    "another network": (
        lambda: model().fit(X).set_params(network="offset5").partial_fit(X), "network is 'offset5'",
    ),
    "y and behavior": (lambda: model().fit(X, B, behavior=B), "y and behavior= both hold what"),
    "y and behavior of recordings": (
        lambda: model().fit([Recording(X, behavior=B)], [B]), "y and the recordings both hold what",
    ),
    "y twice, of a score": (
        lambda: model().fit(X, B).score(X, B, behavior=B), "y and behavior= both hold what",
    ),
    "y of other length": (lambda: model().fit(X, B[1:]), r"^y of recording 0 must have shape"),
    "y of fewer recordings": (lambda: model().fit([X, X], [B]), "y has 1 entries; X has 2"),
    "y of other width": (
        lambda: model().fit(X, B).partial_fit(X, B[:, 0]), "^y of recording 0 has 1 channels",
    ),
    "infinite y": (lambda: model().fit(X, B * np.inf), "^y of recording 0 holds infinity"),
    "places without numbers": (
        lambda: model(conditional="time_delta").fit(X, ["a", "b"] * 40), "not in discrete",
    ),
    "no epochs": (lambda: model().fit(X).adapt(X, max_iter=0), "max_iter must be"),
    "not fitted": (lambda: model().adapt(X), "not fitted"),
    "signs": (lambda: attribution(model().fit(X), X, inverse=True), "needs absolute=False"),
    "width": (lambda: model().fit(X).transform(X[:, :3]), "3 features"),
    "sessions": (
        lambda: model().fit([Recording(X, session="a")]).transform([Recording(X, session="b")]),
        "no neuron of recording 0 is known",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), CALLS.values(), ids=CALLS)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_estimator_without_jacobian_has_no_attribution():
    with pytest.raises(TypeError, match="has no jacobian"):
        attribution(object(), X)
