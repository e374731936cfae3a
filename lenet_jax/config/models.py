"""The keys of `model`, one class an architecture."""

from lenet_jax.rules import COUNT, DECAY, FRACTION, POSITIVE, SEED, SWITCH, TWO_COUNTS, one_of, optional
from lenet_jax.sections import key, section


@section("model")
class LeNetConfig:
    """LeNet of the Theano tutorial: two convolutions, each max-pooled and squashed, a hidden layer, a softmax."""

    name: str = key(one_of("lenet"), default="lenet")
    num_kernels: tuple[int, int] = key(TWO_COUNTS, default=(20, 50))  # feature maps of the two convolutions
    kernel_size: int = key(COUNT, default=5)  # pixels; both convolutions
    pool_size: int = key(COUNT, default=2)  # pixels; window and stride of both max-pools
    hidden_units: int = key(COUNT, default=500)  # tanh units of the dense layer


@section("model")
class MnistCnnConfig:
    """The Keras notebook's network: two padded convolutions, each rectified and max-pooled, and a softmax."""

    name: str = key(one_of("mnist_cnn"), default="mnist_cnn")
    num_kernels: tuple[int, int] = key(TWO_COUNTS, default=(32, 16))  # feature maps of the two convolutions
    kernel_size: int = key(COUNT, default=3)  # pixels; both convolutions
    pool_size: int = key(COUNT, default=2)  # pixels; window and stride of both max-pools


@section("model")
class WindowClassifierConfig:
    """The Colorado State network: tanh units over windows of the image, tanh units over all of these, a softmax."""

    name: str = key(one_of("window_classifier"), default="window_classifier")
    num_kernels: int = key(COUNT, default=20)  # units that look at each window
    kernel_size: int = key(COUNT, default=5)  # pixels; windows at every pixel
    padding: str = key(one_of("VALID", "SAME"), default="VALID")  # of the image; SAME: a window around each pixel
    hidden_units: int = key(COUNT, default=50)  # tanh units of the dense layer
    pixel_mean: float = key(FRACTION, default=0.13)  # subtracted from the pixels; that of MNIST, of scaled pixels
    pixel_std: float = key(POSITIVE, default=0.31)  # that they are divided by then


@section("model")
class LeNet5Config:
    """LeNet-5 of 1998, layer by layer."""

    name: str = key(one_of("lenet5"), default="lenet5")
    connections: str = key(one_of("table", "full", "random"), default="table")  # of C3: LeCun's 60 pairs, all 96, or
    # four maps of S2 for each of C3, drawn with `connections_seed`
    connections_seed: int = key(SEED, default=0)
    output: str = key(one_of("rbf", "softmax"), default="rbf")  # distances to fixed codes, or a dense layer
    rbf_scale: float = key(POSITIVE, default=0.03)  # of the squared distances in the logits; at 1 the cross-entropy of
    # codes that differ in 10 pixels is 0 long before the network has learned them


# ---- the large architectures ----------------------------------------------------------------------------------------
# `width` multiplies the numbers of kernels and units; images are resized to `image_size` pixels on the device first.


@section("model")
class AlexNetConfig:
    """AlexNet: five convolutions and three dense layers (Krizhevsky et al. 2012)."""

    name: str = key(one_of("alexnet"), default="alexnet")
    form: str = key(one_of("two_groups", "ungrouped", "one_tower"), default="two_groups")  # one_tower: Krizhevsky 2014
    width: float = key(POSITIVE, default=1.0)
    dropout: float = key(DECAY, default=0.5)  # after the first two dense layers
    image_size: int | None = key(optional(COUNT), default=None)  # pixels; null: as the images are
    rematerialize: bool = key(SWITCH, default=False)  # compute the convolutions twice, to save memory


@section("model")
class ZfNetConfig:
    """ZFNet: AlexNet with smaller windows and steps at the beginning (Zeiler and Fergus 2014)."""

    name: str = key(one_of("zfnet"), default="zfnet")
    width: float = key(POSITIVE, default=1.0)
    dropout: float = key(DECAY, default=0.5)  # after the first two dense layers
    image_size: int | None = key(optional(COUNT), default=None)  # pixels; null: as the images are
    rematerialize: bool = key(SWITCH, default=False)  # compute the convolutions twice, to save memory


@section("model")
class GoogLeNetConfig:
    """GoogLeNet: nine inception modules (Szegedy et al. 2015)."""

    name: str = key(one_of("googlenet"), default="googlenet")
    form: str = key(one_of("paper", "torchvision"), default="paper")  # torchvision: 3x3 for 5x5, batch normalization
    width: float = key(POSITIVE, default=1.0)
    dropout: float = key(DECAY, default=0.4)  # before the softmax layer
    auxiliary_heads: bool = key(SWITCH, default=False)  # two more classifiers while it trains, of weight 0.3
    image_size: int | None = key(optional(COUNT), default=None)  # pixels; null: as the images are
    rematerialize: bool = key(SWITCH, default=False)  # compute each module twice, to save memory


@section("model")
class ResNet18Config:
    """ResNet of 18 layers: pairs of 3x3 convolutions around shortcuts (He et al. 2016)."""

    name: str = key(one_of("resnet18"), default="resnet18")
    width: float = key(POSITIVE, default=1.0)
    zero_initial_scale: bool = key(SWITCH, default=False)  # blocks start as the identity (Goyal et al. 2017)
    image_size: int | None = key(optional(COUNT), default=None)  # pixels; null: as the images are
    rematerialize: bool = key(SWITCH, default=False)  # compute each block twice, to save memory


@section("model")
class ResNet34Config(ResNet18Config):
    """ResNet of 34 layers: pairs of 3x3 convolutions around shortcuts."""

    name: str = key(one_of("resnet34"), default="resnet34")


@section("model")
class ResNet50Config(ResNet18Config):
    """ResNet of 50 layers: triples of 1x1, 3x3 and 1x1 convolutions around shortcuts."""

    name: str = key(one_of("resnet50"), default="resnet50")


@section("model")
class ResNet101Config(ResNet18Config):
    """ResNet of 101 layers: triples of 1x1, 3x3 and 1x1 convolutions around shortcuts."""

    name: str = key(one_of("resnet101"), default="resnet101")


@section("model")
class ResNet152Config(ResNet18Config):
    """ResNet of 152 layers: triples of 1x1, 3x3 and 1x1 convolutions around shortcuts."""

    name: str = key(one_of("resnet152"), default="resnet152")
