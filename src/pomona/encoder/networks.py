"""Known networks: one frozen card for each, with the settings of its training.

All but EfficientNet-Lite0 are networks of `keras.applications`.

Sizes, arithmetic and channel order are those of `preprocess_input` in the network's module of
`keras.applications`; dimensions and parameter counts are measured on the network without its
classification layer. Tests compare every card with Keras on TensorFlow (tests/goldens).
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, replace
from typing import Any

from pomona.encoder.preprocessing import Preprocessing
from pomona.errors import EncoderError

__all__ = ["CARDS", "NetworkCard", "find_card"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """The common properties of the networks of one paper.

    Attributes:
        reference: the paper.
        licence: licence of the ImageNet weights that Keras publishes.
        arithmetic: mean and standard deviation (pixel units) and channel order.
        options: arguments for the function of `keras.applications`, beyond Pomona's own.
        first_layer: the first layer after the built-in preprocessing, which Pomona removes.
        closing: pattern of the weights that close residual branches, for untrained weights only.
            They are drawn smaller, so that a deep network does not amplify rounding errors.
    """

    reference: str
    licence: str
    arithmetic: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    first_layer: str | None = None
    closing: str | None = None


@dataclass(frozen=True, slots=True)
class NetworkCard:
    """One network.

    Attributes:
        name: the value of `model`.
        keras_class: the function of `keras.applications` that builds it; None for
            EfficientNet-Lite0, which Pomona builds itself.
        preprocessing: input size and arithmetic that its ImageNet weights were trained with.
        dimension: length of the feature vector, the output of global average pooling.
        parameters: number of weights without the classification layer.
        family: the properties that it shares with related networks.
        alpha: width of a MobileNet; 1.0 is the width in the paper.
    """

    name: str
    keras_class: str | None
    preprocessing: Preprocessing
    dimension: int
    parameters: int
    family: Family
    alpha: float = 1.0

    @property
    def architecture(self) -> str:
        """The network's name in the fingerprint: the same in all versions of Keras."""
        if self.keras_class is None:
            return "EfficientNet-Lite0"
        width = "" if self.alpha == 1.0 else f"(alpha={self.alpha:g})"
        return f"keras.applications.{self.keras_class}{width}"

    @property
    def options(self) -> dict[str, Any]:
        """Arguments for the function of `keras.applications`, beyond Pomona's own."""
        width = {} if self.alpha == 1.0 else {"alpha": self.alpha}
        return {**self.family.options, **width}

    def to_json(self) -> dict[str, Any]:
        """The card as `pomona models --json` prints it."""
        return {
            "name": self.name,
            "architecture": self.architecture,
            "preprocessing": self.preprocessing.to_json(),
            "dimension": self.dimension,
            "parameters": self.parameters,
            "licence": self.family.licence,
            "reference": self.family.reference,
        }


def _scaled(level: float) -> dict[str, Any]:
    """`mode="tf"` of `preprocess_input`, x / 127.5 - 1, and similar scalings."""
    return {"mean": (level,) * 3, "std": (level,) * 3}


# `mode="caffe"`: BGR, the ImageNet mean subtracted, not scaled.
_CAFFE = {"mean": (103.939, 116.779, 123.68), "std": (1.0, 1.0, 1.0), "channel_order": "BGR"}
# `mode="torch"`: 255 times (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225).
_TORCH = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
_BARE = {"include_preprocessing": False}  # it is in Pomona's graph instead
_CLOSING_PROJECTION = r"block\d[b-z]_project_bn/(gamma|beta)$"

