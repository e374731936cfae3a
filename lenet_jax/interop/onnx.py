"""Functions of JAX as ONNX models, and what such a model computes, by ONNX Runtime.

A function is traced; what does not depend on its input is computed, the rest becomes a graph, one operation after
another. The operations are those of the networks of this package at inference, and what users usually put beside them.
(jax2onnx 0.17 converts more, but not max pooling of NHWC images, nor batches of any size.)
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import export
from jax.extend.core import Literal

from lenet_jax.errors import InputError

OPSET = 18
_INSTALL = "pip install 'lenet-jax[onnx]'"
_ELEMENTWISE = {
    **{"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max", "min": "Min", "pow": "Pow", "neg": "Neg"},
    **{"exp": "Exp", "log": "Log", "tanh": "Tanh", "logistic": "Sigmoid", "sqrt": "Sqrt", "abs": "Abs", "sign": "Sign"},
    **{"erf": "Erf", "floor": "Floor", "ceil": "Ceil", "sin": "Sin", "cos": "Cos", "and": "And", "or": "Or"},
    **{"not": "Not", "eq": "Equal", "lt": "Less", "gt": "Greater", "le": "LessOrEqual", "ge": "GreaterOrEqual"},
}
_IDENTITIES = ("copy", "copy_p", "stop_gradient", "optimization_barrier")
_REDUCTIONS = {"reduce_sum": "ReduceSum", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin"}
_CALLS = ("jaxpr", "call_jaxpr", "fun_jaxpr")  # names of the parameter with the equations of a call


def to_onnx(function: Callable[[Any], Any], example: jax.ShapeDtypeStruct, batch_size: int | None = None) -> bytes:
    """Return a function of a batch as an ONNX model, whose input is "inputs" and whose output is "outputs".

    Args:
        function: of an array (N, ...); it returns one array (N, ...).
        example: shape and dtype of one of its examples.
        batch_size: N; None: any.

    Raises:
        InputError: if the package onnx is not installed, or the function has an operation that is not known here.
    """
    try:
        import onnx as package  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(f"to_onnx: needs the package onnx: {_INSTALL}.") from error
    onnx: Any = package
    rows: Any = export.symbolic_shape("N")[0] if batch_size is None else batch_size
    inputs = jax.ShapeDtypeStruct((rows, *example.shape), example.dtype)
    try:
        closed = jax.make_jaxpr(function)(inputs)
    except Exception as error:  # of a function that asks for the size of the batch, whatever it raises
        if batch_size is not None or isinstance(error, InputError):
            raise
        first = next(iter(str(error).splitlines()), "").rstrip(".")
        raise InputError(
            f"to_onnx: `function` must take a batch of any size; {first}; export a fixed batch."
        ) from error
    graph = _Graph(onnx)
    (output,) = graph.convert(closed.jaxpr, closed.consts, [_Value("inputs", inputs.shape)])
    graph.add("Identity", [graph.materialized(output)], name="outputs")
    of_input, of_output = (
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(each.dtype)), [_plain(n) for n in each.shape]
        )
        for name, each in (("inputs", inputs), ("outputs", closed.out_avals[0]))
    )
    made = onnx.helper.make_graph(graph.needed_nodes(), "lenet_jax", [of_input], [of_output], graph.needed_constants())
    version = onnx.helper.make_opsetid("", OPSET)
    model = onnx.helper.make_model(made, opset_imports=[version], ir_version=9, producer_name="lenet_jax")
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def run_onnx(model: bytes, inputs: np.ndarray) -> np.ndarray:
    """Return what an ONNX model of one input and one output computes.

    Raises:
        InputError: if ONNX Runtime is not installed.
    """
    try:
        import onnxruntime  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(f"run_onnx: needs the package onnxruntime: {_INSTALL}.") from error
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: inputs})[0]


class _Value(NamedTuple):
    """An array of the graph by its name.

    Its axes may be 1 where those of the array that it stands for are longer: the operations on single values
    broadcast them.
    """

    name: str
    shape: tuple[Any, ...]  # of the array that it stands for
    is_short: bool = False  # whether an axis is 1 in its place


def _plain(size: Any) -> int | str:
    return size if isinstance(size, int) else "N"


def _sizes(shape: Sequence[Any]) -> np.ndarray:
    """Return a shape as the operation Reshape takes it, -1 for the size that depends on the batch."""
    sizes = [size if isinstance(size, int) else -1 for size in shape]
    if sizes.count(-1) > 1:
        raise InputError(f"to_onnx: at most one axis of an array may depend on the size of the batch; got {shape}.")
    return np.array(sizes, np.int64)


class _Graph:
    """The nodes and constants of an ONNX graph."""

    def __init__(self, onnx: Any) -> None:
        self._onnx, self._nodes, self._constants, self._count = onnx, [], {}, 0

    def convert(self, jaxpr: Any, constants: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
        """Add the equations of a program; arguments and results are values of the graph, or arrays that are known."""
        known = dict(zip(jaxpr.constvars, constants, strict=True)) | dict(zip(jaxpr.invars, arguments, strict=True))

        def read(atom: Any) -> Any:
            return np.asarray(atom.val) if isinstance(atom, Literal) else known[atom]

        for equation in jaxpr.eqns:
            found = self._convert_one(equation, [read(atom) for atom in equation.invars])
            known |= dict(zip(equation.outvars, found, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _convert_one(self, equation: Any, inputs: list[Any]) -> Sequence[Any]:
        name, params = equation.primitive.name, equation.params
        if name == "lenet_jax_operation":
            avals = [atom.aval for atom in equation.invars]
            closed = jax.make_jaxpr(params["operation"].define)(*avals)
            return self.convert(closed.jaxpr, closed.consts, inputs)
        called = next((params[key] for key in _CALLS if key in params), None)
        if called is not None and name not in ("scan", "while", "cond", "custom_jvp", "reduce_window"):
            jaxpr, constants = (called.jaxpr, called.consts) if hasattr(called, "consts") else (called, ())
            return self.convert(jaxpr, constants, inputs)
        shape = getattr(equation.outvars[0].aval, "shape", ())
        if not any(isinstance(each, _Value) for each in inputs) and all(isinstance(size, int) for size in shape):
            found = equation.primitive.bind(*inputs, **params)
            return found if equation.primitive.multiple_results else [found]
        method = getattr(self, f"_{name}", None)
        if name in _ELEMENTWISE:
            return [self._elementwise(_ELEMENTWISE[name], inputs, shape)]
        if name in _IDENTITIES:
            return inputs
        if name in _REDUCTIONS:
            axes = np.array(params["axes"], np.int64)
            return [self._value(_REDUCTIONS[name], [self.materialized(inputs[0]), axes], shape, keepdims=0)]
        if method is None:
            raise InputError(
                f"to_onnx: `function` must be made of operations that are known here; {name!r} is not; export it as "
                "stablehlo."
            )
        return [method(equation, inputs, shape)]

    # ---- nodes ------------------------------------------------------------------------------------------------------

    def add(self, kind: str, inputs: Sequence[Any], *, name: str = "", **attributes: Any) -> str:
        """Add a node of names and constants, and return the name of its result."""
        if not name:
            self._count += 1
            name = f"{kind.lower()}_{self._count}"
        names = [each if isinstance(each, str) else self._constant(each) for each in inputs]
        self._nodes.append(self._onnx.helper.make_node(kind, names, [name], name=name, **attributes))
        return name

    def _constant(self, array: Any) -> str:
        self._count += 1
        name = f"constant_{self._count}"
        self._constants[name] = np.asarray(array)
        return name

    def needed_nodes(self) -> list[Any]:
        """Return the nodes that the outputs depend on."""
        needed, kept = {"outputs"}, []
        for node in reversed(self._nodes):
            if needed & set(node.output):
                needed |= set(node.input)
                kept.append(node)
        return kept[::-1]

    def needed_constants(self) -> list[Any]:
        """Return the constants of these nodes."""
        names = {name for node in self.needed_nodes() for name in node.input}
        return [
            self._onnx.numpy_helper.from_array(each, name) for name, each in self._constants.items() if name in names
        ]

    def _value(self, kind: str, inputs: Sequence[Any], shape: Any, **attributes: Any) -> _Value:
        return _Value(self.add(kind, inputs, **attributes), shape)

    def materialized(self, x: Any) -> Any:
        """Return the name of a value, or a known array, whose axes all have their length.

        Raises:
            InputError: if the first one depends on the size of the batch, but is not that.
        """
        if not isinstance(x, _Value):
            return np.asarray(x)
        if not x.is_short:
            return x.name
        first, *others = x.shape
        if isinstance(first, int):
            rows: Any = np.array([first], np.int64)
        elif str(first) == "N":
            rows = self.add("Shape", ["inputs"], start=0, end=1)
        else:
            raise InputError(
                f"to_onnx: a size must be that of the batch, or fixed; got {x.shape}; export a fixed batch."
            )
        return self.add("Expand", [x.name, self.add("Concat", [rows, _sizes(others)], axis=0)])

    # ---- operations -------------------------------------------------------------------------------------------------

    def _elementwise(self, kind: str, inputs: Sequence[Any], shape: Any) -> _Value:
        names = [each.name if isinstance(each, _Value) else np.asarray(each) for each in inputs]
        full = any(isinstance(each, _Value) and not each.is_short and each.shape == shape for each in inputs)
        return _Value(self.add(kind, names), shape, is_short=not full)

    def _ne(self, equation: Any, inputs: Any, shape: Any) -> _Value:
        return self._elementwise("Not", [self._elementwise("Equal", inputs, shape)], shape)

    def _select_n(self, equation: Any, inputs: Any, shape: Any) -> _Value:
        which, *cases = inputs
        if len(cases) != 2 or equation.invars[0].aval.dtype != np.bool_:
            raise InputError("to_onnx: a choice must be one of two by a truth value; export it as stablehlo.")
        return self._elementwise("Where", [which, cases[1], cases[0]], shape)

    def _rsqrt(self, equation: Any, inputs: Any, shape: Any) -> _Value:
        return self._elementwise("Reciprocal", [self._elementwise("Sqrt", inputs, shape)], shape)

    def _square(self, equation: Any, inputs: Any, shape: Any) -> _Value:
        return self._elementwise("Mul", [inputs[0], inputs[0]], shape)

    def _integer_pow(self, equation: Any, inputs: Any, shape: Any) -> _Value:
        power = np.array(equation.params["y"], equation.outvars[0].aval.dtype)
        return self._elementwise("Pow", [inputs[0], power], shape)

    def _log1p(self, equation: Any, inputs: Any, shape: Any) -> _Value:
        one = np.ones((), equation.outvars[0].aval.dtype)
        return self._elementwise("Log", [self._elementwise("Add", [inputs[0], one], shape)], shape)

    def _expm1(self, equation: Any, inputs: Any, shape: Any) -> _Value:
        one = np.ones((), equation.outvars[0].aval.dtype)
        return self._elementwise("Sub", [self._elementwise("Exp", inputs, shape), one], shape)

    def _erfc(self, equation: Any, inputs: Any, shape: Any) -> _Value:
        one = np.ones((), equation.outvars[0].aval.dtype)
        return self._elementwise("Sub", [one, self._elementwise("Erf", inputs, shape)], shape)

    def _clamp(self, equation: Any, inputs: Any, shape: Any) -> _Value:
        low, x, high = inputs
        return self._elementwise("Min", [self._elementwise("Max", [x, low], shape), high], shape)

    def _convert_element_type(self, equation: Any, inputs: Any, shape: Any) -> _Value:
        dtype = self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(equation.params["new_dtype"]))
        (x,) = inputs
        return _Value(self.add("Cast", [x.name], to=dtype), shape, x.is_short)

    def _broadcast_in_dim(self, equation: Any, inputs: Any, shape: Any) -> _Value:
        x, places = inputs[0], equation.params["broadcast_dimensions"]
        sizes: list[Any] = [1] * len(shape)
        for place, size in zip(places, equation.invars[0].aval.shape, strict=True):
            sizes[place] = size
        if not isinstance(x, _Value):
            return _Value(self._constant(np.asarray(x).reshape(_sizes(sizes))), shape, is_short=True)
        name = self.add("Reshape", [self.materialized(x), _sizes(sizes)])
        return _Value(name, shape, is_short=tuple(sizes) != tuple(shape))

    def _reshape(self, equation: Any, inputs: Any, shape: Any) -> _Value:
        return self._value("Reshape", [self.materialized(inputs[0]), _sizes(shape)], shape)

    _squeeze = _expand_dims = _reshape

    def _transpose(self, equation: Any, inputs: Any, shape: Any) -> _Value:
        permutation = list(equation.params["permutation"])
        return self._value("Transpose", [self.materialized(inputs[0])], shape, perm=permutation)

    def _concatenate(self, equation: Any, inputs: Any, shape: Any) -> _Value:
        parts = [self.materialized(each) for each in inputs]
        return self._value("Concat", parts, shape, axis=equation.params["dimension"])

    def _slice(self, equation: Any, inputs: Any, shape: Any) -> _Value:
        params, sizes = equation.params, equation.invars[0].aval.shape
        strides = params["strides"] or (1,) * len(sizes)
        parts = [
            (axis, start, limit, stride)
            for axis, (start, limit, stride, size) in enumerate(
                zip(params["start_indices"], params["limit_indices"], strides, sizes, strict=True)
            )
            if (start, stride) != (0, 1) or limit != size
        ]
        columns = [np.array(column, np.int64) for column in zip(*parts, strict=True)]
        axes, starts, limits, steps = columns or [np.zeros(0, np.int64)] * 4
        return self._value("Slice", [self.materialized(inputs[0]), starts, limits, axes, steps], shape)

    def _pad(self, equation: Any, inputs: Any, shape: Any) -> _Value:
        x, value = inputs
        low, high, between = zip(*equation.params["padding_config"], strict=True)
        if any(between):
            raise InputError("to_onnx: padding must be around an array, not between its values; export as stablehlo.")
        return self._value(
            "Pad", [self.materialized(x), np.array([*low, *high], np.int64), self.materialized(value)], shape
        )

    def _dot_general(self, equation: Any, inputs: Any, shape: Any) -> _Value:
        one, other = (self.materialized(each) for each in inputs)
        contracted, batch = equation.params["dimension_numbers"]
        ranks = [len(atom.aval.shape) for atom in equation.invars]
        if (contracted, batch) == (((1,), (0,)), ((), ())) and ranks == [2, 2]:
            return self._value("MatMul", [one, other], shape)
        letters = [chr(ord("a") + place) for place in range(sum(ranks))]
        first, second = letters[: ranks[0]], letters[ranks[0] :]
        for axes in (contracted, batch):
            for left, right in zip(*axes, strict=True):
                second[right] = first[left]
        kept = [first[axis] for axis in batch[0]]
        kept += [each for axis, each in enumerate(first) if axis not in (*contracted[0], *batch[0])]
        kept += [each for axis, each in enumerate(second) if axis not in (*contracted[1], *batch[1])]
        equation_text = f"{''.join(first)},{''.join(second)}->{''.join(kept)}"
        return self._value("Einsum", [one, other], shape, equation=equation_text)

    def _conv_general_dilated(self, equation: Any, inputs: Any, shape: Any) -> _Value:
        params, layout = equation.params, equation.params["dimension_numbers"]
        low, high = zip(*params["padding"], strict=True) if params["padding"] else ((), ())
        is_plain = all(n == 1 for n in params["lhs_dilation"]) and min((*low, *high), default=0) >= 0
        if not is_plain or params["batch_group_count"] != 1:
            raise InputError("to_onnx: a convolution must not be transposed; export it as stablehlo.")
        x = self.add("Transpose", [self.materialized(inputs[0])], perm=list(layout.lhs_spec))
        kernel = inputs[1]
        if isinstance(kernel, _Value):
            kernel = self.add("Transpose", [self.materialized(kernel)], perm=list(layout.rhs_spec))
        else:
            kernel = np.ascontiguousarray(np.asarray(kernel).transpose(layout.rhs_spec))
        y = self.add(
            "Conv",
            [x, kernel],
            strides=list(params["window_strides"]),
            pads=[*low, *high],
            dilations=list(params["rhs_dilation"]),
            group=params["feature_group_count"],
        )
        return self._value("Transpose", [y], shape, perm=[int(axis) for axis in np.argsort(layout.out_spec)])

    def _reduce_window_max(self, equation: Any, inputs: Any, shape: Any) -> _Value:
        return _Value(self._pooled("MaxPool", equation, inputs[0]), shape)

    def _reduce_window_sum(self, equation: Any, inputs: Any, shape: Any) -> _Value:
        mean = _Value(self._pooled("AveragePool", equation, inputs[0], count_include_pad=1), shape)
        size = np.prod(equation.params["window_dimensions"]).astype(equation.outvars[0].aval.dtype)
        return self._elementwise("Mul", [mean, size], shape)

    def _pooled(self, kind: str, equation: Any, x: Any, **attributes: Any) -> str:
        """Add a pooling over the axes between the first and the last one, and return its name."""
        params = equation.params
        window, strides, padding = (params[f"{name}"] for name in ("window_dimensions", "window_strides", "padding"))
        outer = (window[0], window[-1], strides[0], strides[-1])
        dilated = [*params["base_dilation"], *(params["window_dilation"] if kind == "AveragePool" else ())]
        if outer != (1, 1, 1, 1) or padding[0] != (0, 0) or padding[-1] != (0, 0) or set(dilated) != {1}:
            raise InputError("to_onnx: windows must be over the axes between the first and the last one, undilated.")
        rank = len(window)
        if kind == "MaxPool":
            attributes["dilations"] = list(params["window_dilation"][1:-1])
        low, high = zip(*padding[1:-1], strict=True)
        x = self.add("Transpose", [self.materialized(x)], perm=[0, rank - 1, *range(1, rank - 1)])
        y = self.add(
            kind, [x], kernel_shape=list(window[1:-1]), strides=list(strides[1:-1]), pads=[*low, *high], **attributes
        )
        return self.add("Transpose", [y], perm=[0, *range(2, rank), 1])
