"""Checkpoints of CeNeuroVAE as fitted estimators."""

from __future__ import annotations

import os
from numbers import Integral
from pathlib import Path

import numpy as np
import torch

from skneurovae.common.parameters import plain
from skneurovae.common.randomness import seeded
from skneurovae.recordings import NeuronVocabulary, Recording
from skneurovae.training import resolve_device

TOLD = ("n_components", "model_dim", "n_layers", "hidden_dim")  # by the checkpoint
POSITIONS = "pos_encoder.pe"  # a table of any length, which the network computes itself
TOKEN_DIM, EMBEDDING_DIM = 64, 32  # as published
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def load_ceneurovae(estimator_class, checkpoint, identities, behavior_scale, parameters):
    """Build a fitted `estimator_class`; see `NeuroBehaviorVAE.from_ceneurovae`."""
    if (given := parameters.pop("neuron_encoder", "pooled")) != "pooled":
        raise ValueError(f"neuron_encoder of a CeNeuroVAE checkpoint is 'pooled', got {given!r}.")
    for name in TOLD:
        if name in parameters:
            raise TypeError(f"{name} is told by the checkpoint; it must not be given.")
    state = _read_checkpoint(checkpoint)
    names = _check_identities(identities, len(state["id_embed.weight"]) - 1)
    layers = {key.split(".")[2] for key in state if key.startswith("encoder.layers.")}
    model = estimator_class(
        len(state["to_mu.bias"]),
        neuron_encoder="pooled",
        model_dim=len(state["combined_proj.0.bias"]),
        n_layers=len(layers),
        hidden_dim=len(state["dec_time.0.bias"]),
        **plain(parameters),
    )
    model._validate_params()
    model._fix_parameters()
    model.n_behaviors_in_ = state["beh_proj.0.weight"].shape[1]
    model.n_stimuli_in_ = 0
    model._check_parameters()
    if model.normalize == "recording":
        raise ValueError(
            "normalize='recording' needs recordings, which a checkpoint does not hold."
        )
    model.n_components_, model.normalize_ = model.n_components, "identity"
    model.likelihood_ = "gaussian" if model.likelihood == "auto" else model.likelihood
    model.behavior_kind_ = ("linear",) * model.n_behaviors_in_
    # Row 0 of the checkpoint stands for every unlabelled neuron; here it belongs to none.
    model._vocabulary = NeuronVocabulary()
    labels = np.array([type(names[0])(), *names], dtype=object)
    model._vocabulary.extend(
        [Recording(np.zeros((1, len(labels))), identities=labels, session="unlabelled")]
    )
    model.identities_ = model._vocabulary.labels
    model.neuron_scale_ = np.full(len(labels), np.nan)  # which a checkpoint does not tell
    model._arguments = model._network_arguments()
    _check_shapes(state, model._arguments)
    for name, value in state.items():
        if not torch.isfinite(value.float()).all():
            raise ValueError(f"checkpoint has NaN or infinity in {name}; finite is needed.")
    with seeded(0):  # what is drawn is written over
        network = model._new_network(model._arguments)
    network.load_state_dict(state)
    if behavior_scale is not None:
        scale = _check_scale(behavior_scale, model.n_behaviors_in_)
        network.behavior_scale.copy_(torch.as_tensor(scale))
    model.network_, model._device = network.eval(), str(resolve_device(model.device))
    return model


def _read_checkpoint(checkpoint):
    """Tensors by name, with those that tell the sizes in their form."""
    state = checkpoint
    if isinstance(checkpoint, (str, os.PathLike)):
        if not Path(checkpoint).is_file():
            raise FileNotFoundError(f"checkpoint: there is no file {_shown(checkpoint)}.")
        try:
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        except OSError:
            raise
        except Exception as error:  # many kinds, in many lines, for files of other formats
            raise ValueError(
                f"checkpoint is not a file of PyTorch weights: {_shown(checkpoint)}"
            ) from error
    elif not isinstance(checkpoint, dict):
        raise TypeError(f"checkpoint must be a path or a dict, got {type(checkpoint).__name__}.")
    state = state.get("model_state", state) if isinstance(state, dict) else None
    layers = "id_embed", "to_mu", "beh_proj.0", "combined_proj.0", "dec_time.0"
    if not isinstance(state, dict) or not any(f"{layer}.weight" in state for layer in layers):
        what = f"dict of {list(checkpoint)[:5]}" if isinstance(checkpoint, dict) else checkpoint
        raise ValueError(f"checkpoint is not a CeNeuroVAE checkpoint: {_shown(what)}")
    for name, value in state.items():
        if not isinstance(name, str):
            raise ValueError(f"checkpoint has a layer whose name is no string: {_shown(name)}.")
        plain = isinstance(value, torch.Tensor) and value.layout == torch.strided
        if not plain or value.is_meta or value.dtype not in FLOATS:
            what = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
            raise ValueError(
                f"checkpoint has {_shown(name)} of {what}; a dense tensor of floats is needed."
            )
    # Tensors that repeat a few stored values may claim any size.
    stored = {v.untyped_storage().data_ptr(): v.untyped_storage().nbytes() for v in state.values()}
    if sum(v.numel() * v.element_size() for v in state.values()) > sum(stored.values()):
        raise ValueError("checkpoint has tensors that share or repeat their values; copy them.")
    for layer in layers:
        _check_shape(f"{layer}.weight", state, (None, None))
        if layer != "id_embed":
            _check_shape(f"{layer}.bias", state, (len(state[f"{layer}.weight"]),))
    return dict(state)


