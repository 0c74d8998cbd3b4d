"""What runs came to: figures, plots and the words for them."""
