"""Networks. The run supplies the arguments named `input_shape` and `num_outputs`; the others are options."""

from flax import linen as nn
from lenet_jax.config.checks import Count, Decay


class TideNet(nn.Module):
    """A convolution over the hours, then two dense layers.

    Args:
        num_outputs: how many numbers to predict; the run supplies `num_classes` of the data.
        width: number of channels of the convolution.
        dropout: probability that a hidden value is set to zero in training.
    """

    num_outputs: int
    width: Count = 8
    dropout: Decay = 0.1

    @nn.compact
    def __call__(self, levels, train: bool = False):
        """Return the predictions (N, num_outputs) for levels (N, hours, 1)."""
        x = nn.relu(nn.Conv(self.width, kernel_size=(5,))(levels))
        x = nn.relu(nn.Dense(16)(x.reshape(len(x), -1)))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_outputs)(x)
