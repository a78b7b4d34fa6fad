"""Everything that can be set, as plain frozen dataclasses.

A run is a `RunConfig`: the network, the data, the training.  A misspelt field is a `TypeError`, a wrong value a
`ValueError` that names the allowed ones.
"""

from mambaad.config.diad import DiADConfig
from mambaad.config.method import MethodConfig
from mambaad.config.methods import (
    METHOD_CONFIGS,
    METHODS,
    OWN_METHODS,
    PUBLISHED_WEIGHTS,
    DeSTSegConfig,
    MambaADBankConfig,
    MemoryBankConfig,
    RD4ADConfig,
    SimpleNetConfig,
    UniADConfig,
    method_of,
)
from mambaad.config.model import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    SCAN_METHODS,
    Branches,
    Distance,
    LocalConv,
    ModelConfig,
    ScanMethod,
    scan_text,
)
from mambaad.config.presets import LITE0_ENCODER, PRESETS, Preset, default_preset, preset
from mambaad.config.run import (
    SIDES,
    SIDES_IN_WORDS,
    DataConfig,
    Protocol,
    RunConfig,
    TrainConfig,
    config_hash,
    for_encoder,
    model_config,
    published_recipe,
    run_config_from_dict,
    small_form,
    to_dict,
)

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "LITE0_ENCODER",
    "METHODS",
    "METHOD_CONFIGS",
    "OWN_METHODS",
    "PRESETS",
    "PUBLISHED_WEIGHTS",
    "SCAN_METHODS",
    "SIDES",
    "SIDES_IN_WORDS",
    "Branches",
    "DataConfig",
    "DeSTSegConfig",
    "DiADConfig",
    "Distance",
    "LocalConv",
    "MambaADBankConfig",
    "MemoryBankConfig",
    "MethodConfig",
    "ModelConfig",
    "Preset",
    "Protocol",
    "RD4ADConfig",
    "RunConfig",
    "ScanMethod",
    "SimpleNetConfig",
    "TrainConfig",
    "UniADConfig",
    "config_hash",
    "default_preset",
    "for_encoder",
    "method_of",
    "model_config",
    "preset",
    "published_recipe",
    "run_config_from_dict",
    "scan_text",
    "small_form",
    "to_dict",
]
