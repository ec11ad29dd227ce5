"""What a study against real data can say: the recall of every student. There is no p* to ask for a probability.

Precision, H(p*) and both divergences need log p*, so they are not available, nor is what rests on them: the trade-off's
verdict, the ideal frontier, the comparison with the control, and a recommendation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distilscope.errors import UsageError
from distilscope.evaluation.estimate import NOT_AVAILABLE, Estimate
from distilscope.evaluation.frontier import FrontierComparison, comparison_record
from distilscope.evaluation.precision_recall import PrecisionRecall
from distilscope.evaluation.trade_off import TradeOff

REASON = "p* is data, not a model, so no student's precision can be had; give --reference REF, a model, to have it"


def require_model(results: Mapping[str, Any]) -> None:
    """Raises UsageError where a finished study was against data, so that nothing can be weighed against recall."""
    students = [student for student in results.get("students") or [] if isinstance(student, Mapping)]
    precisions = [student.get("precision") for student in students]
    if any(isinstance(precision, Mapping) and precision.get("not_available") for precision in precisions):
        raise UsageError(REASON)


def recall_alone(*, recall: Estimate, candidate_entropy: Estimate) -> PrecisionRecall:
    """recall: mean of log q over the data, nats per sequence."""
    return PrecisionRecall(
        precision=NOT_AVAILABLE,
        recall=recall,
        candidate_entropy=candidate_entropy,
        reference_entropy=NOT_AVAILABLE,
        kl_candidate_reference=NOT_AVAILABLE,
        kl_reference_candidate=NOT_AVAILABLE,
    )


NO_TRADE_OFF = TradeOff("not shown", None, None, None, REASON)


def documents(seeds: int) -> dict[str, Any]:
    """What results.json holds where two numbers of each student would be needed."""
    return {
        "frontier": {
            "ideal": [],
            "efficiency_gap": [],
            "control": comparison_record(FrontierComparison(None, None, seeds, reason=REASON)),
        },
        "matched_entropy": [],
        "recommendation": {"setting": None, "tied": [], "reason": REASON},
    }
