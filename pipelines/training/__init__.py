"""What the loop of ``train`` is made of: data, checkpoints, journal, validation, card."""
