"""What is published about each data set: its counts, its licence and where its authors distribute it.

Counts are (training, good test, defective test) images. Those of the categories add up to the total, where they are
known; what is not known for certain is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Counts = tuple[int, int, int]
"""Images for training, good ones of the test, defective ones of the test."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One data set as its authors publish it."""

    title: str
    loaders: tuple[str, ...]
    """Names in `mambaad.data.DATASETS`."""
    categories: Mapping[str, Counts | None]
    """Published counts of each category; None where they are not known for certain."""
    total: Counts
    """Published counts of the whole, every split of COCO-AD aside."""
    licence: str
    page: str
    """The authors' own page."""
    access: str
    """What has to be done to get it; nothing of it is automated."""
    layout: tuple[str, ...]
    """The folders and files that a loader's root holds after unpacking."""
    remarks: tuple[str, ...] = field(default=())


MVTEC_AD = Source(
    title="MVTec AD (Bergmann et al., 2019)",
    loaders=("mvtec_ad",),
    categories={
        "bottle": (209, 20, 63),
        "cable": (224, 58, 92),
        "capsule": (219, 23, 109),
        "carpet": (280, 28, 89),
        "grid": (264, 21, 57),
        "hazelnut": (391, 40, 70),
        "leather": (245, 32, 92),
        "metal_nut": (220, 22, 93),
        "pill": (267, 26, 141),
        "screw": (320, 41, 119),
        "tile": (230, 33, 84),
        "toothbrush": (60, 12, 30),
        "transistor": (213, 60, 40),
        "wood": (247, 19, 60),
        "zipper": (240, 32, 119),
    },
    total=(3629, 467, 1258),
    licence="CC BY-NC-SA 4.0: not for commercial use",
    page="https://www.mvtec.com/company/research/datasets/mvtec-ad",
    access="download from the page, which asks to accept its terms and may ask for a form; then unpack the archive",
    layout=(
        "<category>/train/good/000.png",
        "<category>/test/{good,<defect>}/000.png",
        "<category>/ground_truth/<defect>/000_mask.png",
    ),
)

VISA = Source(
    title="VisA (Zou et al., 2022)",
    loaders=("visa",),
    categories={
        "candle": (900, 100, 100),
        "capsules": (542, 60, 100),
        "cashew": (450, 50, 100),
        "chewinggum": (453, 50, 100),
        "fryum": (450, 50, 100),
        "macaroni1": (900, 100, 100),
        "macaroni2": (900, 100, 100),
        "pcb1": (904, 100, 100),
        "pcb2": (901, 100, 100),
        "pcb3": (905, 101, 100),
        "pcb4": (904, 101, 100),
        "pipe_fryum": (450, 50, 100),
    },
    total=(8659, 962, 1200),
    licence="CC BY 4.0",
    page="https://github.com/amazon-science/spot-diff",
    access="the page links the archive, no form; unpack it and leave its folders as they are",
    layout=(
        "split_csv/1cls.csv",
        "<category>/Data/Images/{Normal,Anomaly}/0000.JPG",
        "<category>/Data/Masks/Anomaly/000.png",
    ),
)

REAL_IAD = Source(
    title="Real-IAD (Wang et al., 2024)",
    loaders=("realiad",),
    categories=dict.fromkeys(
        (
            *("audiojack", "bottle_cap", "button_battery", "end_cap", "eraser", "fire_hood", "mint", "mounts", "pcb"),
            *("phone_battery", "plastic_nut", "plastic_plug", "porcelain_doll", "regulator", "rolled_strip_base"),
            *("sim_card_set", "switch", "tape", "terminalblock", "toothbrush", "toy", "toy_brick", "transistor1"),
            *("u_block", "usb", "usb_adaptor", "vcpill", "wooden_beads", "woodstick", "zipper"),
        )
    ),
    total=(36465, 63256, 51329),
    licence="CC BY-NC-SA 4.0: not for commercial use; read the terms on the page",
    page="https://realiad4ad.github.io/Real-IAD/",
    access="ask for access with the form that the page names; unpack the index files and one size of images",
    layout=(
        "<category>.json  (or realiad_jsons/<category>.json)",
        "<category>/...  (or realiad_256/<category>/..., realiad_512/..., realiad_1024/...)",
    ),
    remarks=("five views of every part, each a sample of its own",),
)

