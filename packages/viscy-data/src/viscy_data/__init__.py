"""Batches of tracked cells for contrastive learning."""
