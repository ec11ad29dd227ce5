"""The same study in under a minute: a seeded ground truth over bytes, three seeds, two temperatures below 1."""

from __future__ import annotations

from distilscope.lm.training.config import Training
from distilscope.studies.config import SEEDED, Distillation, GroundTruth, Learner, Size, Teacher


def tiny() -> Distillation:
    return Distillation(
        recipe="tiny",
        ground_truth=GroundTruth(
            reference=SEEDED,
            size=Size(hidden_size=128, intermediate_size=256, layers=2, heads=4, kv_heads=2, tied=False),
            vocabulary=0,
            sharpness=4.0,
            horizon=16,
            dtype="float32",
            num_train=2048,
            num_validation=256,
            num_eval=256,
        ),
        teacher=Teacher(Size(64, 128, 2, 2, 2), Training(epochs=4, batch_sequences=32, learning_rate=6e-3)),
        student=Learner(Size(32, 64, 1, 2, 2), Training(epochs=3, batch_sequences=32, learning_rate=6e-3)),
        temperatures=(0.7, 0.85, 1.0),
        seeds=3,
        num_teacher_eval=256,
    )
