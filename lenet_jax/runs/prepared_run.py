"""A configuration prepared: components built, data loaded and checked against each other, nothing run or written.

A configuration is prepared once, for single runs, sweeps, resume, verify and workers alike. Runs that differ only in
their seeds and in the float options of their components share one `PreparedRun`, as far as those are values of the
compiled programs; see `lenet_jax.traced_numbers`.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax

from lenet_jax import components
from lenet_jax.augment import Augment, Mixup, flatten
from lenet_jax.config import Config, to_dict, without_seed
from lenet_jax.config.catalogue import TARGET
from lenet_jax.config.folds import Fold
from lenet_jax.data.folds import FoldedData, divide
from lenet_jax.data.streams import check_in_memory
from lenet_jax.environment import make_deterministic
from lenet_jax.errors import InputError
from lenet_jax.evaluation import check_labels, check_splits, count_examples
from lenet_jax.objective import Task, scale_inputs
from lenet_jax.runs.initial_weights import InitialWeights, read_initial_weights
from lenet_jax.runs.mesh import RunMesh, build_mesh
from lenet_jax.runs.parts import CONSTANT, Parts, build_parts, float_options, trace_step, trace_update, with_numbers
from lenet_jax.runs.platforms import check_compilation, check_platform
from lenet_jax.runs.provenance import describe_data, describe_run
from lenet_jax.runs.source_code import uncommitted_changes
from lenet_jax.storage import to_json
from lenet_jax.traced_numbers import Guard, Guards, scalar
from lenet_jax.train_plan import TrainPlan, plan_run
from lenet_jax.training import TrainState
from lenet_jax.types import Dataset, Split

_WHOLE_BATCH = (
    "lenet_jax.optimizers.scaled_conjugate_gradient.scaled_conjugate_gradient",
    "lenet_jax.optimizers.conjugate_gradient.conjugate_gradient",
)
_CLASSIFICATION = "lenet_jax.objectives.classification"
KEY_SHAPE = jax.eval_shape(lambda: jax.random.key(0))  # and dtype of any key


class PreparedRun(NamedTuple):
    """A run that is ready to be compiled."""

    config: Config  # with all options
    data: Dataset
    plan: TrainPlan
    parts: Parts  # with the configured numbers
    state: TrainState  # shapes and dtypes of its state
    folded: FoldedData | None = None  # of all folds of this size, where `data` are those of one
    as_constants: tuple[str, ...] = ()  # paths of the float options that are no values of the programs
    as_arrays: tuple[str, ...] = ()  # paths of those that are traced as plain arrays
    initial: InitialWeights | None = None  # those that are not made by the seed
    mesh: RunMesh | None = None  # its devices, where it is divided over several

    @property
    def task(self) -> Task:
        """Return what is trained and evaluated, with the configured numbers."""
        return self.parts.task

    @property
    def initial_tensors(self) -> Mapping[str, Any] | None:
        """Return the initial weights that the seed does not make, by name; None: it makes all."""
        return None if self.initial is None else self.initial.tensors

    @property
    def options(self) -> tuple[str, ...]:
        """Return the paths of the float options that are values of the programs."""
        return tuple(path for path in float_options(self.config) if path not in self.as_constants)

    @property
    def may_divide(self) -> bool:
        """Return whether an array may be divided by a traced option before the optimizer, as by 1 - rate in dropout."""
        parts = {"augment": self.config.augment, "objective": self.config.objective}
        own = [name for name, part in parts.items() if not _are_built_in(components.targets_in(name, part))]
        paths = [path for path in self.options if path.startswith(("model.", *own))]
        if not paths:
            return False
        step, values, *shapes = self._traced(trace_step)
        jaxpr = jax.make_jaxpr(step)(values, *shapes).jaxpr
        used = {id(array) for equation in jaxpr.eqns for array in equation.invars}
        numbers = dict(zip(sorted(values), jaxpr.invars, strict=False))
        return any(id(numbers[path]) in used for path in paths)

    def at(self, values: Mapping[str, Any], guards: Guards | None = None) -> Parts:
        """Return the parts of a program in which the float options are traced.

        Args:
            values: the `options` as traced scalars.
            guards: keeps what the program takes for granted of them; None: it is not kept.
        """
        guards = guards or Guards(float_options(self.config))
        numbers = guards.numbers(values) | {path: values[path] for path in self.as_arrays if path in values}
        return build_parts(with_numbers(self.config, numbers), self.data, self.plan)

    def trace(self, function: Callable[[Parts, Any, Split], Any], guards: Guards | None = None) -> Any:
        """Return the shapes of what a function of a program's parts, a key and two examples returns."""
        return jax.eval_shape(*self._traced(function, guards))

    def _traced(self, function: Callable[[Parts, Any, Split], Any], guards: Guards | None = None) -> tuple[Any, ...]:
        """Return a function of the float options, a key and two examples, and the shapes of these."""
        values = {path: scalar() for path in self.options}
        pair = jax.tree.map(lambda x: jax.ShapeDtypeStruct((2, *x.shape[1:]), x.dtype), self.data.train)
        return lambda values, *args: function(self.at(values, guards), *args), values, KEY_SHAPE, pair

    def describe(self) -> dict[str, Any]:
        """Return what `run.json` records of the run before it starts."""
        mesh = {} if self.mesh is None else {"mesh": self.mesh.describe()}
        return {**describe_run(self.config, self.describe_data()), **self.describe_init(), **mesh}

    def describe_init(self) -> dict[str, Any]:
        """Return what `run.json` records of initial weights that the seed has not made; nothing if there are none."""
        return {} if self.initial is None else {"init": self.initial.description}

    def describe_data(self) -> dict[str, Any]:
        """Return what `run.json` records of the data."""
        return _describe_data(self.config.data, self.data)

    def uncommitted_changes(self) -> bytes | None:
        """Return what `code.patch` records of the user's project; None: nothing."""
        return uncommitted_changes(target for _, target in components.targets(self.config))


