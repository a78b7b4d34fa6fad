"""The published numbers held against each other: `checks` recomputes them, `claims` reads the sentences of the text."""
