"""Figure 5 of the paper: where the texts of p*, teachers and students lie, and a second opinion on precision and
recall."""
