"""The types that a user's editor sees: the last line is an error only if they are known."""
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

import jax

import lenet_jax as lj

model: lj.Model = lj.create_model("lenet", hidden_units=10)
data: lj.Dataset = lj.load_dataset()
logits: jax.Array = lj.predict_logits(model, model.init(jax.random.key(0)), data.test.inputs[:2])
print(logits.shape, lj.__version__)
wrong: str = model  # pyright: ignore[reportAssignmentType]
