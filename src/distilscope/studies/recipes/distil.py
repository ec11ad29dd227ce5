"""Your own models: p*, a teacher and a student, each pretrained or from scratch, on your own prompts."""

from __future__ import annotations

from distilscope.lm.training.config import Training
from distilscope.studies.config import SCRATCH, Distillation, GroundTruth, Learner, Size, Teacher

_TUNING_RATE = 1e-4
"""A pretrained model has much to lose: its learning rate is far below that of one from scratch."""


def distil(*, teacher: str = "", student: str = "") -> Distillation:
    """The references decide how much is trained: a pretrained teacher stays as it is, a pretrained student learns D'
    gently, and what starts from scratch (no reference, or scratch:WIDTHxLAYERS) is trained in full. p* has no default.
    """
    trained = (
        Training(epochs=0, learning_rate=_TUNING_RATE)
        if _pretrained(teacher)
        else Training(batch_sequences=32, learning_rate=3e-3)
    )
    taught = (
        Training(epochs=1, learning_rate=_TUNING_RATE)
        if _pretrained(student)
        else Training(batch_sequences=32, learning_rate=3e-3)
    )
    return Distillation(
        recipe="distil",
        ground_truth=GroundTruth(
            reference="",
            size=Size(hidden_size=576, intermediate_size=1536, layers=30, heads=9, kv_heads=3),
            vocabulary=0,
            horizon=64,
            num_train=2048,
            num_validation=256,
            num_eval=256,
        ),
        teacher=Teacher(Size(128, 384, 3, 2, 2), trained, dtype="auto", reference=teacher),
        student=Learner(Size(64, 192, 2, 2, 2), taught, dtype="auto", reference=student),
        seeds=3,
    )


def _pretrained(reference: str) -> bool:
    return bool(reference) and not reference.startswith(SCRATCH)
