"""The one training loop of all networks: it stops early, tells how it goes, and survives being killed.

What a network learns from is the caller's: sequence recommenders give users of a history, click models rows of a table.
"""

from koinon.recommenders.fitting.checkpoint import load_checkpoint, save_checkpoint
from koinon.recommenders.fitting.devices import training_device
from koinon.recommenders.fitting.loop import Course, Epoch, Progress, Training, fit_network, loss_is_finite
from koinon.recommenders.fitting.weights import adopt_weights, weights_of

__all__ = [
    "Course",
    "Epoch",
    "Progress",
    "Training",
    "adopt_weights",
    "fit_network",
    "load_checkpoint",
    "loss_is_finite",
    "save_checkpoint",
    "training_device",
    "weights_of",
]
