"""Where arrays live: one device, or a mesh of them."""
