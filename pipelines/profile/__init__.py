"""Profile: what a source holds, counted from stored artifacts alone, as tables and as a page of plots."""
