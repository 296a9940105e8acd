"""How it is delivered: claims, rendering, sending, recording."""
