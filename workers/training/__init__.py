"""Training scorers and LoRA adapters."""