def _check_shape(name, state, needed):
    """Refuse a missing tensor or one of another shape, in which None = any length."""
    if name not in state:
        raise ValueError(f"checkpoint lacks {_shown(name)} of the published layers.")
    found = tuple(state[name].shape)
    if len(found) != len(needed) or any(n not in (None, m) for n, m in zip(needed, found)):
        shape = ", ".join("any" if n is None else str(n) for n in needed)
        raise ValueError(
            f"checkpoint differs from the published layers: {_shown(name)} has shape {found}; "
            f"({shape}) is needed."
        )


def _check_shapes(state, sizes):
    """Compare names and shapes with those of the published layers, before any is made."""
    needed = _published_shapes(sizes)
    for name, shape in needed.items():
        _check_shape(name, state, shape)
    extra = [name for name in state if name not in needed]
    if extra:
        raise ValueError(
            f"checkpoint has {len(extra)} layers that the published network lacks, such as "
            f"{_shown(extra[0])}."
        )


def _published_shapes(sizes):
    """Shapes of all tensors of a checkpoint by name, None = any length."""
    dim, hidden = sizes["model_dim"], sizes["decoder_hidden"]
    n_components, n_behaviors = sizes["n_components"], sizes["n_behaviors"]
    behavior_dim = max(32, dim // 16)
    linear = {
        "neuron_scalar_mlp.0": (TOKEN_DIM, 1),
        "neuron_scalar_mlp.2": (TOKEN_DIM, TOKEN_DIM),
        "beh_proj.0": (behavior_dim, n_behaviors),
        "combined_proj.0": (dim, TOKEN_DIM + behavior_dim),
        "to_mu": (n_components, dim),
        "to_logvar": (n_components, dim),
        "id_to_affine": (2, EMBEDDING_DIM),
        "dec_time.0": (hidden, n_components + n_behaviors),
        "dec_time.2": (hidden, hidden),
        "neuron_head.0": (hidden, hidden + EMBEDDING_DIM),
        "neuron_head.2": (1, hidden),
    }
    shapes = {POSITIONS: (1, None, dim), "id_embed.weight": (sizes["n_neurons"], EMBEDDING_DIM)}
    for number in range(sizes["n_layers"]):
        layer = f"encoder.layers.{number}"
        linear[f"{layer}.self_attn.out_proj"] = (dim, dim)
        linear[f"{layer}.linear1"], linear[f"{layer}.linear2"] = (4 * dim, dim), (dim, 4 * dim)
        shapes[f"{layer}.self_attn.in_proj_weight"] = (3 * dim, dim)
        shapes[f"{layer}.self_attn.in_proj_bias"] = (3 * dim,)
        for norm in ("norm1", "norm2"):
            shapes[f"{layer}.{norm}.weight"] = shapes[f"{layer}.{norm}.bias"] = (dim,)
    for name, (n_outputs, n_inputs) in linear.items():
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (n_outputs, n_inputs), (n_outputs,)
    return shapes


def _check_identities(identities, n_known):
    """Names as a list of str or of int, one per identity that the checkpoint knows."""
    if n_known < 1:
        raise ValueError("checkpoint knows no identity: id_embed.weight needs two rows or more.")
    if identities is None:
        return list(range(1, n_known + 1))
    if isinstance(identities, (str, bytes)) or not hasattr(identities, "__iter__"):
        raise TypeError(f"identities must be a sequence of names, got {_shown(identities)}.")
    names = np.array(list(identities), dtype=object).tolist()
    if len(names) != n_known:
        raise ValueError(f"identities has {len(names)} names; the checkpoint knows {n_known}.")
    if not all(isinstance(name, str) for name in names):
        for name in names:
            whole = isinstance(name, Integral) and not isinstance(name, (bool, np.bool_))
            if not whole or not 0 <= name < 2**63:
                raise TypeError(
                    "identities must be all strings or all integers, which are not negative and "
                    f"fit into 64 bits; got {_shown(name)} among them."
                )
        names = [int(name) for name in names]
    known = [name for name in names if name]
    if len(set(known)) < len(known):
        raise ValueError("identities holds a name twice; each row of the checkpoint needs its own.")
    return [str(name) if isinstance(name, str) else name for name in names]


def _check_scale(behavior_scale, n_behaviors):
    try:
        given = np.asarray(behavior_scale)
        with np.errstate(over="ignore"):
            scale = given.astype(np.float32) if given.dtype.kind in "fiu" else np.array(np.nan)
    except (TypeError, ValueError, RuntimeError):  # ragged lists, tensors that need a gradient
        scale = np.array(np.nan)
    if scale.shape != (n_behaviors,) or not (np.isfinite(scale) & (scale > 0)).all():
        raise ValueError(
            f"behavior_scale must be {n_behaviors} positive numbers, finite in 32 bits, got "
            f"{_shown(behavior_scale)}."
        )
    return scale


def _shown(value):
    """Value in one short line."""
    text = str(value) if isinstance(value, (str, os.PathLike)) else repr(value)
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= 80 else f"{text[:77]}..."
