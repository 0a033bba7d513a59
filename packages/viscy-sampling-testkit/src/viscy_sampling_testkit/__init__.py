"""What it takes to show that a batch sampler is right."""