# Licences: from the Keras 2 manual; if it has none (MobileNet V3, EfficientNet, ConvNeXt), the
# licence of the repository from which the weights were ported.
_MOBILENET = Family(
    reference="Howard et al., MobileNets: Efficient Convolutional Neural Networks for Mobile "
    "Vision Applications, arXiv:1704.04861, 2017",
    licence="Apache-2.0",
    arithmetic=_scaled(127.5),
)
_MOBILENET_V2 = Family(
    reference="Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018",
    licence="Apache-2.0",
    arithmetic=_scaled(127.5),
)
_MOBILENET_V3_SMALL = Family(
    reference="Howard et al., Searching for MobileNetV3, ICCV 2019",
    licence="Apache-2.0",
    arithmetic=_scaled(127.5),
    options=_BARE,
    closing=r"expanded_conv_(2|4|5|7|9|10)_project_bn/(gamma|beta)$",
)
_MOBILENET_V3_LARGE = replace(
    _MOBILENET_V3_SMALL,
    closing=r"expanded_conv(_(2|4|5|7|8|9|11|13|14))?_project_bn/(gamma|beta)$",
)
_RESNET = Family(
    reference="He et al., Deep Residual Learning for Image Recognition, CVPR 2016",
    licence="MIT",
    arithmetic=_CAFFE,
    closing=r"_3_bn/(gamma|beta)$",
)
_RESNET_V2 = Family(
    reference="He et al., Identity Mappings in Deep Residual Networks, ECCV 2016",
    licence="BSD-3-Clause",
    arithmetic=_scaled(127.5),
    closing=r"_3_conv/(kernel|bias)$",
)
_INCEPTION_V3 = Family(
    reference="Szegedy et al., Rethinking the Inception Architecture for Computer Vision, "
    "CVPR 2016",
    licence="Apache-2.0",
    arithmetic=_scaled(127.5),
)
_INCEPTION_RESNET = Family(
    reference="Szegedy et al., Inception-v4, Inception-ResNet and the Impact of Residual "
    "Connections on Learning, AAAI 2017",
    licence="Apache-2.0",
    arithmetic=_scaled(127.5),
)
_XCEPTION = Family(
    reference="Chollet, Xception: Deep Learning with Depthwise Separable Convolutions, CVPR 2017",
    licence="MIT",
    arithmetic=_scaled(127.5),
    closing=r"block([234]|13)_sepconv2_bn/(gamma|beta)$|"
    r"block([5-9]|1[0-2])_sepconv3_bn/(gamma|beta)$",
)
_VGG = Family(
    reference="Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image "
    "Recognition, ICLR 2015",
    licence="CC-BY-4.0",
    arithmetic=_CAFFE,
)
_DENSENET = Family(
    reference="Huang et al., Densely Connected Convolutional Networks, CVPR 2017",
    licence="BSD-3-Clause",
    arithmetic=_TORCH,
)
# Its Rescaling and Normalization are removed: the latter freezes its constants when it is built,
# and ignores weights that are set afterwards.
_EFFICIENTNET = Family(
    reference="Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural "
    "Networks, ICML 2019",
    licence="Apache-2.0",
    arithmetic=_TORCH,
    first_layer="stem_conv_pad",
    closing=_CLOSING_PROJECTION,
)
_EFFICIENTNET_V2 = Family(
    reference="Tan and Le, EfficientNetV2: Smaller Models and Faster Training, ICML 2021",
    licence="Apache-2.0",
    arithmetic=_TORCH,
    options=_BARE,
    closing=_CLOSING_PROJECTION,
)
_EFFICIENTNET_V2_LARGER = replace(_EFFICIENTNET_V2, arithmetic=_scaled(128.0))
_CONVNEXT = Family(
    reference="Liu et al., A ConvNet for the 2020s, CVPR 2022",
    licence="MIT",
    arithmetic=_TORCH,
    options=_BARE,
)
_NASNET = Family(
    reference="Zoph et al., Learning Transferable Architectures for Scalable Image Recognition, "
    "CVPR 2018",
    licence="Apache-2.0",
    arithmetic=_scaled(127.5),
    closing=r"separable_conv_2_bn_\w+/(gamma|beta)$",
)

