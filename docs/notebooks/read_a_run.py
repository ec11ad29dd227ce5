"""Reads a finished run and answers a recall budget: `marimo edit docs/notebooks/read_a_run.py -- RUN`, or `python ...
-- RUN`."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Read a run")


@app.cell
def _():
    import argparse
    from pathlib import Path

    import marimo as mo
    import numpy as np
    from matplotlib.figure import Figure

    from distilscope.errors import UsageError
    from distilscope.evaluation.by_seed import Grid
    from distilscope.evaluation.candidates import DIRECT
    from distilscope.evaluation.estimate import t_interval
    from distilscope.evaluation.recall_only import require_model
    from distilscope.evaluation.recommendation import recommend
    from distilscope.evaluation.results_file import read_results
    from distilscope.report.advice import advice

    return (
        DIRECT,
        Figure,
        Grid,
        Path,
        UsageError,
        advice,
        argparse,
        mo,
        np,
        read_results,
        recommend,
        require_model,
        t_interval,
    )


@app.cell
def _(Path, UsageError, argparse, mo, read_results, require_model):
    parser = argparse.ArgumentParser(
        description="The frontier of a finished run, and which setting a recall budget buys."
    )
    parser.add_argument("run", nargs="?", default="runs/smollm2_cpu", metavar="RUN", help="a finished run's folder")
    folder = Path(parser.parse_args().run)
    try:
        results = read_results(folder)
        require_model(results)
    except UsageError as mistake:
        if mo.app_meta().mode == "script":
            parser.error(str(mistake))
        mo.stop(True, mo.callout(str(mistake), kind="danger"))
    unit, truth = results.unit, results.ground_truth
    mo.md(
        f"# {folder}\n\np\\*: {truth.description or truth.reference}; at most {truth.horizon} tokens, "
        f"{results.seeds} seeds; "
        f"the trade-off: {results.trade_off.verdict}. The precision and recall of p\\* itself: "
        f"{-truth.entropy.mean:.1f}."
    )
    return results, unit


@app.cell
def _(DIRECT, Grid, results):
    students = Grid.of(results.students)
    controls = Grid.of([*(one for one in results.students if one.training == "direct"), *results.controls])
    direct_recall = students.recall[:, students.candidates.index(DIRECT)].mean()
    return controls, direct_recall, students


@app.cell
def _(DIRECT, Figure, controls, np, results, students, unit):
    def frontier(budget_recall: float) -> Figure:
        """Means over seeds in the plane of precision and recall; grey where less recall is left than the budget
        allows."""
        figure = Figure(figsize=(8, 5.5), layout="constrained")
        axes = figure.subplots()
        parts = {
            "distilled": [at for at, one in enumerate(students.candidates) if one.role == "distilled"],
            "direct student, sampled at each setting": list(range(len(controls.candidates))),
        }
        grids, colours = (students, controls), ("#D55E00", "#0072B2")
        for (label, columns), grid, colour in zip(parts.items(), grids, colours, strict=True):
            precision, recall = (values[:, columns].mean(axis=0) for values in (grid.precision, grid.recall))
            order = np.argsort(precision)
            axes.plot(precision[order], recall[order], "o-", color=colour, label=label)
            axes.plot(
                grid.precision[:, columns].ravel(), grid.recall[:, columns].ravel(), ".", color=colour, alpha=0.35
            )
            for column, x, y in zip(columns, precision, recall, strict=True):
                sampling = grid.candidates[column].sampling
                name = "direct student" if sampling is None else sampling.phrase
                below = (
                    grid.candidates[column] == DIRECT
                )  # the control at the evaluation temperature is the same student
                axes.annotate(name, (x, y), (4, -12 if below else 5), textcoords="offset points", fontsize=8)
        low, high = axes.get_ylim()
        low = min(low, budget_recall - 0.1 * (high - low))
        axes.set(ylim=(low, high), autoscale_on=False)  # the ideal is shown where it is near enough to be seen
        axes.axhspan(low, budget_recall, color="0.9", zorder=0, label="beyond the budget")
        ideal = results.frontier.ideal
        axes.plot(
            [one.precision for one in ideal],
            [one.recall for one in ideal],
            "k--",
            label="ideal: the most recall there can be",
        )
        axes.set_xlabel(f"precision, {unit}")
        axes.set_ylabel(f"recall, {unit}")
        axes.legend(fontsize=8)
        return figure

    return (frontier,)


@app.cell
def _(DIRECT, mo, np, students):
    losses = students.recall[:, [students.candidates.index(DIRECT)]] - students.recall
    most = float(np.ceil(2 * np.nanmax(losses.mean(axis=0)) + 1))
    budget = mo.ui.slider(
        0.0,
        most,
        step=most / 40,
        value=most / 2,
        label="recall that I can spare, nats",
        show_value=True,
        full_width=True,
    )
    budget  # noqa: B018
    return budget, most


@app.cell
def _(UsageError, advice, recommend, results, unit):
    def answer(nats: float) -> str:
        """What `distilscope recommend --max-recall-loss` says."""
        try:
            return advice(recommend(results.students, max_recall_loss=nats), unit=unit)
        except UsageError as mistake:  # one seed has no interval
            return str(mistake)

    return (answer,)


@app.cell
def _(answer, budget, direct_recall, frontier, mo):
    mo.vstack(
        [
            mo.as_html(frontier(direct_recall - budget.value)),
            mo.md(answer(budget.value).replace("\n", "\n\n").replace("*", "\\*")),
        ]
    )


@app.cell
def _(answer, mo, most, np, students, t_interval):
    settings = [
        (f"{one.phrase}: P {t_interval(list(students.precision[:, at]))}, R {t_interval(list(students.recall[:, at]))}")
        for at, one in enumerate(students.candidates)
    ]
    answers = [f"{nats:g} nats: {answer(float(nats)).splitlines()[0]}" for nats in np.linspace(0, most, 5)]
    if mo.app_meta().mode == "script":
        print("\n".join([*settings, "", *answers]))


if __name__ == "__main__":
    app.run()
