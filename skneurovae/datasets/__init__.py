"""Simulated recordings with known ground truth, and recordings from files."""

from skneurovae.datasets.latent_counts import make_latent_counts
from skneurovae.datasets.linear_track import make_linear_track
from skneurovae.datasets.lorenz import make_lorenz, make_static_dynamic
from skneurovae.datasets.movie import make_movie_responses
from skneurovae.datasets.worms import make_worms
from skneurovae.recordings import load_h5, save_h5

__all__ = [
    "load_h5",
    "make_latent_counts",
    "make_linear_track",
    "make_lorenz",
    "make_movie_responses",
    "make_static_dynamic",
    "make_worms",
    "save_h5",
]
