"""Checkpoints of CeNeuroVAE that are not: one line each, and nothing in them is executed."""

import os
import pickle
import re

import numpy as np
import pytest
import torch
from published import PublishedNetwork

from skneurovae import NeuroBehaviorVAE

NETWORK = PublishedNetwork(5, 2, 3, model_dim=16, hidden=8, n_layers=2, n_heads=2)
STATE = {name: value.detach().clone() for name, value in NETWORK.state_dict().items()}
KINDS = ValueError, TypeError, FileNotFoundError


def load(checkpoint, **parameters):
    return NeuroBehaviorVAE.from_ceneurovae(checkpoint, **{"n_heads": 2, **parameters})


def refuses(checkpoint, message, **parameters):
    with pytest.raises(KINDS, match=message) as caught:
        load(checkpoint, **parameters)
    assert type(caught.value) in KINDS or "InvalidParameter" in type(caught.value).__name__
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert len(text) < 400
    return text


def spoiled(value, entry, number):
    value = value.clone()
    value.view(-1)[entry % value.numel()] = number
    return value


MUTATIONS = {
    "missing": None,
    "transposed": lambda v: v.T.contiguous() if v.ndim == 2 else v[None],
    "one dimension more": lambda v: v[None].contiguous(),
    "flat": lambda v: v.flatten() if v.ndim != 1 else v[:, None],
    "scalar": lambda v: v.flatten()[0].clone(),
    "one too few": lambda v: v[..., :-1].contiguous(),
    "one too many": lambda v: torch.cat([v, v[..., :1]], -1),
    "empty": lambda v: v[..., :0],
    "integers": lambda v: v.long(),
    "booleans": lambda v: v > 0,
    "complex": lambda v: v.to(torch.complex64),
    "NaN": lambda v: spoiled(v, 0, torch.nan),
    "infinite": lambda v: spoiled(v, 3, -torch.inf),
    "too large for 32 bits": lambda v: spoiled(v.double(), 1, 1e300),
    "array": lambda v: v.numpy(),
    "list": lambda v: v.tolist(),
    "nothing": lambda v: None,
    "dict": lambda v: {"weight": v},
    "no values": lambda v: v.to("meta"),
    "sparse": lambda v: v.to_sparse(),
    "repeated": lambda v: v.flatten()[:1].clone().expand(v.numel()).view(v.shape),
}  # fmt: skip
# No change: what is square, or one number.
EXCEPT = {
    ("transposed", name) for name, value in STATE.items() if value.shape[:1] == value.shape[1:]
}
EXCEPT |= {("repeated", name) for name, value in STATE.items() if value.numel() == 1}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_every_layer_is_checked(mutation):
    change = MUTATIONS[mutation]
    for name, value in STATE.items():
        state = dict(STATE)
        if change is None:
            del state[name]
        else:
            state[name] = change(value)
        if (mutation, name) not in EXCEPT:
            refuses(state, "^checkpoint (lacks|differs|has)")


def test_layers_of_other_networks_are_refused():
    for state, message in [
        ({**STATE, "extra.weight": torch.ones(2)}, "1 layers that .* lacks, such as extra.weight"),
        ({**STATE, "a\nb": torch.ones(2)}, r"lacks, such as 'a\\nb'"),
        ({**STATE, 3: torch.ones(2)}, "a layer whose name is no string: 3"),
        ({**STATE, "encoder.layers.5.norm1.bias": torch.ones(16)}, "lacks encoder.layers.2"),
        ({**STATE, "encoder.layers.x.norm1.bias": torch.ones(16)}, "lacks encoder.layers.2"),
        ({**STATE, "encoder.layers.": torch.ones(16)}, "lacks encoder.layers.2"),
        ({f"module.{n}": v for n, v in STATE.items()}, "is not a CeNeuroVAE checkpoint"),
        ({"model_state": {"model_state": STATE}}, "is not a CeNeuroVAE checkpoint"),
        ({"model_state": list(STATE)}, "is not a CeNeuroVAE checkpoint"),
        ({"model_state": None}, "is not a CeNeuroVAE checkpoint"),
        ({}, "is not a CeNeuroVAE checkpoint"),
        ({"id_embed": {"weight": torch.ones(5, 32)}}, "is not a CeNeuroVAE checkpoint"),
        ({**STATE, "id_embed.weight": torch.ones(1, 32)}, "checkpoint knows no identity"),
        ({**STATE, "id_embed.weight": torch.ones(0, 32)}, "checkpoint knows no identity"),
    ]:
        refuses(state, message)


