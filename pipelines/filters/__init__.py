"""Filters: published rule families that tell prose from noise, each measured, judged and named apart."""