# name, function, size, dimension, parameters, family, width
_NETWORKS: tuple[tuple[str, str, int, int, int, Family, float], ...] = (
    ("mobilenet", "MobileNet", 224, 1024, 3_228_864, _MOBILENET, 1.0),
    ("mobilenet_v2_035", "MobileNetV2", 224, 1280, 410_208, _MOBILENET_V2, 0.35),
    ("mobilenet_v2_050", "MobileNetV2", 224, 1280, 706_224, _MOBILENET_V2, 0.5),
    ("mobilenet_v2_075", "MobileNetV2", 224, 1280, 1_382_064, _MOBILENET_V2, 0.75),
    ("mobilenet_v2", "MobileNetV2", 224, 1280, 2_257_984, _MOBILENET_V2, 1.0),
    ("mobilenet_v2_130", "MobileNetV2", 224, 1664, 3_766_048, _MOBILENET_V2, 1.3),
    ("mobilenet_v2_140", "MobileNetV2", 224, 1792, 4_363_712, _MOBILENET_V2, 1.4),
    ("mobilenet_v3_small", "MobileNetV3Small", 224, 576, 939_120, _MOBILENET_V3_SMALL, 1.0),
    ("mobilenet_v3_large", "MobileNetV3Large", 224, 960, 2_996_352, _MOBILENET_V3_LARGE, 1.0),
    ("resnet50", "ResNet50", 224, 2048, 23_587_712, _RESNET, 1.0),
    ("resnet101", "ResNet101", 224, 2048, 42_658_176, _RESNET, 1.0),
    ("resnet152", "ResNet152", 224, 2048, 58_370_944, _RESNET, 1.0),
    ("resnet50_v2", "ResNet50V2", 224, 2048, 23_564_800, _RESNET_V2, 1.0),
    ("resnet101_v2", "ResNet101V2", 224, 2048, 42_626_560, _RESNET_V2, 1.0),
    ("resnet152_v2", "ResNet152V2", 224, 2048, 58_331_648, _RESNET_V2, 1.0),
    ("inception_v3", "InceptionV3", 299, 2048, 21_802_784, _INCEPTION_V3, 1.0),
    ("inception_resnet_v2", "InceptionResNetV2", 299, 1536, 54_336_736, _INCEPTION_RESNET, 1.0),
    ("xception", "Xception", 299, 2048, 20_861_480, _XCEPTION, 1.0),
    ("vgg16", "VGG16", 224, 512, 14_714_688, _VGG, 1.0),
    ("vgg19", "VGG19", 224, 512, 20_024_384, _VGG, 1.0),
    ("densenet121", "DenseNet121", 224, 1024, 7_037_504, _DENSENET, 1.0),
    ("densenet169", "DenseNet169", 224, 1664, 12_642_880, _DENSENET, 1.0),
    ("densenet201", "DenseNet201", 224, 1920, 18_321_984, _DENSENET, 1.0),
    ("efficientnet_b0", "EfficientNetB0", 224, 1280, 4_049_564, _EFFICIENTNET, 1.0),
    ("efficientnet_b1", "EfficientNetB1", 240, 1280, 6_575_232, _EFFICIENTNET, 1.0),
    ("efficientnet_b2", "EfficientNetB2", 260, 1408, 7_768_562, _EFFICIENTNET, 1.0),
    ("efficientnet_b3", "EfficientNetB3", 300, 1536, 10_783_528, _EFFICIENTNET, 1.0),
    ("efficientnet_b4", "EfficientNetB4", 380, 1792, 17_673_816, _EFFICIENTNET, 1.0),
    ("efficientnet_b5", "EfficientNetB5", 456, 2048, 28_513_520, _EFFICIENTNET, 1.0),
    ("efficientnet_b6", "EfficientNetB6", 528, 2304, 40_960_136, _EFFICIENTNET, 1.0),
    ("efficientnet_b7", "EfficientNetB7", 600, 2560, 64_097_680, _EFFICIENTNET, 1.0),
    ("efficientnet_v2_b0", "EfficientNetV2B0", 224, 1280, 5_919_312, _EFFICIENTNET_V2, 1.0),
    ("efficientnet_v2_b1", "EfficientNetV2B1", 240, 1280, 6_931_124, _EFFICIENTNET_V2, 1.0),
    ("efficientnet_v2_b2", "EfficientNetV2B2", 260, 1408, 8_769_374, _EFFICIENTNET_V2, 1.0),
    ("efficientnet_v2_b3", "EfficientNetV2B3", 300, 1536, 12_930_622, _EFFICIENTNET_V2, 1.0),
    ("efficientnet_v2_s", "EfficientNetV2S", 384, 1280, 20_331_360, _EFFICIENTNET_V2_LARGER, 1.0),
    ("efficientnet_v2_m", "EfficientNetV2M", 480, 1280, 53_150_388, _EFFICIENTNET_V2_LARGER, 1.0),
    ("efficientnet_v2_l", "EfficientNetV2L", 480, 1280, 117_746_848, _EFFICIENTNET_V2_LARGER, 1.0),
    ("convnext_tiny", "ConvNeXtTiny", 224, 768, 27_820_128, _CONVNEXT, 1.0),
    ("convnext_small", "ConvNeXtSmall", 224, 768, 49_454_688, _CONVNEXT, 1.0),
    ("convnext_base", "ConvNeXtBase", 224, 1024, 87_566_464, _CONVNEXT, 1.0),
    ("convnext_large", "ConvNeXtLarge", 224, 1536, 196_230_336, _CONVNEXT, 1.0),
    ("convnext_xlarge", "ConvNeXtXLarge", 224, 2048, 348_147_968, _CONVNEXT, 1.0),
    ("nasnet_mobile", "NASNetMobile", 224, 1056, 4_269_716, _NASNET, 1.0),
    ("nasnet_large", "NASNetLarge", 331, 4032, 84_916_818, _NASNET, 1.0),
)

CARDS: dict[str, NetworkCard] = {
    name: NetworkCard(
        name=name,
        keras_class=keras_class,
        preprocessing=Preprocessing(height=size, width=size, **family.arithmetic),
        dimension=dimension,
        parameters=parameters,
        family=family,
        alpha=alpha,
    )
    for name, keras_class, size, dimension, parameters, family, alpha in _NETWORKS
}

# Its training cropped 224/256 of the shorter side: `CROP_PADDING` in TensorFlow's EfficientNet.
_LITE0 = NetworkCard(
    name="efficientnet_lite0",
    keras_class=None,
    preprocessing=Preprocessing(
        height=224, width=224, crop_before=224 / 256, mean=(127.0,) * 3, std=(128.0,) * 3
    ),
    dimension=1280,
    parameters=3_413_024,
    family=Family(
        reference="Liu, Higher accuracy on vision models with EfficientNet-Lite, TensorFlow Blog, "
        "2020",
        licence="Apache-2.0",
        arithmetic={},
    ),
)
CARDS[_LITE0.name] = _LITE0


def find_card(name: str) -> NetworkCard:
    """Return the card of the network called `name`.

    Raises:
        EncoderError: there is no such network; the message has similar names.
    """
    if card := CARDS.get(name):
        return card
    similar = difflib.get_close_matches(name, CARDS, n=3)
    hint = f"did you mean {' or '.join(similar)}? " if similar else ""
    raise EncoderError(f"unknown model {name!r}: {hint}'pomona models' lists the known ones")
