"""The systems that are compared, one module a framework.

Each module imports its framework at its top and is imported only in the process of its system. It has those of these
functions that a case asks for; their keyword arguments are the options of `cases.SYSTEMS`:

    device_name() -> str
        "cpu", or the name of the GPU.
    train(task: Training) -> tuple[float, list[float]]
        The mean loss of the first epoch, and the seconds of each timed one.
    infer(task: Inference) -> tuple[float, list[float]]
        The sum of the absolute logits, and the seconds of each timed call.
    layer(task: Layer) -> tuple[float, list[float]]
        The sum of the absolute gradients, and the seconds a step of each timed call.
"""
