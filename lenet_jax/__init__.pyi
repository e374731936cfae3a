from . import (
    augment,
    config,
    data,
    early_stopping,
    explain,
    interop,
    lanes,
    layers,
    losses,
    metrics,
    models,
    objectives,
    ops,
    optimizers,
    summary,
    training,
    types,
)
from .data import load_dataset
from .errors import InputError
from .evaluation import evaluate, predict_logits
from .lanes import make_train_lanes
from .layers import Layer
from .losses import cross_entropy
from .metrics import confusion_matrix
from .models import MODELS, create_model
from .ops import initializers
from .ops.convolution import (
    conv1d,
    conv1d_transpose,
    conv2d,
    conv2d_transpose,
    conv3d,
    conv3d_transpose,
)
from .ops.depthwise import (
    depthwise_conv1d,
    depthwise_conv2d,
    depthwise_conv3d,
    separable_conv1d,
    separable_conv2d,
    separable_conv3d,
)
from .ops.initializers import fan_in_uniform, glorot_uniform
from .ops.normalization import local_response_norm
from .ops.pooling import avg_pool, max_pool
from .ops.windows import extract_patches, sliding_windows
from .optimizers import make_optimizer
from .records import Run, Sweep, open_run, open_sweep
from .session import run, sweep
from .summary import activations, summarize
from .training import TrainResult, make_train
from .types import Dataset, Metrics, Model, Objective, Split, Status, StoppingRule, StreamingMetric, Variables
from .weights import load_variables, save_variables

__version__: str

__all__ = [
    "MODELS",
    "Dataset",
    "InputError",
    "Layer",
    "Metrics",
    "Model",
    "Objective",
    "Run",
    "Split",
    "Status",
    "StoppingRule",
    "StreamingMetric",
    "Sweep",
    "TrainResult",
    "Variables",
    "activations",
    "augment",
    "avg_pool",
    "config",
    "confusion_matrix",
    "conv1d",
    "conv1d_transpose",
    "conv2d",
    "conv2d_transpose",
    "conv3d",
    "conv3d_transpose",
    "create_model",
    "cross_entropy",
    "data",
    "depthwise_conv1d",
    "depthwise_conv2d",
    "depthwise_conv3d",
    "early_stopping",
    "evaluate",
    "explain",
    "extract_patches",
    "fan_in_uniform",
    "glorot_uniform",
    "initializers",
    "interop",
    "lanes",
    "layers",
    "load_dataset",
    "load_variables",
    "local_response_norm",
    "losses",
    "make_optimizer",
    "make_train",
    "make_train_lanes",
    "max_pool",
    "metrics",
    "models",
    "objectives",
    "open_run",
    "open_sweep",
    "ops",
    "optimizers",
    "predict_logits",
    "run",
    "save_variables",
    "separable_conv1d",
    "separable_conv2d",
    "separable_conv3d",
    "sliding_windows",
    "summarize",
    "summary",
    "sweep",
    "training",
    "types",
]
