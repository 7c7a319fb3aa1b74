"""What the layers cost: previews, their memory and a warm start, measured on the one-machine cluster."""
