"""Infrastructure of one machine: embedded services, weights, demo."""
