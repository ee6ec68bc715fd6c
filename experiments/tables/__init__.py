"""From finished cells to a typed record: rows, verdicts, tables, figures, analyses."""
