"""Why a network takes an image for a class: saliency, Grad-CAM, occlusion.

They are functions of one image (H, W, C), scaled as for `model.apply`, and of a class, 0 to classes - 1, for every
model of classification, whichever library it is made with. The score of a class is its logit.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Literal
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from lenet_jax.errors import InputError, unknown_name
from lenet_jax.types import Model, Variables

_INLINED = ("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2")  # calls of a part of a program
_CONVOLUTIONS = ("conv_general_dilated", "lenet_jax_operation")
_BATCH = 64  # occluded images at a time


def saliency(model: Model, variables: Variables, image: ArrayLike, label: int) -> Float[Array, "H W C"]:
    """Return the gradient of the score of a class with respect to the image: d score / d pixel.

    Args:
        model: a classifier.
        variables: its parameters and state.
        image: (H, W, C), or of any other shape that the model takes.
        label: the class.

    Raises:
        InputError: if the model is no classifier, or has no such class.

    Source: Simonyan, Vedaldi and Zisserman 2013, "Deep inside convolutional networks", section 3; they draw the largest
    magnitude over the channels.
    """
    image = jnp.asarray(image)
    _check_label("saliency", model, variables, image, label)
    return jax.grad(lambda x: _scores(model, variables, x[None])[0, label])(image)


def occlusion(
    model: Model,
    variables: Variables,
    image: ArrayLike,
    label: int,
    *,
    size: int | None = None,
    stride: int = 1,
    value: float = 0.5,
) -> Float[Array, "h w"]:
    """Return by how much the probability of a class drops when a grey square covers a part of the image.

    Entry (i, j) is of the square with its centre at pixel (i * stride, j * stride); beyond the edges it is cut off. If
    `size` is even, the centre is the first pixel below and right of the middle.

    Args:
        model: a classifier of images.
        variables: its parameters and state.
        image: (H, W, C).
        label: the class.
        size: side of the square in pixels, 1 or above; None: two ninths of the shorter side of the image, as 50 of 224.
        stride: pixels from one square to the next, 1 or above.
        value: of all channels of the covered pixels.

    Returns:
        -1 to 1; (ceil(H / stride), ceil(W / stride)).

    Raises:
        InputError: if the model is no classifier, has no such class, the image has other axes, or a number is out of
            its range.

    Source: Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks", section 4.2.
    """
    image = _check_image("occlusion", image)
    _check_label("occlusion", model, variables, image, label)
    size = max(1, round(min(image.shape[:2]) * 2 / 9)) if size is None else size
    for name, number in (("size", size), ("stride", stride)):
        if number < 1:
            raise InputError(f"occlusion: `{name}` must be a number of pixels, 1 or above; got {number}.")
    height, width = image.shape[:2]
    rows, columns = jnp.arange(0, height, stride), jnp.arange(0, width, stride)
    centres = jnp.stack(jnp.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)

    def covers(centre: Array, length: int) -> Array:
        first = centre[:, None] - size // 2
        places = jnp.arange(length)[None]
        return (places >= first) & (places < first + size)

    def probability(centres: Array) -> Array:
        covered = covers(centres[:, 0], height)[:, :, None] & covers(centres[:, 1], width)[:, None]
        occluded = jnp.where(covered[..., None], jnp.asarray(value, image.dtype), image[None])
        return _probabilities(model, variables, occluded)[:, label]

    count = len(centres)
    padded = centres[jnp.minimum(jnp.arange(-(-count // _BATCH) * _BATCH), count - 1)]
    of_squares = jax.lax.map(probability, padded.reshape(-1, _BATCH, 2)).reshape(-1)[:count]
    whole = _probabilities(model, variables, image[None])[0, label]
    return (whole - of_squares).reshape(len(rows), len(columns))


def grad_cam(
    model: Model, variables: Variables, image: ArrayLike, label: int, *, layer: str | None = None
) -> Float[Array, "h w"]:
    """Return where feature maps speak for a class: ReLU(sum over maps k of a_k A_k), a_k the mean of d score / d A_k.

    Args:
        model: a classifier of images.
        variables: its parameters and state.
        image: (H, W, C).
        label: the class.
        layer: the layer whose outputs are the maps A, of a model made of `lenet_jax.layers`, by its name in
            `lenet_jax.activations`. None: the last one with more than one place; of another model the last
            convolution, and what follows it with maps of the same size, such as an activation.

    Returns:
        0 or above; (h, w), the size of the maps.

    Raises:
        InputError: if the model is no classifier, has no such class or layer, or no feature maps.

    Source: Selvaraju et al. 2017, "Grad-CAM", equations 1 and 2.
    """
    image = _check_image("grad_cam", image)
    _check_label("grad_cam", model, variables, image, label)
    if layer is not None and model.trace is None:
        raise InputError("grad_cam: `layer` is for a model made of lenet_jax.layers; leave it out for others.")
    program, maps = _layer_maps(model, variables, image, layer) if model.trace else _last_maps(model, variables, image)

    def score(added: Array) -> tuple[Array, Array]:
        found = []

        def change(variable: Any, value: Array) -> Array:
            if variable is not maps:
                return value
            found.append(value)
            return value + added

        scores = _compute(program.jaxpr, program.consts, [image[None]], change)[-1]
        return scores[0, label], found[0]

    gradient, values = jax.grad(score, has_aux=True)(jnp.zeros(maps.aval.shape, maps.aval.dtype))
    return jax.nn.relu(values[0] @ jnp.mean(gradient[0], axis=(0, 1)))


def _scores(model: Model, variables: Variables, images: Array) -> Array:
    return model.apply(variables, images, train=False)[0]


def _probabilities(model: Model, variables: Variables, images: Array) -> Array:
    return jax.nn.softmax(_scores(model, variables, images), axis=-1)


def _check_image(caller: str, image: ArrayLike) -> Array:
    found = jnp.asarray(image)
    if found.ndim != 3:
        raise InputError(f"{caller}: `image` must have 3 axes (H, W, C); got shape {found.shape}.")
    return found


def _check_label(caller: str, model: Model, variables: Variables, image: Array, label: int) -> None:
    outputs = jax.eval_shape(functools.partial(_scores, model, variables), image[None])
    shape = getattr(outputs, "shape", ())
    if len(shape) != 2:
        raise InputError(f"{caller}: `model` must return one logit a class, (N, classes); got {outputs}.")
    if not 0 <= label < shape[1]:
        raise InputError(f"{caller}: `label` must be a class, 0 to {shape[1] - 1}; got {label}.")


# ---- feature maps inside of a network -------------------------------------------------------------------------------


def _layer_maps(model: Model, variables: Variables, image: Array, layer: str | None) -> tuple[ClosedJaxpr, Any]:
    """Return a program of the outputs of all layers, the scores last, and the variable in it of a layer's maps."""
    trace: Any = model.trace
    names: list[str] = []

    def outputs(images: Array) -> list[Array]:
        traces = trace(variables, images)
        names[:] = [each.name for each in traces]
        return [each.y for each in traces]

    program = _inlined(outputs, image)
    *found, scores = zip(names, program.jaxpr.outvars, strict=True)
    needed = _ancestors(program, scores[1])
    allowed = {name: variable for name, variable in found if _are_maps(variable) and variable in needed}
    if not allowed:
        raise InputError("grad_cam: `model` must have feature maps, outputs (N, H, W, C) of a layer; it has none.")
    if layer is not None and layer not in allowed:
        raise unknown_name("grad_cam: layer", layer, allowed)
    return program, allowed[list(allowed)[-1] if layer is None else layer]


