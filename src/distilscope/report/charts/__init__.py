"""The charts of a report: each function makes one Vega specification, with an alternative text."""
