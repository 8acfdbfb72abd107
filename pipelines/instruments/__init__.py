"""Instruments: lists, a classifier and a reference model, which a team makes of its own text and cleaning reads with."""
