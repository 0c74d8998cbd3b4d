"""What runs around the code: embedded services, weights, images."""
