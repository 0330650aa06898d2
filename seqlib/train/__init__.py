"""Training runs: one frozen configuration, a loop that can be stopped and resumed to the bit, a saved model."""
