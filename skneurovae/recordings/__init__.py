"""Recordings: the data model, the one door they come in through, neurons by name, and files."""

from skneurovae.recordings.check import check_recordings
from skneurovae.recordings.hdf5_loading import load_h5
from skneurovae.recordings.hdf5_saving import save_h5
from skneurovae.recordings.recording import Recording
from skneurovae.recordings.vocabulary import NeuronVocabulary

__all__ = ["NeuronVocabulary", "Recording", "check_recordings", "load_h5", "save_h5"]
