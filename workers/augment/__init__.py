"""Augmentation: new entries by back-translation, by synonyms, or written by a chat model."""
