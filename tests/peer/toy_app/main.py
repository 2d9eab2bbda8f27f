"""An app of MONAI Label as small as one can be: two labels by brightness, its own network, its own training.

Its numbers are not 1 to N, its window is small, and it names the transforms that are to be undone: each is something
that MONAI Label 0.8.5 gets wrong.
"""

from pathlib import Path

import torch
from monai.inferers import SimpleInferer
from monai.losses import DiceCELoss
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    EnsureChannelFirstd,
    LoadImaged,
    MapLabelValued,
    Orientationd,
    ScaleIntensityRanged,
    Spacingd,
    SqueezeDimd,
)
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.tasks.infer_v2 import InferType
from monailabel.tasks.infer.basic_infer import BasicInferTask
from monailabel.tasks.train.basic_train import BasicTrainTask

LABELS = {"dark": 4, "bright": 7}
WINDOW = 16


class Network(torch.nn.Module):
    """Looks at a voxel's brightness, and at no more than a window at a time."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Conv3d(1, 8, 1), torch.nn.Tanh(), torch.nn.Conv3d(8, 3, 1))

    def forward(self, voxels):
        if not self.training and max(voxels.shape[2:]) > WINDOW:
            raise ValueError("the window is larger than this network takes")
        return self.layers(voxels)


def before(keys):
    """What happens to a volume, and to a label with it."""
    return [
        LoadImaged(keys=keys),
        EnsureChannelFirstd(keys=keys),
        Orientationd(keys=keys, axcodes="RAS"),
        Spacingd(keys=keys, pixdim=(1.0, 1.5, 2.0), mode=["bilinear", "nearest"][: len(keys)]),
        ScaleIntensityRanged(keys="image", a_min=-100, a_max=100, b_min=-1, b_max=1, clip=True),
    ]


class Brightness(BasicInferTask):
    def pre_transforms(self, data=None):
        return before(["image"])

    def inverse_transforms(self, data=None):
        return ["Spacingd", Orientationd]

    def post_transforms(self, data=None):
        return [
            Activationsd(keys="pred", softmax=True),
            AsDiscreted(keys="pred", argmax=True),
            SqueezeDimd(keys="pred", dim=0),
        ]


class Learning(BasicTrainTask):
    def __init__(self, network, **options):
        super().__init__(amp=False, **options)
        self._network = network

    def network(self, context):
        return self._network

    def optimizer(self, context):
        return torch.optim.Adam(self._network.parameters(), lr=0.05)

    def loss_function(self, context):
        return DiceCELoss(to_onehot_y=True, softmax=True)

    def train_pre_transforms(self, context):
        return [
            *before(["image", "label"]),
            MapLabelValued(keys="label", orig_labels=[0, *LABELS.values()], target_labels=[0, 1, 2]),
        ]

    def train_post_transforms(self, context):
        return [
            Activationsd(keys="pred", softmax=True),
            AsDiscreted(keys=("pred", "label"), argmax=(True, False), to_onehot=3),
        ]

    def val_inferer(self, context):
        return SimpleInferer()


class Toy(MONAILabelApp):
    def __init__(self, app_dir, studies, conf):
        self.model = Path(app_dir) / "model"
        super().__init__(app_dir=app_dir, studies=studies, conf=conf, name="Toy", description="by brightness")

    def init_infers(self):
        words = {"type": InferType.SEGMENTATION, "labels": LABELS, "dimension": 3, "description": "Dark and bright"}
        path = [str(self.model / "pretrained.pt"), str(self.model / "brightness.pt")]
        return {"brightness": Brightness(path, Network(), roi_size=[WINDOW] * 3, **words)}

    def init_trainers(self):
        return {
            "brightness": Learning(
                Network(),
                model_dir=str(self.model / "training"),
                load_path=str(self.model / "pretrained.pt"),
                publish_path=str(self.model / "brightness.pt"),
                labels=LABELS,
            )
        }
