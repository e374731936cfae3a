"""Overrides of a grammar, taken for those in the directory of a sweep, which nobody has allowed: nothing is executed.

python -m tests.faults.fuzz_overrides COUNT [SEED]

Hydra's reading of its files is left out, which takes a tenth of a second each time. What is admitted is given to the
two things that are done with it, and a hook of the interpreter notes any program, import or file of theirs.
"""

import collections
import copy
import itertools
import os
import sys
import tempfile

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lenet_jax.errors import InputError
from lenet_jax.hydra_app import composition
from lenet_jax.hydra_app.checks import check_recorded_argument, check_text
from lenet_jax.hydra_app.error_messages import to_message
from tests.faults.hostile import SENTINEL, overrides

WATCHED = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.putenv",
    "subprocess.Popen",
    "import",
    "open",
)


class Watch:
    """Notes what the interpreter is asked to do while it is on."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple) -> None:
        if self.on and event in WATCHED:
            self.seen.append(f"{event}{arguments!r}"[:200])


def base():
    """Return what is composed without overrides, to be changed."""
    composition.register_schemas()
    with composition.open_hydra() as hydra:
        composed = composition.compose(hydra, [])
    OmegaConf.set_readonly(composed.hydra, False)
    return composed


def try_override(text: str, composed, parser: OverridesParser) -> str:
    """Return what became of an override: malformed, refused, left out, or admitted; anything but these is raised."""
    try:
        parsed = parser.parse_overrides([text])
        if parsed[0].is_hydra_override():
            return "left out"
        check_text("override", text)
        check_recorded_argument(parsed[0].key_or_group, parsed[0].package, text)
        composed = copy.deepcopy(composed)
        ConfigLoaderImpl._apply_overrides_to_config(parsed, composed)
        composition.to_config(composed, allowed=())
    except (HydraException, OmegaConfBaseException, InputError) as error:
        if len((to_message(error) or "").splitlines()) != 1:
            raise
        return "refused" if isinstance(error, InputError) else "malformed"
    except composition.MALFORMED:
        return "malformed"
    return "admitted"


def main(count: int, seed: int) -> int:
    """Fuzz, print how many came to what, and return the exit code."""
    composed, parser, watch = base(), OverridesParser.create(), Watch()
    for text in itertools.islice(overrides(seed + 1), 300):  # has everything imported that is needed
        try_override(text, composed, parser)
    found = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for text in itertools.islice(overrides(seed), count):
            watch.on = True
            try:
                found[try_override(text, composed, parser)] += 1
            finally:
                watch.on = False
            if watch.seen:
                print(f"{text!a}: {watch.seen}")
                return 1
        left = os.listdir(folder)
        os.chdir("/")
    print(f"{count} overrides of seed {seed}: {', '.join(f'{n} {name}' for name, n in sorted(found.items()))}; {left=}")
    return 1 if left or SENTINEL in left else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))
