"""PEFT's other methods, each by its own name and with its own fields, as far as they end in plain weights.

Left out are methods that change the prompt and not the weights (`prompt_tuning`, `prefix_tuning` and kin), that cannot be
merged (`lily`, `xlora`, `poly`), or that must be told after every step (`adalora`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from langadapt.peft import lora
from langadapt.records import PeftStrategy

# Folder in peft.tuners, and the class of its options.
METHODS = {
    "adamss": "AdamssConfig", "boft": "BOFTConfig", "c3a": "C3AConfig", "deft": "DeftConfig", "delora": "DeloraConfig",
    "fourierft": "FourierFTConfig", "frod": "FrodConfig", "glora": "GloraConfig", "gralora": "GraloraConfig",
    "hira": "HiraConfig", "hra": "HRAConfig", "ia3": "IA3Config", "ln_tuning": "LNTuningConfig", "loha": "LoHaConfig",
    "lokr": "LoKrConfig", "miss": "MissConfig", "oft": "OFTConfig", "osf": "OSFConfig", "peanut": "PeanutConfig",
    "psoft": "PsoftConfig", "pvera": "PveraConfig", "randlora": "RandLoraConfig", "road": "RoadConfig",
    "shira": "ShiraConfig", "tinylora": "TinyLoraConfig", "unilora": "UniLoraConfig", "vblora": "VBLoRAConfig",
    "vera": "VeraConfig", "waveft": "WaveFTConfig",
}  # fmt: skip
OWN_TARGETS = ("ia3", "ln_tuning")  # methods that know best themselves which layers of a model family they are for


def prepare(name: str, model: Any, options: Mapping[str, Any]) -> Any:
    """Adds the method's trainable weights to the model.

    Raises:
        UserError: the library refuses the options.
    """
    import importlib

    from peft import get_peft_model

    from langadapt.errors import UserError

    kind = getattr(importlib.import_module(f"peft.tuners.{name}"), METHODS[name])
    try:
        return get_peft_model(model, kind(task_type="CAUSAL_LM", **options))
    except (ValueError, TypeError) as error:
        raise UserError(f"peft refuses the options of [stage.peft] for {name} ({error}); change them") from None


def _installed() -> list[str]:
    """Methods that the installed version of peft has; found without importing it."""
    spec = importlib.util.find_spec("peft")
    folders = spec.submodule_search_locations if spec else None
    tuners = Path(next(iter(folders))) / "tuners" if folders else Path()
    return [name for name in METHODS if (tuners / name / "config.py").is_file()]


def _strategy(name: str) -> PeftStrategy:
    return PeftStrategy(
        name=name,
        description=f"{METHODS[name].removesuffix('Config')}, as the library peft has it.",
        source=f"documentation of peft, package_reference/{name}",
        upstream=f"peft.tuners.{name}.config:{METHODS[name]}",
        defaults={} if name in OWN_TARGETS else {"target_modules": "all-linear"},
        owns=lora.OWNS,
        prepare=lambda model, options: prepare(name, model, options),
        trainable=lambda shape, options: None,
        weight_bits=lambda options: 16,
    )


STRATEGIES = tuple(map(_strategy, _installed()))