def test_sizes_that_fit_no_memory_are_refused():
    """A few bytes that claim to be 2**40 rows."""
    row = torch.ones(1, 32)
    refuses({**STATE, "id_embed.weight": row.expand(2**40, 32)}, "share or repeat their values")
    wide = torch.ones(1).expand(2**30)
    refuses({**STATE, "combined_proj.0.bias": wide}, "share or repeat their values")
    # A few megabytes that ask for hundreds of gigabytes in the other layers.
    wide = {
        "combined_proj.0.weight": torch.ones(2**17, 96), "combined_proj.0.bias": torch.ones(2**17),
    }  # fmt: skip
    refuses({**STATE, **wide}, "pos_encoder.pe has shape .1, 2000, 16.; .1, any, 131072. is needed")
    refuses({**STATE, "to_logvar.weight": STATE["to_mu.weight"]}, "share or repeat their values")


def test_a_state_may_share_one_buffer_or_be_of_another_precision():
    flat = torch.cat([value.flatten() for value in STATE.values()])
    parts = flat.split([value.numel() for value in STATE.values()])
    views = {n: p.view(v.shape) for (n, v), p in zip(STATE.items(), parts)}
    for state in (views, {n: v.double() for n, v in STATE.items()}, NETWORK.state_dict(),
                  dict(NETWORK.named_parameters()) | dict(NETWORK.named_buffers())):  # fmt: skip
        network = load(state).network_
        assert all(
            torch.equal(network.state_dict()[n], v) for n, v in STATE.items() if "pe" not in n
        )
    half = load({n: v.half() for n, v in STATE.items()}).network_.to_mu.weight
    assert torch.equal(half, STATE["to_mu.weight"].half().float())


@pytest.mark.parametrize(
    ("identities", "message"),
    [
        ("abcd", "identities must be a sequence of names, got abcd"),
        (b"abcd", "identities must be a sequence of names"),
        (4, "identities must be a sequence of names, got 4"),
        (["a", "b", "c"], "identities has 3 names; the checkpoint knows 4"),
        (["a", "b", "c", "d", "e"], "identities has 5 names; the checkpoint knows 4"),
        ([], "identities has 0 names; the checkpoint knows 4"),
        (["a", "b", "c", "c"], "identities holds a name twice"),
        ([1, 2, 3, 3], "identities holds a name twice"),
        (["a", "b", "c", 4], "identities must be all strings or all integers.* got a among"),
        ([1.0, 2.0, 3.0, 4.0], "identities must be all strings or all integers.* got 1.0"),
        ([1, 2, 3, None], "identities must be all strings or all integers.* got None"),
        ([1, 2, 3, np.nan], "identities must be .* got nan"),
        ([1, 2, 3, True], "identities must be .* got True"),
        ([1, 2, 3, -4], "identities must be .* got -4"),
        ([1, 2, 3, 2**63], "identities must be .* got 9223372036854775808"),
        ([b"a", b"b", b"c", b"d"], "identities must be .* got b'a'"),
        ([["a"], ["b"], ["c"], ["d"]], "identities must be .* got"),
        (np.ones((4, 2)), "identities must be .* got"),
        (["a\nb" * 99, 1, 2, 3], "identities must be .* got"),
    ],
    ids=repr,
)  # fmt: skip
def test_identities_are_names_of_one_kind(identities, message):
    refuses(STATE, message, identities=identities)


@pytest.mark.parametrize(
    "identities",
    [["a", "", "", "d"], [5, 0, 0, 2**62], np.array([4, 3, 2, 1], np.uint8), ("é", "b", "c", "d")],
    ids=repr,
)
def test_identities_of_one_kind_are_taken(identities):
    known = load(STATE, identities=identities).identities_
    assert [known[i + 1] for i in range(4) if identities[i]] == [n for n in identities if n]


