"""New entries made from old ones: by back-translation, by synonyms, by a chat model's own writing."""
