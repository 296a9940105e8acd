"""Delivery: claims, rendering, sending, recording; and `Ringback`, which embeds all of it in another program."""

from ringback.jobs.embedded import Events, Ringback

__all__ = ["Events", "Ringback"]
