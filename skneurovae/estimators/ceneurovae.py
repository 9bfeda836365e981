"""Checkpoints of CeNeuroVAE as fitted estimators."""

from __future__ import annotations

import numpy as np
import torch

from skneurovae.recordings import NeuronVocabulary, Recording
from skneurovae.training import resolve_device


def load_ceneurovae(estimator_class, checkpoint, identities, behavior_scale, parameters):
    """Build a fitted `estimator_class`; see `NeuroBehaviorVAE.from_ceneurovae`."""
    state = _read_checkpoint(checkpoint)
    n_identities = len(state["id_embed.weight"])
    names = list(range(1, n_identities)) if identities is None else list(identities)
    if len(names) != n_identities - 1:
        raise ValueError(
            f"identities has {len(names)} names; the checkpoint knows {n_identities - 1}."
        )
    if len(set(names) - {""}) < len([name for name in names if name != ""]):
        raise ValueError("identities holds a name twice; each row of the checkpoint needs its own.")
    if (given := parameters.pop("neuron_encoder", "pooled")) != "pooled":
        raise ValueError(f"neuron_encoder of a CeNeuroVAE checkpoint is 'pooled', got {given!r}.")
    layers = {key.split(".")[2] for key in state if key.startswith("encoder.layers.")}
    model = estimator_class(
        len(state["to_mu.bias"]),
        neuron_encoder="pooled",
        model_dim=len(state["combined_proj.0.bias"]),
        n_layers=len(layers),
        hidden_dim=len(state["dec_time.0.bias"]),
        **parameters,
    )
    model._validate_params()
    model.n_behaviors_in_ = state["beh_proj.0.weight"].shape[1]
    model.n_stimuli_in_ = 0
    model._check_parameters()
    # Row 0 of the checkpoint stands for every unlabelled neuron; here it belongs to none.
    model._vocabulary = NeuronVocabulary()
    unknown = "" if isinstance(names[0], str) else 0
    labels = np.array([unknown, *names])
    model._vocabulary.extend(
        [Recording(np.zeros((1, n_identities)), identities=labels, session="unlabelled")]
    )
    model.identities_ = model._vocabulary.labels
    model._arguments = model._network_arguments()
    network = model._new_network(model._arguments)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:  # torch lists every layer in a line of its own
        raise ValueError(
            f"checkpoint differs from the published layers: {str(error).splitlines()[1].strip()}"
        ) from error
    if behavior_scale is not None:
        scale = torch.as_tensor(behavior_scale, dtype=torch.float32)
        if scale.shape != (model.n_behaviors_in_,) or not (scale > 0).all():
            raise ValueError(
                f"behavior_scale must be {model.n_behaviors_in_} positive numbers, got "
                f"{behavior_scale!r}."
            )
        network.behavior_scale.copy_(scale)
    model.network_, model._device = network.eval(), str(resolve_device(model.device))
    return model


def _read_checkpoint(checkpoint):
    state = checkpoint
    if not isinstance(checkpoint, dict):
        try:
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        except OSError:
            raise
        except Exception as error:  # many kinds, in many lines, for files of other formats
            raise ValueError(
                f"checkpoint is not a file of PyTorch weights: {checkpoint}"
            ) from error
    state = state.get("model_state", state) if isinstance(state, dict) else {}
    layers = "id_embed", "to_mu", "beh_proj.0", "combined_proj.0", "dec_time.0"
    if not all(f"{layer}.weight" in state for layer in layers):
        raise ValueError(f"checkpoint is not a CeNeuroVAE checkpoint: {str(checkpoint)[:80]}")
    return state
