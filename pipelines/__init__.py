"""Raw text to token shards: sources, cleaning, dedup, decontamination, vocabulary, shards, mixture."""