def _last_maps(model: Model, variables: Variables, image: Array) -> tuple[ClosedJaxpr, Any]:
    """Return the program of a network, and the variable in it of the last feature maps."""
    program = _inlined(functools.partial(_scores, model, variables), image)
    needed = _ancestors(program, program.jaxpr.outvars[-1])
    maps: Any = None
    for equation in program.jaxpr.eqns:
        output = equation.outvars[0]
        if output not in needed or not _are_maps(output):
            continue
        follows = any(each is maps for each in equation.invars)
        follows = follows and maps is not None and output.aval.shape[1:3] == maps.aval.shape[1:3]
        if equation.primitive.name in _CONVOLUTIONS or follows:
            maps = output
    if maps is None:
        raise InputError("grad_cam: `model` must have a convolution over images (N, H, W, C); it has none.")
    return program, maps


def _are_maps(variable: Any) -> bool:
    """Return whether an array of a program is feature maps (1, H, W, C) of more than one place."""
    shape = variable.aval.shape
    return not isinstance(variable, Literal) and len(shape) == 4 and shape[0] == 1 and shape[1] * shape[2] > 1


def _inlined(function: Callable[[Array], Any], image: Array) -> ClosedJaxpr:
    """Return a function of a batch of one image as a program without calls of parts, so that each array is seen."""
    program = jax.make_jaxpr(function)(image[None])
    return jax.make_jaxpr(lambda x: _compute(program.jaxpr, program.consts, [x], lambda _, value: value))(image[None])


def _ancestors(program: ClosedJaxpr, variable: Any) -> set[Any]:
    """Return the variables of a program on which one depends, itself included."""
    found = {variable}
    for equation in reversed(program.jaxpr.eqns):
        if not found.isdisjoint(equation.outvars):
            found.update(each for each in equation.invars if not isinstance(each, Literal))
    return found


def _compute(
    jaxpr: Any, constants: Sequence[Any], inputs: Sequence[Any], change: Callable[[Any, Any], Any]
) -> list[Any]:
    """Compute a program, with `change(variable, value)` in the place of each value that an equation computes."""
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *inputs], strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.eqns:
        values = [read(atom) for atom in equation.invars]
        primitive, part = equation.primitive, equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
        if primitive.name in _INLINED:
            inner, consts = (part.jaxpr, part.consts) if isinstance(part, ClosedJaxpr) else (part, ())
            outputs = _compute(inner, consts, values, lambda _, value: value)
        else:
            bound: Any = primitive.get_bind_params(equation.params)
            functions, params = bound if isinstance(bound, tuple) else ((), bound)  # which of them depends on JAX
            outputs = primitive.bind(*functions, *values, **params)
            outputs = outputs if primitive.multiple_results else [outputs]
        for variable, value in zip(equation.outvars, outputs, strict=True):
            known[variable] = change(variable, value)
    return [read(atom) for atom in jaxpr.outvars]
