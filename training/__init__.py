"""Token shards to checkpoints: models, loop, checkpoints, fine-tunes, export."""