MVTEC_3D = Source(
    title="MVTec 3D-AD (Bergmann et al., 2022), colour images",
    loaders=("mvtec3d",),
    categories={
        "bagel": (244 + 22, 22, 88),
        "cable_gland": (223 + 23, 21, 87),
        "carrot": (286 + 29, 27, 132),
        "cookie": (210 + 22, 28, 103),
        "dowel": (288 + 34, 26, 104),
        "foam": (236 + 27, 20, 80),
        "peach": (361 + 42, 26, 106),
        "potato": (300 + 33, 22, 92),
        "rope": (298 + 33, 32, 69),
        "tire": (210 + 29, 25, 87),
    },
    total=(2656 + 294, 249, 948),
    licence="CC BY-NC-SA 4.0: not for commercial use",
    page="https://www.mvtec.com/company/research/datasets/mvtec-3d-ad",
    access="download from the page, which asks to accept its terms and may ask for a form; then unpack the archive",
    layout=(
        "<category>/{train,validation}/good/{rgb,gt,xyz}/000.*",
        "<category>/test/{good,<defect>}/{rgb,gt,xyz}/000.*",
    ),
    remarks=("the published training and validation images are both used for training",),
)

MEDICAL = Source(
    title="Uni-Medical (Zhang et al., 2023, from BMAD, Bao et al., 2024)",
    loaders=("medical",),
    categories={"brain": (7500, 640, 3075), "liver": (1542, 833, 660), "retinal": (4297, 1041, 764)},
    total=(13339, 2514, 4499),
    licence="that of its sources (BraTS 2021, BTCV and LiTS, RESC): read their terms before use",
    page="https://github.com/zhangzjn/ADer",
    access="the page's notes on data name the archive; whether a source asks for a form is said on its own page",
    layout=(
        "{brain,liver,retinal}/train/good/*.png",
        "{brain,liver,retinal}/test/{good,<defect>}/*.png",
        "{brain,liver,retinal}/ground_truth/<defect>/*.png",
    ),
)

COCO_AD = Source(
    title="COCO-AD (Zhang et al., 2024, from COCO 2017, Lin et al., 2014)",
    loaders=("coco0", "coco1", "coco2", "coco3"),
    categories={
        "coco0": (30438, 1291, 3661),
        "coco1": (65133, 2785, 2167),
        "coco2": (79083, 3328, 1624),
        "coco3": (77580, 3253, 1699),
    },
    total=(252234, 10657, 9151),
    licence="annotations: CC BY 4.0; images: the terms of Flickr and of each photographer",
    page="https://cocodataset.org/#download",
    access="download 2017 Train images, 2017 Val images and 2017 Train/Val annotations, no form; unpack side by side",
    layout=("train2017/000000000009.jpg", "val2017/000000000139.jpg", "annotations/instances_{train,val}2017.json"),
    remarks=("masks are drawn once by the library and need pycocotools: pip install 'mambaad[coco]'",),
)

SOURCES: dict[str, Source] = {
    "mvtec_ad": MVTEC_AD,
    "visa": VISA,
    "realiad": REAL_IAD,
    "medical": MEDICAL,
    "coco": COCO_AD,
    "mvtec3d": MVTEC_3D,
}
"""The paper's six data sets."""


def source_of(loader: str) -> Source | None:
    """The published data set that a loader reads; None for one's own images and the synthetic set."""
    return next((source for source in SOURCES.values() if loader in source.loaders), None)
