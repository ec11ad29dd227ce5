"""The setting at which a run is exported: the one asked for, else the recommended one."""

from __future__ import annotations

from distilscope.errors import UsageError
from distilscope.evaluation.candidates import DIRECT, Candidate, SamplingParameters
from distilscope.evaluation.results import Results


def chosen_setting(results: Results, asked: str | None) -> Candidate:
    """The candidate of a run that `asked` names: temperature=0.8, 0.8, top_k=50,min_p=0.05 or direct.

    None asks for the recommended one. Raises UsageError, listing the choices, where there is no such setting and where
    none is recommended.
    """
    choices = "choose one with --setting: " + ", ".join(dict.fromkeys(one.candidate.option for one in results.students))
    if asked is None:
        found = results.recommendation
        if found.setting is None:
            raise UsageError(f"this run recommends no setting ({found.reason}); {choices}")
        return found.setting
    chosen = _read(asked)
    if chosen is None or chosen not in {student.candidate for student in results.students}:
        raise UsageError(f"the run has no setting {asked!r}; {choices}")
    return chosen


def _read(asked: str) -> Candidate | None:
    """None for what names no setting."""
    if asked.strip() == DIRECT.option:
        return DIRECT
    try:
        return Candidate("distilled", SamplingParameters.parse(asked, unnamed="temperature"))
    except (ValueError, UsageError):
        return None
