"""torchvision's models beside a PyTorch without its compiled operators, of which the models need none."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import torch


def import_models() -> ModuleType:
    """Import `torchvision.models`, from any build of torchvision.

    Raises:
        ImportError: if torchvision is not installed.
    """
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        raise ImportError("torchvision is not installed; `pip install --no-deps torchvision` does.")
    source = (Path(found.origin).parent / "_meta_registrations.py").read_text()
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in re.findall(r'register_fake\("torchvision::(\w+)"', source):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}() -> ()")
    _LIBRARIES.append(library)  # its operators live as long as it does
    import torchvision

    return torchvision.models


_LIBRARIES: list[object] = []
