import pickle
import warnings

import numpy as np
import pytest

from skneurovae.recordings import NeuronVocabulary, Recording


def recording(n_neurons=3, identities=None, session=None):
    identities = None if identities is None else np.array(identities)
    n_neurons = n_neurons if identities is None else len(identities)
    return Recording(np.zeros((4, n_neurons)), identities=identities, session=session)


def extended(*recordings):
    vocabulary = NeuronVocabulary()
    vocabulary.extend(list(recordings))
    return vocabulary


def lists(rows):
    assert all(r.dtype == np.int64 for r in rows)
    return [r.tolist() for r in rows]


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize(("a", "b", "c"), [("AVA", "RIB", "RIM"), (7, 2, 9)])
def test_an_identity_has_one_row_wherever_it_stands(a, b, c):
    vocabulary = NeuronVocabulary()
    worms = [recording(identities=[a, b]), recording(identities=[c, b, a, b])]
    assert lists(vocabulary.extend(worms)) == [[0, 1], [2, 1, 0, 1]]
    assert vocabulary.labels.tolist() == [a, b, c]
    assert len(vocabulary) == 3
    assert lists(vocabulary.rows(worms[::-1])) == [[2, 1, 0, 1], [0, 1]]


def test_unlabeled_neurons_belong_to_a_column_of_their_session():
    vocabulary = NeuronVocabulary()
    first = recording(identities=["AVA", "", ""], session="w1")
    second = recording(identities=["", "", "AVA"], session="w2")
    assert lists(vocabulary.extend([first, second])) == [[0, 1, 2], [3, 4, 0]]
    assert vocabulary.labels.tolist() == ["AVA", "w1:1", "w1:2", "w2:0", "w2:1"]
    assert lists(vocabulary.rows([second, first])) == [[3, 4, 0], [0, 1, 2]]
    # A column that was labeled before and is not now is another neuron.
    assert lists(vocabulary.extend([recording(session="w1")])) == [[5, 1, 2]]


def test_a_label_that_looks_like_a_column_of_a_session_is_another_neuron():
    vocabulary = extended(recording(identities=["w1:0", "A"]), recording(session="w1"))
    assert len(vocabulary) == 5


def test_plain_arrays_share_their_columns():
    vocabulary = NeuronVocabulary()
    rows = vocabulary.extend([recording(), recording(identities=[0, 0, 0])])
    assert lists(rows) == [[0, 1, 2], [0, 1, 2]]
    assert vocabulary.labels.tolist() == [0, 1, 2]
    assert lists(vocabulary.rows([recording()])) == [[0, 1, 2]]


def test_unlabeled_neurons_without_session_are_private():
    vocabulary = NeuronVocabulary()
    worm = recording(identities=["AVA", ""])
    assert lists(vocabulary.extend([worm, worm])) == [[0, 1], [0, 2]]
    assert vocabulary.labels.tolist() == ["AVA", "recording 1:1", "recording 2:1"]
    with pytest.warns(UserWarning, match=r"left out: 1 neurons without identity \(session="):
        assert lists(vocabulary.rows([worm])) == [[0, -1]]
    assert lists(vocabulary.extend([worm])) == [[0, 3]]
    assert lists(extended(recording(2)).extend([worm])) == [[2, 3]]


def test_one_warning_lists_unknown_neurons():
    vocabulary = extended(recording(identities=["A", ""], session="w1"))
    new = recording(identities=["A", "B", "C", "D", "", "E", "F", "G"], session="w2")
    with pytest.warns(
        UserWarning, match=r"identities B, C, D, E, F, \.\.\. and 2 neurons"
    ) as caught:
        rows = vocabulary.rows([new, new])
    assert lists(rows) == [[0] + [-1] * 7] * 2
    assert len(caught) == 1
    assert len(vocabulary) == 2


def test_extending_keeps_the_rows_of_before():
    vocabulary = extended(recording(identities=["A", "B"]), recording(2, session="w1"))
    before = vocabulary.labels
    new = [recording(identities=["C", "B"]), recording(2, session="w2"), recording(2)]
    assert lists(vocabulary.extend(new)) == [[4, 1], [5, 6], [7, 8]]
    assert vocabulary.labels[:4].tolist() == before.tolist()


REFUSED = {
    "columns of two widths": ([recording(3), recording(4)], "recording 1 has 4 neurons, .* have 3"),
    "session of two widths": (
        [recording(3, session="w1"), recording(4, session="w1")],
        "recording 1 has 4 neurons, but recordings of session 'w1' have 3: .*give identities",
    ),
    "two kinds": (
        [recording(identities=["A"]), recording(identities=[1])],
        "identities of recording 1 are of type int, those seen before of type str",
    ),
}


@pytest.mark.parametrize(("recordings", "message"), REFUSED.values(), ids=REFUSED)
def test_neurons_that_cannot_be_matched_are_refused(recordings, message):
    vocabulary = NeuronVocabulary()
    with pytest.raises(ValueError, match=message):
        vocabulary.extend(recordings)
    assert len(vocabulary) == 0
    first, second = recordings
    vocabulary.extend([first])
    message = message.replace("recording 1", "recording 0")
    for method in (vocabulary.rows, vocabulary.extend):
        with pytest.raises(ValueError, match=message):
            method([second])
    assert lists(vocabulary.rows([first])) == [list(range(first.n_neurons))]


@pytest.mark.parametrize(
    ("fitted", "new", "message"),
    [
        (recording(identities=["A"]), recording(identities=["B", "C"]), "identities are B, C"),
        (recording(identities=["A"]), recording(), "no identities, and its session is None"),
        (recording(), recording(session="w9"), "no identities, and its session is 'w9'"),
        (recording(session="w1"), recording(session="w9"), "model knows w1:0, w1:1, w1:2. Give"),
        (recording(session="w1"), recording(), "Give identities or session as in fit"),
        (recording(identities=["A"]), recording(identities=["", "B"]), "identities are B;"),
    ],
)
def test_a_recording_without_known_neurons_is_refused(fitted, new, message):
    vocabulary = extended(fitted)
    with pytest.raises(ValueError, match=f"no neuron of recording 1 is known.*{message}"):
        vocabulary.rows([fitted, new])


def test_widths_of_a_session_may_differ_where_all_are_labeled():
    vocabulary = extended(recording(identities=["A", "B"], session="w1"))
    assert lists(vocabulary.extend([recording(identities=["B"], session="w1")])) == [[1]]
    assert lists(vocabulary.extend([recording(1, session="w1")])) == [[2]]


def _plain(value):
    if isinstance(value, dict):
        return all(type(k) in (str, int) and _plain(v) for k, v in value.items())
    return all(map(_plain, value)) if isinstance(value, list) else type(value) in (str, int)


def test_it_is_stored_as_plain_values():
    worms = [recording(identities=["A", ""]), recording(session="w1"), recording(session="w1")]
    vocabulary = extended(*worms, recording(5))
    assert all(_plain(value) for value in vars(vocabulary).values())
    loaded = pickle.loads(pickle.dumps(vocabulary))
    assert loaded.labels.tolist() == vocabulary.labels.tolist()
    assert lists(loaded.rows(worms[1:])) == lists(vocabulary.rows(worms[1:]))
    sio = pytest.importorskip("skops.io")
    trusted = ["skneurovae.recordings.vocabulary.NeuronVocabulary"]
    loaded = sio.loads(sio.dumps(vocabulary), trusted=trusted)
    assert lists(loaded.rows(worms[1:])) == lists(vocabulary.rows(worms[1:]))
