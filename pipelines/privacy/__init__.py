"""Privacy: what names or reaches a person in a text, found by kernels and masked by typed placeholders."""
