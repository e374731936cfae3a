"""PyTorch: eager or compiled, with images in channels_last or in its default layout."""

import functools

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.benchmarks import problem
from experiments.benchmarks.systems import torchvision_models
from experiments.benchmarks.systems.commands import Swept, sweep_with_pytorch

torch.set_num_threads(problem.num_threads())
torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name() -> str:
    """Return "cpu" or the name of the GPU."""
    return torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu"


def _synchronize() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def _memory_format(channels_last: bool) -> torch.memory_format:
    return torch.channels_last if channels_last else torch.contiguous_format


def _sum_of_magnitudes(*tensors: Tensor) -> float:
    return float(sum(tensor.detach().double().abs().sum() for tensor in tensors))


class Network(nn.Module):
    """A network with given weights, or with those of all systems."""

    def __init__(self, network: problem.Network, channels_last: bool, weights: problem.Weights | None = None) -> None:
        """Make the layers on the device."""
        super().__init__()
        self.activation = getattr(torch, network.activation)
        self.channels_last = channels_last
        padding = network.padding.lower()
        shapes = problem.weight_shapes(network)
        self.conv1, self.conv2 = (nn.Conv2d(*shapes[n][2:], shapes[n][:2], padding=padding) for n in ("conv1", "conv2"))
        self.dense = nn.ModuleDict({name: nn.Linear(*shape) for name, shape in shapes.items() if len(shape) == 2})
        for name, arrays in (weights or problem.make_weights(network)).items():
            layer = self.dense[name] if name in self.dense else getattr(self, name)
            self._set_weights(layer, arrays["kernel"], arrays["bias"])
        self.to(device=DEVICE, memory_format=_memory_format(channels_last))

    def _set_weights(self, layer: nn.Module, kernel: np.ndarray, bias: np.ndarray) -> None:
        if kernel.ndim == 4:
            kernel = kernel.transpose(3, 2, 0, 1)
        else:
            maps = self.conv2.out_channels
            if layer is next(iter(self.dense.values())) and not self.channels_last:  # takes channels, rows, columns
                side = round((len(kernel) // maps) ** 0.5)
                kernel = kernel.reshape(side, side, maps, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)
            kernel = kernel.T
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(kernel))
            layer.bias.copy_(torch.tensor(bias))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of images (N, C, H, W)."""
        for convolve in (self.conv1, self.conv2):
            x = self.activation(functional.max_pool2d(convolve(x), problem.POOL_SIZE))
        x = (x.permute(0, 2, 3, 1) if self.channels_last else x).flatten(1)  # as it lies in memory
        if "hidden" in self.dense:
            x = self.activation(self.dense["hidden"](x))
        return self.dense["softmax"](x)


def _make_tensors(num_images: int, channels_last: bool) -> tuple[Tensor, Tensor]:
    """Return uint8 images (NCHW) and labels on the device."""
    images, labels = problem.make_images(num_images)
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2).to(DEVICE)
    return tensor.contiguous(memory_format=_memory_format(channels_last)), torch.from_numpy(labels).long().to(DEVICE)


def scale(images: Tensor) -> Tensor:
    """Return float32 images of pixels."""
    return images.float().div_(problem.PIXEL_DIVISOR)


def _make_optimizer(task: problem.Training, model: nn.Module) -> torch.optim.Optimizer:
    make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[task.optimizer]
    return make(model.parameters(), lr=task.learning_rate, fused=True)


def train(
    task: problem.Training, *, channels_last: bool = False, compiled: bool = False, uint8: bool = False
) -> tuple[float, list[float]]:
    """Train on float32 images that are on the device, or with `uint8` on stored pixels, scaled in each step."""
    images, labels = _make_tensors(task.images, channels_last)
    if not uint8:
        images = scale(images)
    model = Network(task.network, channels_last)
    optimizer = _make_optimizer(task, model)

    def loss_fn(images: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(model(images), labels)

    if compiled:
        loss_fn = torch.compile(loss_fn, dynamic=False)

    def run_epoch() -> float:
        losses = []
        for batch, batch_labels in zip(images.split(task.batch), labels.split(task.batch), strict=True):
            loss = loss_fn(scale(batch) if uint8 else batch, batch_labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        _synchronize()
        return float(torch.stack(losses).mean())

    return run_epoch(), problem.time_calls(run_epoch, task.epochs)


def infer(task: problem.Inference, *, channels_last: bool = False, compiled: bool = False) -> tuple[float, list[float]]:
    """Call the model in inference mode; `compiled` also freezes its weights, as PyTorch advises for a CPU."""
    images = scale(_make_tensors(task.batch, channels_last)[0])
    model = Network(task.network, channels_last).eval()
    if compiled:
        model = torch.compile(model, dynamic=False, options={"freezing": True})

    def call() -> Tensor:
        logits = model(images)
        _synchronize()
        return logits

    with torch.inference_mode():
        check = _sum_of_magnitudes(call())
        call()  # the second call of a compiled model may still prepare something
        return check, problem.time_calls(call, task.calls)


def layer(task: problem.Layer, *, channels_last: bool = False) -> tuple[float, list[float]]:
    """Differentiate conv2d, one step a call."""
    memory_format = _memory_format(channels_last)

    def to_tensor(array: np.ndarray, axes: tuple[int, ...]) -> Tensor:
        tensor = torch.tensor(array.transpose(axes), device=DEVICE)
        return tensor.contiguous(memory_format=memory_format).requires_grad_()

    images, kernel = map(to_tensor, problem.make_layer_arrays(task), ((0, 3, 1, 2), (3, 2, 0, 1)))
    convolve = functools.partial(functional.conv2d, stride=task.stride, padding=task.padding, groups=task.groups)

    def call() -> tuple[Tensor, ...]:
        maps = convolve(images, kernel)
        grads = torch.autograd.grad(maps, (images, kernel), maps.detach())
        _synchronize()
        return grads

    check = _sum_of_magnitudes(*call())
    return check, problem.time_calls(call, task.calls * task.steps)


def gradient(task: problem.Gradient, *, channels_last: bool = False) -> tuple[float, list[float]]:
    """Differentiate an architecture of torchvision's, one step a call."""
    options = {"googlenet": {"aux_logits": False, "init_weights": False}, "alexnet": {"dropout": 0.0}}
    model = getattr(torchvision_models.import_models(), task.name)(**options.get(task.name, {}))
    tensors = {name: torch.tensor(problem.make_tensor(name, tuple(t.shape))) for name, t in model.state_dict().items()}
    tensors = {name: t for name, t in tensors.items() if "num_batches" not in name}
    model.load_state_dict(tensors, strict=False)
    memory_format = _memory_format(channels_last)
    model = model.to(device=DEVICE, memory_format=memory_format)
    images, labels = (torch.tensor(array, device=DEVICE) for array in problem.make_photographs(task))
    images = images.permute(0, 3, 1, 2).contiguous(memory_format=memory_format)

    def call() -> None:
        model.zero_grad()
        functional.cross_entropy(model(images), labels.long()).backward()
        _synchronize()

    call()
    check = _sum_of_magnitudes(*(parameter.grad for parameter in model.parameters() if parameter.grad is not None))
    return check, problem.time_calls(call, task.calls * task.steps)


def sweep(task: problem.Sweep) -> Swept:
    """Run the script `pytorch_job`, a process a job."""
    return sweep_with_pytorch(task)
