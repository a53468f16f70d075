"""PEFT strategies of the core: which weights learn, and how. Each module has the same order: defaults, prepare, sizes."""

from langadapt.peft import full, lora, lora_variants, others, partial, qlora, ssu, trainable_tokens

# What options mean that have a default of ours, for the documentation and for editors; PEFT explains the others.
MEANINGS = {
    "r": "Rank of the update.",
    "lora_alpha": "The update is scaled by `lora_alpha / r`.",
    "lora_dropout": "Dropout before the update.",
    "bias": "Which biases learn.",
    "target_modules": 'Layers: all linear ones but the head, or names such as `["q_proj", "v_proj"]`.',
    "use_rslora": "Scale by `lora_alpha / sqrt(r)`.",
    "new_tokens": "Rows of tokens that a `tokenizer` stage added learn too.",
    "loraplus_lr_ratio": "How many times faster matrices B learn.",
    "bnb_4bit_quant_type": "`nf4` or `fp4`.",
    "bnb_4bit_use_double_quant": "Quantise the scales too: 4.13 bits a weight in place of 4.5.",
    "load_in_8bit": "8 bits and a scale for each output in place of 4 (arXiv 2208.07339).",
    "llm_int8_threshold": "Above 0, inputs larger than that are kept in 16 bits; their paper has 6.0.",
    "first": "Blocks at the beginning that learn.",
    "last": "Blocks at the end that learn.",
    "embeddings": "Whether the embeddings and the head learn.",
    "frozen": "Patterns of the names of weights that stand still.",
    "freeze_ratio": "Share of the input columns of each matrix that stand still.",
    "num_calibration_samples": "Documents in the source language that are read.",
    "calibration_max_length": "Tokens of each of them, at most.",
}

STRATEGIES = (
    lora.STRATEGY,
    *lora_variants.STRATEGIES,
    qlora.STRATEGY,
    qlora.DORA,
    full.STRATEGY,
    *partial.STRATEGIES,
    ssu.STRATEGY,
    trainable_tokens.STRATEGY,
    *others.STRATEGIES,
)