def prepare_run(config: Config) -> PreparedRun:
    """Build the components of a configuration, load its data, and check that they fit together.

    Args:
        config: complete, as `lenet_jax.components.complete_config` returns it.

    Raises:
        InputError: if the data cannot be had, or something does not fit.
    """
    if config.trainer.deterministic:
        make_deterministic()  # before JAX looks for devices
    check_platform()
    check_compilation()
    data, folded = load_data(config.data)
    plan = plan_run(config.trainer, count_examples(data.train))
    mesh = build_mesh(config, plan)
    if mesh is not None:
        check_in_memory(data, "`sharding` over several devices")
    _check_optimizer(config, plan)
    parts = build_parts(config, data, plan)
    with components.reporting("`model` or `optimizer`"):
        state = jax.eval_shape(parts.init, KEY_SHAPE)
    if parts.task.objective.has_labels:
        check_splits(data, parts.task.objective)
        check_labels(data, data.num_classes)
    _check_augment(config, data)
    initial = read_initial_weights(config, state.variables, data.num_classes)
    run = PreparedRun(config, data, plan, parts, state, folded, initial=initial, mesh=mesh)
    # Built-in components fit where the data are images and labels, and tracing a large network takes seconds.
    if config.objective[TARGET] == _CLASSIFICATION and _is_built_in(config) and not config.objective["class_weights"]:
        return run
    _check_fit(run)
    return _choose_traced(run)


def _check_augment(config: Config, data: Dataset) -> None:
    """Check by shapes alone that the built-in augmentations take an example of the data.

    Raises:
        InputError: if one does not; it begins with the key.
    """
    inputs = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), data.train.inputs)

    def change(key: Any, inputs: Any, augment: Augment) -> Any:
        return augment(key, jax.tree.map(lambda x: x[0], scale_inputs(inputs, data.pixel_divisor)))

    for path, node in components.named_parts("augment", config.augment).items():
        if not _are_built_in(components.targets_in(path, node)):
            continue
        try:
            with components.reporting(f"`{path}`"):
                for augment in flatten([components.build(node)]):
                    if not isinstance(augment, Mixup):
                        jax.eval_shape(functools.partial(change, augment=augment), KEY_SHAPE, inputs)
        except InputError as error:
            function, _, rule = str(error).partition(": `")
            of_option = function == node[TARGET].rpartition(".")[2] and rule.partition("`")[0] in node
            raise InputError(f"`{path}.{rule}" if of_option else f"`{path}`: {error}") from error


