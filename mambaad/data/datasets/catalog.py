"""The data sets: what is published about each, where its authors distribute it, and how it is read.

Counts are (training, good test, defective test) images. Those of the categories add up to the total, where they are
known; what is not known for certain is left out. Reading this list imports neither a loader nor an array library.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mambaad.data.datasets.spec import Counts, DatasetSpec
from mambaad.data.sample import DatasetError, Sample

MVTEC_AD = DatasetSpec(
    name="mvtec_ad",
    title="MVTec AD (Bergmann et al., 2019)",
    loader="mvtec_ad:load_mvtec_ad",
    paper_name="mvtec",
    paper_title="MVTec-AD",
    weights="mvtec/mambaad_mvtec.pth",
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

VISA = DatasetSpec(
    name="visa",
    title="VisA (Zou et al., 2022)",
    loader="visa:load_visa",
    upright=False,
    paper_name="visa",
    paper_title="VisA",
    weights="visa/mambaad_visa.pth",
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

REAL_IAD = DatasetSpec(
    name="realiad",
    title="Real-IAD (Wang et al., 2024)",
    loader="real_iad:load_real_iad",
    upright=False,
    paper_name="realiad",
    paper_title="Real-IAD",
    weights="realiad/mambaad_realiad.pth",
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

MVTEC_3D = DatasetSpec(
    name="mvtec3d",
    title="MVTec 3D-AD (Bergmann et al., 2022), colour images",
    loader="mvtec3d:load_mvtec3d",
    upright=False,
    paper_name="mvtec3d",
    paper_title="MVTec-3D",
    weights="mvtec3d/mambaad_mvtec3d.pth",
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

MEDICAL = DatasetSpec(
    name="medical",
    title="Uni-Medical (Zhang et al., 2023, from BMAD, Bao et al., 2024)",
    loader="medical:load_medical",
    upright=False,
    paper_name="medical",
    paper_title="Uni-Medical",
    weights="medical/mambaad_medical.pth",
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


def _coco_ad(split: int, images: Counts) -> DatasetSpec:
    name = f"coco{split}"
    return DatasetSpec(
        name=name,
        title="COCO-AD (Zhang et al., 2024, from COCO 2017, Lin et al., 2014)",
        loader=f"coco_ad:load_{name}",
        upright=False,
        paper_name="coco",
        paper_title="COCO-AD",
        paper_category=str(split),
        weights="cocoad/coco0/mambaad_coco0.pth" if split == 0 else f"cocoad/{name}/",
        categories={name: images},
        total=images,
        licence="annotations: CC BY 4.0; images: the terms of Flickr and of each photographer",
        page="https://cocodataset.org/#download",
        access="download 2017 Train images, 2017 Val images and 2017 Train/Val annotations, no form; unpack side by "
        "side",
        layout=("train2017/000000000009.jpg", "val2017/000000000139.jpg", "annotations/instances_{train,val}2017.json"),
        remarks=("masks are drawn once by the library and need pycocotools: pip install 'mambaad[coco]'",),
    )


COCO_AD = (
    _coco_ad(0, (30438, 1291, 3661)),
    _coco_ad(1, (65133, 2785, 2167)),
    _coco_ad(2, (79083, 3328, 1624)),
    _coco_ad(3, (77580, 3253, 1699)),
)
"""Four splits, each trained and tested by itself."""

SYNTHETIC = DatasetSpec(
    name="synthetic",
    title="the synthetic set: four categories that the library draws itself",
    loader="mvtec_ad:load_mvtec_ad",
    licence="part of this project (Apache License 2.0); nothing to download",
    layout=("<category>/train/good/000.png", "<category>/test/<defect>/000.png", "<category>/ground_truth/..."),
)

REAL_V1 = DatasetSpec(
    name="real_v1",
    title="five real categories of four data sets: what the evidence runs are made on",
    loader="real_v1:load_real_v1",
    categories={
        "bottle": (209, 20, 63),
        "screw": (320, 41, 119),
        "metal_plate": (54, 26, 71),
        "glassfiber": (90, 18, 20),
        "pcb": (300, 100, 150),
    },
    total=(973, 205, 423),
    licence="bottle, screw: MVTec AD, CC BY-NC-SA 4.0; metal_plate: MPDD, CC BY-NC-SA 4.0; pcb: DeepPCB, MIT; "
    "glassfiber: states none",
    access="bottle and screw from MVTec AD; metal_plate from "
    "https://github.com/BupeshKumarR/defect-segmentation-for-mpdd, "
    "glassfiber from https://github.com/idinyte/SimpleNet_SDU, pcb from "
    "https://github.com/Charmve/Surface-Defect-Detection; all resized to 256x256 pixels",
    layout=("mvtec/{bottle,screw}/...", "other/{metal_plate,glassfiber,pcb}/...", "each category as in MVTec AD"),
    remarks=(
        "pcb is a third of DeepPCB: every third template as good image; its masks are filled bounding boxes",
        "many frames of glassfiber are nearly identical: its images are not independent",
    ),
)

FOLDER = DatasetSpec(
    name="folder",
    title="a plain folder of one's own images, one category",
    loader="folder:load_folder",
    licence="yours; masks are optional",
    layout=("train/good/*", "test/{good,<defect>}/*", "ground_truth/<defect>/*"),
)

META_JSON = DatasetSpec(
    name="meta_json",
    title="any data set with the index meta.json of the later benchmark repository",
    loader="meta_json:load_meta_json",
    licence="that of the data set",
    layout=("meta.json", "the images and masks that it names, below the same folder"),
)

DATASETS: dict[str, DatasetSpec] = {
    spec.name: spec
    for spec in (
        *(MVTEC_AD, VISA, REAL_IAD, MEDICAL, *COCO_AD, MVTEC_3D),
        *(SYNTHETIC, REAL_V1, FOLDER, META_JSON),
    )
}
"""All data sets by name, the paper's first and in its order."""

PAPER_DATASETS: dict[str, tuple[DatasetSpec, ...]] = {
    name: tuple(spec for spec in DATASETS.values() if spec.paper_name == name)
    for name in dict.fromkeys(spec.paper_name for spec in DATASETS.values() if spec.paper_name)
}
"""The paper's data sets by their name in `results/paper`; COCO-AD is four."""


def dataset_named(name: str) -> DatasetSpec:
    """The data set of this name.  Raises DatasetError for an unknown one; the message lists those there are."""
    if name not in DATASETS:
        raise DatasetError(f"no data set {name!r}; there are {', '.join(DATASETS)}")
    return DATASETS[name]


def load_dataset(name: str, root: str | Path, categories: Sequence[str] = ()) -> list[Sample]:
    """The samples of a data set on disk.  Raises DatasetError for an unknown `name` and as its loader does.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from mambaad.data.synthetic.generate import write_synthetic
        >>> with TemporaryDirectory() as folder:
        ...     _ = write_synthetic(folder, side=64, train=2, test=2, categories=("gear",))
        ...     samples = load_dataset("synthetic", folder)
        >>> len(samples)
        4
    """
    return dataset_named(name).load(root, categories)
