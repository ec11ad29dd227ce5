"""The paper's figures as files, at the widths of a journal's columns."""