@pytest.mark.parametrize(
    "scale",
    [[1.0], [1.0, 2.0, 3.0], [[1.0, 2.0]], 1.0, [1, 0], [1, -1], [1, np.nan], [1, np.inf],
     [1, 1e-60], [1, 1e60], ["1", "2"], "12", [1, None], [1, 2j], [True, True], [[1], [2, 3]],
     torch.ones(2, requires_grad=True), np.ones(1000)],
    ids=repr,
)  # fmt: skip
def test_units_of_behavior_are_positive_numbers(scale):
    refuses(STATE, "behavior_scale must be 2 positive numbers", behavior_scale=scale)


@pytest.mark.parametrize("scale", [[1, 2], np.float64([1, 2]), torch.tensor([1.0, 2])], ids=repr)
def test_units_of_behavior_are_taken(scale):
    network = load(STATE, behavior_scale=scale).network_
    assert network.behavior_scale.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_heads": 3}, "n_heads=3 must divide model_dim=16"),
        ({"n_heads": 32}, "n_heads=32 must divide model_dim=16"),
        ({"n_heads": 0}, "n_heads"),
        ({"n_heads": 2.0}, "n_heads"),
        ({"n_components": 3}, "n_components is told by the checkpoint"),
        ({"model_dim": 16}, "model_dim is told by the checkpoint"),
        ({"n_layers": 1}, "n_layers is told by the checkpoint"),
        ({"hidden_dim": 8}, "hidden_dim is told by the checkpoint"),
        ({"neuron_encoder": "precision"}, "neuron_encoder of a CeNeuroVAE checkpoint is 'pooled'"),
        ({"window": 8}, "window"),
        ({"window_length": 0}, "window_length"),
        ({"device": "abacus"}, "device"),
    ],
    ids=repr,
)
def test_parameters_fit_the_checkpoint(parameters, message):
    refuses(STATE, message, **parameters)


def test_files_that_are_no_checkpoints(tmp_path):
    empty, text, half = (tmp_path / name for name in ("empty.pt", "text.pt", "half.pt"))
    empty.touch()
    text.write_text("weights\nof a network")
    torch.save(STATE, half)
    half.write_bytes(half.read_bytes()[:2000])
    for path in (empty, text, half):
        for form in (path, str(path)):
            start = re.escape(str(path)[:40])  # long paths are cut off
            refuses(form, f"checkpoint is not a file of PyTorch weights: {start}")
    for missing in (tmp_path, tmp_path / "missing.pt", str(tmp_path / "a" / "b.pt"), "", "a\nb"):
        refuses(missing, "checkpoint: there is no file")
    for odd in (None, 3, [1, 2], b"path", NETWORK, torch.ones(3), {1, 2}):
        refuses(odd, "checkpoint must be a path or a dict, got")
    for content in (3, [STATE], torch.ones(3), {}, {"weights": 1}, {"model_state": {}}):
        torch.save(content, empty)
        refuses(empty, "checkpoint is not a CeNeuroVAE checkpoint: .*")


class Harmful:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_malicious_checkpoints_execute_nothing(tmp_path):
    folder, path = tmp_path / "harm", tmp_path / "checkpoint.pt"
    for content in (Harmful(folder), {**STATE, "x": Harmful(folder)}, {"epoch": Harmful(folder)}):
        torch.save(content, path)
        refuses(path, "checkpoint is not a file of PyTorch weights")
        torch.save(content, path, _use_new_zipfile_serialization=False)
        refuses(path, "checkpoint is not a file of PyTorch weights")
        path.write_bytes(pickle.dumps(content, protocol=2))
        refuses(path, "checkpoint is not a file of PyTorch weights")
    assert not folder.exists()
    pickle.loads(pickle.dumps(Harmful(folder)))  # it would
    assert folder.exists()


def test_mutated_files_load_or_are_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save(STATE, path)
    valid = path.read_bytes()
    outcomes = []
    for seed in range(100):
        random = np.random.RandomState(seed)
        raw = np.frombuffer(valid, np.uint8).copy()
        # Half of them where the pickle is, which is a small part of the file.
        last = [len(raw), 6000][seed % 2]
        places = random.randint(last, size=random.choice([1, 4, 16]))
        raw[places] = random.randint(256, size=len(places))
        path.write_bytes(raw.tobytes())
        try:
            load(path)
        except KINDS as error:
            outcomes.append(str(error))
        else:
            outcomes.append(None)
    assert None in outcomes
    assert all(len(text.splitlines()) == 1 for text in outcomes if text)
    assert any(outcomes)
