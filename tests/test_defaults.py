"""What a user gets who gives a plain array and changes nothing."""

from sklearn.decomposition import PCA

from skneurovae import NeuroBehaviorVAE
from skneurovae.baselines import Pooled
from skneurovae.datasets import make_worms
from skneurovae.metrics import co_smoothing_score


def test_the_default_model_of_an_array_beats_pca_with_as_many_components():
    (animal,), _ = make_worms(1, n_timesteps=2600, n_identities=100, n_recorded=100, random_state=0)
    train, test = animal.traces[:2000], animal.traces[2100:]
    model = NeuroBehaviorVAE(random_state=0).fit(train)
    pca = Pooled(PCA(model.n_components)).fit(train)
    assert co_smoothing_score(model, test) > co_smoothing_score(pca, test) + 0.02
