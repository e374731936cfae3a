"""Where trackers may write to, or send to, if the directory of a run names it.

Whoever made the directory could have results, configuration and weights sent to a server of theirs, or written over
files of the user. So options of a built-in tracker that name such a place must have their defaults there, unless the
user allows its package.
"""

from collections.abc import Collection

from lenet_jax import components
from lenet_jax.config import Config
from lenet_jax.config.catalogue import TARGET
from lenet_jax.errors import InputError

_DESTINATIONS = {
    "lenet_jax.trackers.mlflow_runs.mlflow": ("tracking_uri",),
    "lenet_jax.trackers.wandb_runs.wandb": ("mode", "entity"),
}


def check_destinations(config: Config, allowed: Collection[str], origin: str) -> None:
    """Check that the built-in trackers of a recorded configuration write where they do by default.

    Args:
        config: as it was recorded.
        allowed: packages that the user allows, as `lenet_jax.runs.trust.allowed_packages` returns them.
        origin: where it was recorded, for the message.

    Raises:
        InputError: if one does not, and its package is not allowed.
    """
    for path, node in components.named_parts("trackers", config.trackers).items():
        package = components.short_name(node)
        for name in _DESTINATIONS.get(node[TARGET], ()):
            default = components.signature(node[TARGET]).parameters[name].default
            if node.get(name, default) != default and not {"*", package} & set(allowed):
                raise InputError(
                    f"`{path}.{name}` of {origin} says where the run is sent to, {node[name]!r}; if that is yours, "
                    f"allow it: --allow {package} on this command, or LENET_JAX_ALLOW={package}."
                )
