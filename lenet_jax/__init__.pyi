from . import (
    config,
    early_stopping,
    interop,
    lanes,
    layers,
    losses,
    metrics,
    network,
    ops,
    optimizers,
    summary,
    training,
    types,
)
from .data import load_dataset
from .errors import InputError
from .evaluation import classify, evaluate
from .layers import Layer
from .losses import cross_entropy
from .metrics import confusion_matrix
from .models import MODELS, create_model
from .network import activations
from .ops import initializers
from .ops.convolution import (
    conv1d,
    conv2d,
    conv2d_transpose,
    conv3d,
    depthwise_conv2d,
    separable_conv2d,
)
from .ops.initializers import fan_in_uniform, glorot_uniform
from .ops.patches import extract_patches, sliding_windows
from .ops.pooling import avg_pool, max_pool
from .optimizers import OPTIMIZERS, make_optimizer
from .summary import summarize
from .training import make_train
from .types import Dataset, Metrics, Model, Split, TrainResult, Variables
from .weights import load_variables, save_variables

__all__ = [
    "MODELS",
    "OPTIMIZERS",
    "Dataset",
    "InputError",
    "Layer",
    "Metrics",
    "Model",
    "Split",
    "TrainResult",
    "Variables",
    "activations",
    "avg_pool",
    "classify",
    "config",
    "confusion_matrix",
    "conv1d",
    "conv2d",
    "conv2d_transpose",
    "conv3d",
    "create_model",
    "cross_entropy",
    "depthwise_conv2d",
    "early_stopping",
    "evaluate",
    "extract_patches",
    "fan_in_uniform",
    "glorot_uniform",
    "initializers",
    "interop",
    "lanes",
    "layers",
    "load_dataset",
    "load_variables",
    "losses",
    "make_optimizer",
    "make_train",
    "max_pool",
    "metrics",
    "network",
    "ops",
    "optimizers",
    "save_variables",
    "separable_conv2d",
    "sliding_windows",
    "summarize",
    "summary",
    "training",
    "types",
]
