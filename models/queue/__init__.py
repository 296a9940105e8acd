"""Which worker delivers which event, and when: claims, worker leases, webhook limits."""
