"""What a study against real data can say: the recall of every student. There is no p* to ask for a probability.

Precision, H(p*) and both divergences need log p*, so they are not available, nor is what rests on them: the trade-off's
verdict, the ideal frontier, the comparison with the control, and a recommendation.
"""

from __future__ import annotations

from distilscope.errors import UsageError
from distilscope.evaluation.estimate import NOT_AVAILABLE, Estimate
from distilscope.evaluation.frontier import FrontierComparison, control_comparison
from distilscope.evaluation.precision_recall import PrecisionRecall
from distilscope.evaluation.results import Frontier, Recommendation, Results, TradeOff

REASON = "p* is data, not a model, so no student's precision can be had; give --reference REF, a model, to have it"


def require_model(results: Results) -> None:
    """Raises UsageError where a finished study was against data, so that nothing can be weighed against recall."""
    if any(student.precision.not_available for student in results.students):
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


NO_TRADE_OFF = TradeOff(verdict="not shown", p_precision=None, p_recall=None, p_kl=None, reason=REASON)

NO_RECOMMENDATION = Recommendation(setting=None, tied=(), reason=REASON)


def no_frontier(seeds: int) -> Frontier:
    nothing = FrontierComparison(None, None, seeds, reason=REASON)
    return Frontier(ideal=(), efficiency_gap=(), control=control_comparison(nothing))
