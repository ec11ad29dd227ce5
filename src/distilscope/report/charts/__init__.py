"""The figures of a report: each function makes one Vega specification, with the words that stand in for it."""