def _is_built_in(config: Config) -> bool:
    return _are_built_in(components.targets(config))


def _are_built_in(found: Iterable[tuple[str, str]]) -> bool:
    return all(target.startswith("lenet_jax.") for _, target in found)


def _check_fit(run: PreparedRun) -> None:
    """Check by shapes alone that model, augmentations, objective, optimizer and data fit."""
    data, constants = run.data, tuple(float_options(run.config))
    run = run._replace(as_constants=constants)
    with components.reporting("`optimizer` or `schedule`"):
        run.trace(trace_update)
    with components.reporting("`model`, `augment`, `objective` and `data` together"):
        outputs, *_ = run.trace(trace_step)
    if run.config.objective[TARGET] == _CLASSIFICATION and outputs.shape != (2, data.num_classes):
        raise InputError(
            f"`model` must return {data.num_classes} logits an example, `num_outputs`; got outputs of shape "
            f"(N, {', '.join(map(str, outputs.shape[1:]))})."
        )


def _choose_traced(run: PreparedRun) -> PreparedRun:
    """Return a run with those options as constants, or as plain arrays, that its components cannot take otherwise."""
    if _is_traceable(run):
        return run
    constants, arrays = list(run.options), []
    for path in run.options:
        alone = run._replace(as_constants=tuple(each for each in run.options if each != path))
        if _is_traceable(alone):
            constants.remove(path)
        elif not path.startswith("model.") and _is_traceable(alone._replace(as_arrays=(path,))):  # no weight of a model
            constants.remove(path)
            arrays.append(path)
    chosen = run._replace(as_constants=tuple(constants), as_arrays=tuple(arrays))
    return chosen if _is_traceable(chosen) else run._replace(as_constants=run.options)


def _is_traceable(run: PreparedRun) -> bool:
    try:
        run.trace(trace_step)
    except Exception:  # whatever a component does with a number that is none
        return False
    return True


# ---- runs that share programs ---------------------------------------------------------------------------------------


class _Program:
    """What the runs that share programs have in common."""

    def __init__(self, config: Config) -> None:
        self._config, self._options, self._fold = config, float_options(config), _fold(config)
        self._run: PreparedRun | None = None
        self._guards: dict[Callable[..., Any], list[Guard]] = {}

    def admits(self, options: Mapping[str, float], fold: Fold | None) -> bool:
        """Tell whether a run with other float options or another fold, and else the same, may share the programs."""
        if fold is not None and self._fold is not None and self._rest(fold) != self._rest(self._fold):
            return False
        changed = {path for path, value in options.items() if value != self._options[path]}
        if not changed:
            return True
        if changed & set(self._constants):
            return False
        function = trace_step if any(path.startswith(_OF_LOSS) for path in changed) else trace_update
        if function not in self._guards:
            guards = Guards(self._options)
            self._prepared().trace(function, guards)
            self._guards[function] = guards.asked
        return all(guard.holds(options) for guard in self._guards[function])

    def _rest(self, fold: Fold) -> bool:
        """Tell whether a fold has one of the examples that are left over where all have as many."""
        return fold.number < self._num_examples % fold.folds

    @functools.cached_property
    def _num_examples(self) -> int:
        data = self._prepared().data
        return count_examples(data.train) + count_examples(data.validation)

    @functools.cached_property
    def _constants(self) -> tuple[str, ...]:
        return self._prepared().as_constants

    def _prepared(self) -> PreparedRun:
        if self._run is None:
            self._run = prepare_run(self._config)
        return self._run

    def hand_over(self) -> PreparedRun:
        """Return the prepared run, and keep it no longer: its data may be large."""
        run, self._run = self._prepared(), None
        return run


_OF_LOSS = ("model.", "augment", "objective.")  # groups whose options matter before the optimizer
_programs: dict[str, list[_Program]] = {}


