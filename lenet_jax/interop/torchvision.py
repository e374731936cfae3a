"""Weights in safetensors files with the names and layouts of torchvision.

PyTorch stores the kernels of convolutions as (O, I, H, W) and those of dense layers as (outputs, inputs). It flattens
feature maps as (C, H, W) before a dense layer, and this package as (H, W, C).
"""

import math
import re
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from lenet_jax.errors import InputError, unknown_name
from lenet_jax.storage import write_atomically
from lenet_jax.types import Model, Variables
from lenet_jax.weights import from_tensors, named_leaves

_ALEXNET = {"conv1": 0, "conv2": 3, "conv3": 6, "conv4": 8, "conv5": 10, "fc6": 1, "fc7": 4, "fc8": 6}
_GOOGLENET = {
    r"^reduce2$": "conv2",
    r"^conv2$": "conv3",
    r"/1x1$": ".branch1",
    r"/3x3/reduce$": ".branch2.0",
    r"/3x3/conv$": ".branch2.1",
    r"/5x5/reduce$": ".branch3.0",
    r"/5x5/conv$": ".branch3.1",
    r"/pool/project$": ".branch4.1",
}
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "variance": "running_var"}


def _of_alexnet(layer: str) -> str:
    name = layer.removesuffix("/conv")
    return f"{'features' if name.startswith('conv') else 'classifier'}.{_ALEXNET[name]}"


def _of_resnet(layer: str) -> str:
    match layer.split("/"):
        case [name]:
            return name.replace("norm", "bn")
        case [stage, block, "block", name]:
            return f"layer{int(stage[4:]) - 1}.{block}.{name.replace('norm', 'bn')}"
        case [stage, block, _, name]:
            return f"layer{int(stage[4:]) - 1}.{block}.downsample.{('conv', 'norm').index(name)}"
    raise KeyError(layer)


def _of_googlenet(layer: str) -> str:
    if layer == "fc":
        return layer
    convolution, _, part = layer.rpartition("/")
    for pattern, name in _GOOGLENET.items():
        convolution, found = re.subn(pattern, name, convolution)
        if found:
            break
    return f"{convolution}.{part.replace('norm', 'bn')}"


_ARCHITECTURES: dict[str, Callable[[str], str]] = {
    "alexnet": _of_alexnet,
    "googlenet": _of_googlenet,
    **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"), _of_resnet),
}


def load_torchvision(path: str | Path, model: Model, name: str) -> Variables:
    """Read the weights of a torchvision model for a model of the same architecture.

    Args:
        path: a safetensors file with the names of torchvision's `state_dict()`.
        model: the result of `create_model` for alexnet with variant="one_tower", googlenet with
            variant="torchvision", or a resnet, with the same width, number of classes and image size.
        name: name of the architecture in `create_model`. The auxiliary heads of googlenet are ignored.

    Raises:
        InputError: if the architecture is unknown, the file is damaged, or its tensors are not those of the model.
    """
    expected = jax.eval_shape(model.init, jax.random.key(0))
    names = _names(expected, name)
    try:
        found = safetensors.numpy.load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"load_torchvision: `path` must be an intact safetensors file; {path}: {error}.") from error
    needed = set(names.values())
    ignored = ("num_batches_tracked", *(("aux1.", "aux2.") if name == "googlenet" else ()))
    given = {each for each in found if not each.endswith(ignored[:1]) and not each.startswith(ignored[1:] or ("\0",))}
    for each in sorted(needed ^ given):
        raise InputError(
            f"{path}: must hold the tensors of torchvision's {name}; it {'lacks' if each in needed else 'also has'} "
            f"{each!r}; build the model with the options of those weights."
        )
    channels = _last_channels(expected)
    tensors = {ours: _to_ours(ours, found[theirs], channels) for ours, theirs in names.items()}
    return jax.tree.map(jnp.asarray, from_tensors(tensors, expected, path))


def save_torchvision(path: str | Path, variables: Variables, name: str) -> None:
    """Write variables to a file for `load_torchvision` and for the `load_state_dict` of torchvision's model.

    Args:
        path: the safetensors file to write or replace.
        variables: the variables of a model as `load_torchvision` describes.
        name: name of the architecture in `create_model`.

    Raises:
        InputError: if the architecture is unknown, or the variables are not those of that architecture.
    """
    channels, leaves = _last_channels(variables), named_leaves(variables)
    tensors = {
        theirs: _to_theirs(ours, np.asarray(leaves[ours]), channels) for ours, theirs in _names(variables, name).items()
    }
    write_atomically(Path(path), safetensors.numpy.save(tensors))


def _names(variables: Variables, name: str) -> dict[str, str]:
    """Return torchvision's name of each tensor, by the name of the tensor in this package."""
    if name not in _ARCHITECTURES:
        raise unknown_name("name", name, _ARCHITECTURES)
    names = {}
    for ours in named_leaves(variables):
        layer, _, leaf = ours.partition("/")[2].rpartition("/")
        try:
            names[ours] = f"{_ARCHITECTURES[name](layer)}.{_LEAVES[leaf]}"
        except (KeyError, ValueError) as error:
            raise InputError(f"torchvision: its {name} has no {layer!r}; choose the variant that it has.") from error
    return names


def _last_channels(variables: Variables) -> int | None:
    """Return the channels of AlexNet's last convolution; None for networks with global average pooling."""
    leaves = named_leaves(variables)
    last = leaves.get("params/conv5/conv/kernel")
    return None if last is None else last.shape[-1]


def _to_ours(name: str, tensor: np.ndarray, channels: int | None) -> np.ndarray:
    if not name.endswith("/kernel"):
        return tensor
    if name.endswith("fc6/kernel") and channels is not None:
        side = math.isqrt(tensor.shape[1] // channels)
        tensor = tensor.reshape(-1, channels, side, side).transpose(0, 2, 3, 1).reshape(tensor.shape)
    return np.ascontiguousarray(tensor.T if tensor.ndim == 2 else tensor.transpose(2, 3, 1, 0))


def _to_theirs(name: str, tensor: np.ndarray, channels: int | None) -> np.ndarray:
    if not name.endswith("/kernel"):
        return tensor
    if tensor.ndim == 4:
        return np.ascontiguousarray(tensor.transpose(3, 2, 0, 1))
    tensor = tensor.T
    if name.endswith("fc6/kernel") and channels is not None:
        side = math.isqrt(tensor.shape[1] // channels)
        tensor = tensor.reshape(-1, side, side, channels).transpose(0, 3, 1, 2).reshape(tensor.shape)
    return np.ascontiguousarray(tensor)
