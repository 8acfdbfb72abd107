"""What an artifact is, where it is kept, and how to prove which documents made which weights.

Needs only numpy, pyarrow, blake3 and pydantic, so that an auditor's laptop and the trainer can use it.
"""