def _find_program(config: Config) -> tuple[str, _Program]:
    options = float_options(config)
    content = without_seed(to_dict(with_numbers(config, dict.fromkeys(options, 0.0))))
    fold = _fold(config)
    if fold is not None:
        content["data"] = {**content["data"], "fold": None}
    key = to_json(content)
    found = _programs.setdefault(key, [])
    number = next((number for number, program in enumerate(found) if program.admits(options, fold)), len(found))
    if number == len(found):
        found.append(_Program(config))
    return f"{key} {number}", found[number]


def program_signature(config: Config) -> str:
    """Return what a configuration has in common with all that share its compiled programs, in this process.

    Raises:
        InputError: as `prepare_run`, where it must be known what the components do with their float options.
    """
    return _find_program(config)[0]


def prepare_runs(configs: Iterable[Config]) -> dict[str, PreparedRun]:
    """Prepare the runs of each program once, by its signature.

    Raises:
        InputError: as `prepare_run`.
    """
    configs = list(configs)
    if any(config.trainer.deterministic for config in configs):
        make_deterministic()
    return {signature: program.hand_over() for signature, program in dict(map(_find_program, configs)).items()}


_shared: dict[str, PreparedRun] = {}


def prepare_shared(config: Config) -> PreparedRun:
    """Return the prepared run of a configuration's program, which this process keeps until another one is asked for."""
    signature, program = _find_program(config)
    if signature not in _shared:
        _shared.clear()
        _shared[signature] = program.hand_over()
    return _shared[signature]


def _check_optimizer(config: Config, plan: TrainPlan) -> None:
    """Check that an optimizer which needs the same loss in each step gets it."""
    if config.optimizer[TARGET] not in _WHOLE_BATCH:
        return
    name = components.short_name(config.optimizer)
    if plan.epoch > 1:
        raise InputError(
            f"`trainer.batch_size` must be null, the whole training set, for {name}; got {plan.batch_size}."
        )
    if config.schedule[TARGET] != CONSTANT:
        raise InputError(
            f"`schedule` must be constant for {name}, which has no learning rate; "
            f"got {components.short_name(config.schedule)}."
        )


# ---- data, which runs usually share ---------------------------------------------------------------------------------


def _as_key(node: Any) -> str:
    return to_json(node)


@functools.lru_cache(maxsize=1)
def _load(node: str) -> Dataset:
    data = components.build(json.loads(node))
    if not isinstance(data, Dataset):
        raise InputError(f"`data` must return a Dataset; {json.loads(node)[TARGET]} returns a {type(data).__name__}.")
    check_splits(data)
    return dataclasses.replace(data)  # notes labels that are out of range, also if its pytree was mapped over


def load_data(node: Mapping[str, Any]) -> tuple[Dataset, FoldedData | None]:
    """Return the data of a configuration, of their fold if they name one, and then those of all folds of its size.

    Raises:
        InputError: as `lenet_jax.data.folds.build_data`.
    """
    whole, fold = components.split_fold(node)
    data = _load(_as_key(whole))
    if fold is None:
        return data, None
    check_in_memory(data, "`data.folds`: cross-validation")
    folded = divide(data, fold)
    return folded.at(fold.number), folded


def _fold(config: Config) -> Fold | None:
    return components.split_fold(config.data)[1]


@functools.lru_cache(maxsize=4)
def _describe_whole(node: str) -> dict[str, Any]:
    return describe_data(json.loads(node), _load(node))


def _describe_data(node: Mapping[str, Any], data: Dataset) -> dict[str, Any]:
    """Return what is recorded of data: the digest is that of all examples, so that all folds have the same."""
    whole, fold = components.split_fold(node)
    described = _describe_whole(_as_key(whole))
    if fold is None:
        return described
    sizes = {part: count_examples(split) for part, split in data.splits().items()}
    return {**described, **sizes, "folds": fold.folds}


def forget_components() -> None:
    """Forget all that is kept by the names of components, which may be other functions from now on."""
    _programs.clear()
    _shared.clear()
    for kept in (_load, _describe_whole, components.signature):
        kept.cache_clear()
