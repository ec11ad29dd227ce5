"""The paper's own sizes and hyperparameters (section 4.2 and appendix A of Cha & Cho, arXiv 2505.13111)."""

from __future__ import annotations

from dataclasses import replace

from distilscope.lm.training.config import Training
from distilscope.studies.config import Distillation, GroundTruth, Learner, Size, Teacher

_TRAINING = Training(
    epochs=1,
    batch_sequences=256,
    learning_rate=5e-4,
    betas=(0.9, 0.95),
    weight_decay=0.0,
    clip=1.0,
    warmup_fraction=0.01,
    decay_fraction=0.2,
    microbatch_tokens=32 * 512,
    evaluations=10,
    checkpoint_every=1000,
)


def smollm2_paper() -> Distillation:
    return Distillation(
        recipe="smollm2_paper",
        ground_truth=GroundTruth(
            reference="hf:HuggingFaceTB/SmolLM2-1.7B",
            size=Size(hidden_size=2048, intermediate_size=8192, layers=24, heads=32, kv_heads=32),
            vocabulary=0,
            prompt="The",
            horizon=512,
            num_train=10_000_000,
            num_validation=100_000,
            num_eval=100_000,
        ),
        teacher=Teacher(Size(960, 2560, 32, 15, 5), replace(_TRAINING, epochs=5), dtype="auto"),
        student=Learner(Size(576, 1536, 30, 9, 3), _TRAINING, dtype="auto"),
        num_teacher_eval=10_000,
        tile=16_384,
        slots=512,  # p*'s keys and values take 100 MB a slot, and a GPU has 80 GB
    )
