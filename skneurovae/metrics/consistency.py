"""Do embeddings agree, up to an affine map, between runs, sessions and animals?"""

from __future__ import annotations

import numpy as np

from skneurovae.common.missing import float_array
from skneurovae.metrics.alignment import affine_r2, check_blocks, check_latents, halves
from skneurovae.metrics.asking import embed
from skneurovae.recordings import check_recordings


def consistency(embeddings, *, labels=None, n_bins=100, cross_fitted=True, n_blocks=10):
    """R2 of linear regression from each embedding to each other one.

    Entry (i, j) is ``mean_d R2(embedding_j[:, d], affine map of embedding_i)`` by least squares.
    Runs on the same data are compared sample by sample. Embeddings of different data are first
    averaged in bins of a label that both have, such as position, and each average is divided by its
    length; bins are then the samples.

    Parameters
    ----------
    embeddings : list of array of shape (n_samples, n_components)
        Or of lists of such arrays, one per recording, which are concatenated. Numbers of components
        may differ; numbers of samples only with `labels`.
    labels : list of array of shape (n_samples,), default=None
        One per embedding, or None for the same samples in all.
    n_bins : int, default=100
        Points of the grid from the lowest to the highest label, which has ``n_bins - 1`` bins. They
        are open above, so samples at the very highest label belong to none. An empty bin takes the
        samples of its neighbors, then of theirs. Used with `labels`.
    cross_fitted : bool, default=True
        True: contiguous blocks of samples go to two halves in turn, the map is fitted on one half
        and scored on the other, both ways. False: the map is fitted and scored on the same samples,
        as CEBRA does, which gives noise about ``n_components / n_samples``.
    n_blocks : int, default=10
        Each should be much longer than the autocorrelation time. Used if `cross_fitted`.

    Returns
    -------
    matrix : ndarray of shape (n_embeddings, n_embeddings)
        From row to column; NaN on the diagonal.
    mean : float
        Over all ordered pairs.

    Raises
    ------
    ValueError
        If there is one embedding, shapes do not match, values are not finite, a bin has no sample
        near it, or an embedding is constant, which every map would predict.

    Notes
    -----
    High consistency is necessary, not sufficient: embeddings that were trained on the labels agree
    through them. CEBRA counts a constant dimension as R2 = 1; here it is left out.

    References
    ----------
    Schneider, Lee & Mathis, "Learnable latent embeddings for joint behavioural and neural
    analysis", Nature 617, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from skneurovae.metrics import consistency
    >>> run = np.random.default_rng(0).standard_normal((200, 2))
    >>> matrix, mean = consistency([run, run @ [[1, 2], [0, 1]] + 3])
    >>> print(round(mean, 6))
    1.0
    """
    if len(embeddings) < 2:
        raise ValueError(f"consistency needs two or more embeddings; got {len(embeddings)}.")
    embeddings = [check_latents(e, f"embedding {i}") for i, e in enumerate(embeddings)]
    if cross_fitted:
        for embedding in embeddings:
            check_blocks(n_blocks, len(embedding))
    sizes = {len(embedding) for embedding in embeddings}
    if labels is not None:
        embeddings, half = _binned(embeddings, labels, n_bins, n_blocks if cross_fitted else None)
    elif len(sizes) > 1:
        raise ValueError(
            f"embeddings have {' and '.join(map(str, sorted(sizes)))} samples; give labels to "
            "compare different data."
        )
    else:
        half = halves(sizes.pop(), n_blocks) if cross_fitted else None
    matrix = np.full((len(embeddings), len(embeddings)), np.nan)
    for i, source in enumerate(embeddings):
        for j, target in enumerate(embeddings):
            if i != j:
                matrix[i, j] = affine_r2(source, target, half)
                if np.isnan(matrix[i, j]):
                    raise ValueError(f"embedding {j} is constant.")
    return matrix, float(np.nanmean(matrix))


def consistency_score(estimators, X, *, cross_fitted=True, n_blocks=10):
    """Mean consistency of the latents that several fitted estimators give for the same recordings.

    Parameters
    ----------
    estimators : list of fitted estimators with `transform`
        For example one model fitted with several seeds.
    X : recordings
        That none of the estimators was fitted to, for a held-out value.
    cross_fitted : bool, default=True
        As in `consistency`.
    n_blocks : int, default=10
        As in `consistency`.

    Returns
    -------
    float
        At most 1.

    Raises
    ------
    ValueError
        As `consistency`.
    """
    recordings, _ = check_recordings(X)
    latents = [embed(estimator, X, recordings) for estimator in estimators]
    return consistency(latents, cross_fitted=cross_fitted, n_blocks=n_blocks)[1]


def _binned(embeddings, labels, n_bins, n_blocks):
    """Averages in bins of the labels, and the half of each; apart for the two halves of blocks."""
    if len(labels) != len(embeddings):
        raise ValueError(f"labels has {len(labels)} entries for {len(embeddings)} embeddings.")
    if n_bins < 3:
        raise ValueError(f"n_bins must be 3 or more; got {n_bins}.")
    labels = [float_array(label) for label in labels]
    for i, (label, embedding) in enumerate(zip(labels, embeddings)):
        if label.shape != (len(embedding),) or not np.isfinite(label).all():
            raise ValueError(
                f"labels of embedding {i} must be {len(embedding)} finite numbers in one row; "
                f"got shape {label.shape}."
            )
    grid = np.linspace(min(map(np.min, labels)), max(map(np.max, labels)), n_bins)
    averages = []
    for i, (label, embedding) in enumerate(zip(labels, embeddings)):
        half = np.zeros(len(label), int) if n_blocks is None else halves(len(label), n_blocks)
        parts = [
            _bin_means(embedding[half == h], np.digitize(label[half == h], grid), n_bins, i)
            for h in np.unique(half)
        ]
        averages.append(np.concatenate(parts))
    return averages, None if n_blocks is None else np.repeat([0, 1], n_bins - 1)


def _bin_means(embedding, digits, n_bins, index):
    means = np.empty((n_bins - 1, embedding.shape[1]))
    for row, digit in enumerate(range(1, n_bins)):
        distance = np.abs(digits - digit)
        if distance.min() > 2:
            raise ValueError(
                f"embedding {index} has no sample with a label near bin {row} of {n_bins - 1}; "
                "take fewer bins, or data whose labels cover the same range."
            )
        means[row] = embedding[distance <= distance.min()].mean(0)
    length = np.linalg.norm(means, axis=1, keepdims=True)
    return means / np.where(length > 0, length, 1.0)
