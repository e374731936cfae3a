"""LeNet on PyTorch, one run a process: python -m experiments.benchmarks.systems.pytorch_job DIRECTORY OPTIONS.

OPTIONS are JSON: data (a file), seed, learning_rate, epochs, batch, maps, hidden.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from experiments.benchmarks import problem
from experiments.benchmarks.systems.pytorch import DEVICE, Network, scale


def main(directory: Path, options: dict) -> None:
    """Train, and write `result.json` into the directory."""
    begin = time.perf_counter()
    network = problem.lenet(tuple(options["maps"]), options["hidden"])
    arrays = np.load(options["data"])
    splits = {
        name: (
            scale(torch.from_numpy(arrays[f"{name}_images"]).permute(0, 3, 1, 2).to(DEVICE)),
            torch.from_numpy(arrays[f"{name}_labels"]).long().to(DEVICE),
        )
        for name in ("train", "validation", "test")
    }
    model = Network(network, channels_last=True, weights=problem.initialize(network, options["seed"]))
    optimizer = torch.optim.SGD(model.parameters(), lr=options["learning_rate"], fused=True)

    @torch.inference_mode()
    def accuracy(images: torch.Tensor, labels: torch.Tensor) -> float:
        return float((model(images).argmax(-1) == labels).float().mean())

    images, labels = splits["train"]
    rng = np.random.default_rng(options["seed"])
    for _ in range(options["epochs"]):
        losses = []
        for batch in torch.from_numpy(rng.permutation(len(labels))).to(DEVICE).split(options["batch"]):
            loss = functional.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        loss, validation = float(torch.stack(losses).mean()), accuracy(*splits["validation"])
        print(f"loss {loss:.4f}, validation {validation:.2%}")
    result = {"validation_accuracy": validation, "test_accuracy": accuracy(*splits["test"])}
    (directory / "result.json").write_text(json.dumps({**result, "seconds": time.perf_counter() - begin}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
