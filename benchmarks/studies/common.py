"""What the studies share: arguments, baselines, tables and figures."""

from __future__ import annotations

import argparse
import importlib.util
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from runs import resumed, use_threads
from scipy.ndimage import uniform_filter1d
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from skneurovae import ContrastiveEmbedding
from skneurovae.recordings.lags import lagged

HAS_UMAP = importlib.util.find_spec("umap") is not None
N_SHOWN = 400  # points of a figure
WINDOW = 10  # of the network of `embedding_model`, in time steps


def parse(doc, **defaults):
    """Arguments of a study; `defaults` may change steps and seeds."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument(
        "folder", type=Path, nargs="?", help="folder with HDF5 recordings; without it simulators"
    )
    parser.add_argument("--seeds", type=int, default=defaults.get("seeds", 3))
    parser.add_argument("--steps", type=int, default=defaults.get("steps", 500))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--figures", type=Path, default=Path("docs/figures"))
    name = f"study_{Path(sys.argv[0]).stem}"
    parser.add_argument("--out", type=Path, default=Path(f"results/{name}.jsonl"))
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    return arguments


def kept(plan, run, arguments):
    """Rows of all runs, and the panels of the first one that has any; runs are kept in a file.

    Parameters
    ----------
    plan : list of dict
        Arguments of `run`; the number of steps is added to each.
    run : callable
        Returns rows (dicts of numbers), and panels made by `shown`.
    arguments : argparse.Namespace

    Returns
    -------
    rows : list of dict
    panels : dict
    """

    def one(**settings):
        rows, panels = run(**settings)
        numbers = [{k: v if isinstance(v, str) else float(v) for k, v in r.items()} for r in rows]
        return {"rows": numbers, "panels": panels}

    plan = [{**settings, "n_steps": arguments.steps} for settings in plan]
    results = resumed(plan, one, arguments.out)
    panels = {}
    for result in results:
        for title, panel in result["panels"].items():
            panels.setdefault(title, panel)
    return [row for result in results for row in result["rows"]], panels


def shown(embedding, color):
    """What a figure needs of an embedding: few points, 3 dimensions at most."""
    chosen = np.linspace(0, len(embedding) - 1, min(N_SHOWN, len(embedding))).astype(int)
    z = np.asarray(embedding, float)[chosen]
    if z.shape[1] > 3:
        z = PCA(3).fit_transform(z)
    z = (z - z.mean(0)) / max(z.std(), 1e-12)  # figures have no units; so few digits do
    return {
        "z": z.round(3).tolist(),
        "color": np.asarray(color, float).ravel()[chosen].round(4).tolist(),
    }


def embedding_model(n_components, seed, n_steps, **settings):
    """ContrastiveEmbedding of at most `n_steps` steps; traces are not scaled, as in CEBRA."""
    per_epoch = math.gcd(50, n_steps)
    settings = {
        "batch_size": 256, "time_offset": None, "standardize": False, "n_iter_no_change": 5,
    } | settings  # fmt: skip
    return ContrastiveEmbedding(
        n_components, steps_per_epoch=per_epoch, max_iter=max(1, n_steps // per_epoch),
        random_state=seed, device="cpu", **settings,
    )  # fmt: skip


def averaged(traces):
    """Traces of one piece averaged over the steps that the network sees around each.

    Without it a baseline sees one time step where the network sees ten.
    """
    return uniform_filter1d(np.asarray(traces, float), WINDOW, axis=0)


def side_by_side(traces):
    """The same steps as channels of their own, 0 beyond the ends of the piece."""
    lags = np.arange(1 - WINDOW // 2, WINDOW // 2 + 1)
    return np.nan_to_num(lagged(traces, lags)).reshape(len(traces), -1)


def baselines(n_components, seed):
    """Names and functions (train, test) -> embeddings of both, of arrays of traces.

    t-SNE has no map for new data: it is fitted to training and test data together, which favors it.
    """
    found = {"PCA": lambda train, test: _fitted(PCA(n_components, random_state=seed), train, test)}
    if HAS_UMAP:
        found["UMAP"] = lambda train, test: _umap(n_components, seed, train, test)
    else:
        print("UMAP is left out: pip install 'skneurovae[benchmark]'.", file=sys.stderr)
    found["t-SNE (sees test data)"] = lambda train, test: _tsne(n_components, seed, train, test)
    return found


def _fitted(model, train, test):
    return model.fit(train).transform(train), model.transform(test)


def _umap(n_components, seed, train, test):
    import warnings

    from umap import UMAP

    n_threads = torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about threads, since a seed is given
        found = _fitted(UMAP(n_components=n_components, random_state=seed), train, test)
    torch.set_num_threads(n_threads)  # numba changes that of all who share its OpenMP
    return found


def _tsne(n_components, seed, train, test):
    # Barnes-Hut is for 2 or 3 components.
    model = TSNE(min(n_components, 2), random_state=seed, max_iter=500)
    both = model.fit_transform(np.concatenate([train, test]).astype(np.float32))
    return both[: len(train)], both[len(train) :]


def table(rows, by):
    """Print Markdown: mean and standard deviation of rows that agree in the columns `by`."""
    measures = [k for k in dict.fromkeys(k for row in rows for k in row) if k not in by]
    print("\n| " + " | ".join([*by, *measures]) + " |\n" + "|---" * (len(by) + len(measures)) + "|")
    for key in dict.fromkeys(tuple(row[k] for k in by) for row in rows):
        group = [row for row in rows if tuple(row[k] for k in by) == key]
        cells = []
        for name in measures:
            values = np.array([row[name] for row in group if row.get(name) is not None], float)
            values = values[np.isfinite(values)]
            cells.append(_cell(values))
        print("| " + " | ".join([*map(str, key), *cells]) + " |")
    print(flush=True)


def _cell(values):
    if not len(values):
        return ""
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{values.mean():.3f} ± {values.std(ddof=1):.3f}"


def scatters(panels, path, *, label, cmap="hsv"):
    """Save a figure of embeddings, colored.

    Parameters
    ----------
    panels : dict of str to what `shown` returns
    path : Path
    label : str
        Of the color, with its unit.
    cmap : str, default="hsv"
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = min(len(panels), 4)
    lines = -(-len(panels) // columns)
    figure = plt.figure(figsize=(2.4 * columns, 2.4 * lines), layout="constrained")
    axes = []
    for number, (title, panel) in enumerate(panels.items()):
        z = np.array(panel["z"])
        three = z.shape[1] == 3
        place = (lines, columns, number + 1)
        axis = figure.add_subplot(*place, projection="3d" if three else None)
        points = axis.scatter(*z.T, c=panel["color"], s=2, cmap=cmap)
        axis.set_title(title, fontsize=8)
        axis.set(xticks=[], yticks=[])
        if three:
            axis.set(zticks=[])
        axes.append(axis)
    figure.colorbar(points, ax=axes, label=label, shrink=0.7)
    save(figure, path)


def save(figure, path):
    """Save a figure where its folder may not be yet."""
    path.parent.mkdir(exist_ok=True, parents=True)
    figure.savefig(path, dpi=72)
    print(f"Figure: {path}")
