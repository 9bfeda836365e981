"""What a contrastive embedding is asked to embed: from parameters to pairings and slices."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from math import inf
from numbers import Integral, Real

import numpy as np

from skneurovae.networks.contrastive import Part
from skneurovae.networks.convolutional import receptive_field
from skneurovae.recordings.pairs import Pairing

CONDITIONALS = ("time", "time_delta", "delta", "delta_normal", "discrete")
KEYS = {"conditional", "components", "channels", "time_offset", "delta", "weight"}


def resolve_parts(model, n_behaviors, longest=None):
    """Slices of the embedding and how their pairs are drawn.

    Parameters
    ----------
    model : ContrastiveEmbedding
    n_behaviors : int
        Behavior channels of the recordings.
    longest : int, default=None
        Time steps of the longest recording; bounds the default of `time_offset`.

    Returns
    -------
    parts : list of (Part, Pairing)

    Raises
    ------
    ValueError
        If a parameter is wrong, or would do nothing.
    """
    discrete, circular = _channel_kinds(model, n_behaviors)
    whole = (0, model.n_components)
    if isinstance(model.conditional, str):
        if model.conditional == "hybrid":
            if model.n_components < 2:
                raise ValueError("conditional='hybrid' needs n_components of 2 or more, got 1.")
            half = model.n_components // 2
            given = [
                {"conditional": "behavior", "components": (0, half)},
                {"conditional": "time", "components": (half, model.n_components)},
            ]
        else:
            given = [{"conditional": model.conditional, "components": whole}]
    else:
        given = list(model.conditional)
        if not given:
            raise ValueError("conditional is an empty list; give one dict per part.")
    apart = _default_offset(model.network, longest)
    resolved = [
        _resolve(spec, number, model, n_behaviors, discrete, circular, apart)
        for number, spec in enumerate(given)
    ]
    _refuse_idle(model, given, [pairing for _, pairing in resolved])
    if longest is not None:
        _refuse_signs(model, [part for part, _ in resolved])
    trained = {k for part, _ in resolved for k in range(part.start, part.stop)}
    idle = sorted(set(range(model.n_components)) - trained)
    if idle:
        raise ValueError(
            f"components of conditional leave out component {idle[0]} of "
            f"n_components={model.n_components}; every one needs an objective."
        )
    return resolved


def _default_offset(network, longest):
    """Time steps between the two of a pair in time.

    Windows closer than their length share samples, by which any noise is known again.
    """
    window = sum(receptive_field(network))
    return window if longest is None else min(window, max(1, longest // 4))


def unit_slices(model, parts):
    """Slices of the embedding that have length 1: of each part, or the whole where they overlap."""
    if model.normalize is False or (model.normalize == "auto" and model.similarity != "cosine"):
        return ()
    spans = sorted((part.start, part.stop) for part in parts)
    apart = all(first[1] <= second[0] for first, second in zip(spans, spans[1:]))
    return tuple(spans) if apart else ((0, model.n_components),)


def _channel_kinds(model, n_behaviors):
    """Channels that are labels, and period of those that are circular."""
    discrete = _labels(model) if _labels(model) != "all" else range(n_behaviors)
    if isinstance(discrete, str) or not all(_is_index(c, n_behaviors) for c in discrete):
        raise ValueError(
            f"discrete must be 'all' or channels below {n_behaviors}, the number of behavior "
            f"channels; got {model.discrete!r}."
        )
    circular = {} if model.circular is None else model.circular
    if not isinstance(circular, Mapping) or not all(
        _is_index(c, n_behaviors) and isinstance(p, Real) and p > 0 for c, p in circular.items()
    ):
        raise ValueError(
            f"circular must be a dict from channels below {n_behaviors}, the number of behavior "
            f"channels, to positive periods; got {model.circular!r}."
        )
    both = sorted(set(discrete) & set(circular))
    if both:
        raise ValueError(f"channel {both[0]} is in discrete and in circular; choose one.")
    return tuple(discrete), dict(circular)


def _resolve(spec, number, model, n_behaviors, discrete, circular, apart):
    if not isinstance(spec, Mapping) or not {"conditional", "components"} <= set(spec) <= KEYS:
        raise ValueError(
            f"part {number} of conditional must be a dict with 'conditional', 'components' and "
            f"perhaps {', '.join(sorted(KEYS - {'conditional', 'components'}))}; got {spec!r}."
        )
    span = tuple(spec["components"]) if _is_list(spec["components"]) else ()
    if (
        len(span) != 2
        or not all(isinstance(k, Integral) for k in span)
        or not 0 <= span[0] < span[1] <= model.n_components
    ):
        raise ValueError(
            f"components of part {number} must be (start, stop) within "
            f"n_components={model.n_components}; got {spec['components']!r}."
        )
    weight = spec.get("weight", 1.0)
    if not isinstance(weight, Real) or not 0 < weight < inf:
        raise ValueError(f"weight of part {number} must be positive, got {weight!r}.")
    kind = spec["conditional"]
    if kind == "auto":
        kind = "behavior" if n_behaviors else "time"
    if kind not in ("behavior", *CONDITIONALS):
        raise ValueError(
            f"conditional must be one of 'auto', 'hybrid', 'behavior', "
            f"{', '.join(map(repr, CONDITIONALS))} or a list of dicts; got {kind!r}."
        )
    if kind != "time" and not n_behaviors:
        raise ValueError(f"conditional={kind!r} needs behavior, and no recording has it.")
    channels = spec.get("channels")
    if channels is not None and (
        kind == "time"
        or not _is_list(channels)
        or not len(channels)
        or not all(_is_index(c, n_behaviors) for c in channels)
    ):
        raise ValueError(
            f"channels of part {number} must be behavior channels below {n_behaviors}, and are "
            f"none of conditional='time'; got {channels!r}."
        )
    channels = () if kind == "time" else tuple(range(n_behaviors) if channels is None else channels)
    labels = tuple(c for c in channels if c in discrete)
    if kind == "behavior":
        kind = "discrete" if len(labels) == len(channels) else "time_delta"
    kind = "delta" if kind == "delta_normal" else kind
    continuous = len(channels) - len(labels)
    if kind == "discrete" and continuous:
        raise ValueError(
            "conditional='discrete' needs all its channels in discrete; use 'time_delta' or "
            "'delta' for labels and continuous channels together."
        )
    if kind in ("time_delta", "delta") and not continuous:
        raise ValueError(f"conditional={kind!r} needs a channel that is not in discrete.")
    return (
        Part(*map(int, span), float(weight), kind == "time"),
        Pairing(
            conditional=kind,
            channels=channels,
            discrete=labels,
            circular={c: float(p) for c, p in circular.items() if c in channels},
            time_offset=_offsets(spec.get("time_offset"), model.time_offset, kind, number, apart),
            delta=_delta(spec.get("delta"), model.delta, kind, number),
            prior=model.prior if labels else "empirical",
        ),
    )


def _offsets(own, general, kind, number, apart):
    used = kind in ("time", "time_delta")
    if own is not None and not used:
        raise ValueError(f"time_offset of part {number} has no meaning for conditional={kind!r}.")
    given = general if own is None else own
    if given is None:
        given = apart if kind == "time" else 1
    offsets = tuple(given) if _is_list(given) else (given,)
    if not offsets or not all(_is_index(n, inf) and n for n in offsets):
        raise ValueError(f"time_offset must be positive integers, got {given!r}.")
    return tuple(int(n) for n in offsets)


def _delta(own, general, kind, number):
    if kind != "delta":
        if own is not None:
            raise ValueError(f"delta of part {number} has no meaning for conditional={kind!r}.")
        return None
    delta = general if own is None else own
    if not isinstance(delta, Real) or not 0 < delta < inf:
        raise ValueError(f"conditional='delta' needs delta, a positive number; got {delta!r}.")
    return float(delta)


def _refuse_idle(model, given, pairings):
    """Refuse parameters that no part uses."""
    kinds = {pairing.conditional for pairing in pairings}
    used = {channel for pairing in pairings for channel in pairing.channels}
    names = ", ".join(sorted(kinds))
    if model.time_offset is not None and not kinds & {"time", "time_delta"}:
        raise ValueError(f"time_offset has no meaning for conditional={names}.")
    if model.delta is not None and "delta" not in kinds:
        raise ValueError(f"delta={model.delta} needs conditional='delta', which is {names}.")
    for name, users in (("time_offset", {"time", "time_delta"}), ("delta", {"delta"})):
        own = [s.get(name) for s, p in zip(given, pairings) if p.conditional in users]
        if getattr(model, name) is not None and None not in own:
            raise ValueError(f"{name}={getattr(model, name)} is not used: every part has its own.")
    if model.discrete is not None and _labels(model) != "all" and not set(_labels(model)) <= used:
        raise ValueError(f"discrete={model.discrete!r} names channels that no part uses.")
    if not set(model.circular or {}) <= used:
        raise ValueError(f"circular={model.circular!r} names channels that no part uses.")
    if model.prior == "uniform" and not any(pairing.discrete for pairing in pairings):
        raise ValueError("prior='uniform' needs behavior channels in discrete.")


def _refuse_signs(model, parts):
    """Refuse parts of one component of length 1: signs, which have no gradient."""
    cosine = model.similarity == "cosine"
    spans = [(part.start, part.stop) for part in parts] if cosine else unit_slices(model, parts)
    for start, stop in spans:
        if stop - start > 1:
            continue
        text = (
            f"component {start} alone has length 1, so that it is -1 or 1 and learns nothing; give "
            "each part 2 components or more ('hybrid' has two parts), or use "
            "similarity='euclidean' without normalize=True."
        )
        if model.n_components > 1:
            raise ValueError(text)
        warnings.warn(text, stacklevel=2)  # scikit-learn's checks set n_components=1


def _labels(model):
    given = model._labels_of_y if model.discrete is None else model.discrete
    return given if isinstance(given, str) else tuple(given)


def _is_list(value):
    return isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, str)


def _is_index(value, n):
    return isinstance(value, Integral) and not isinstance(value, bool) and 0 <= value < n
